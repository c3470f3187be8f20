"""What training a policy asks of a task: where to start, what is allowed, where it leads.

Two answers to the same questions. With a state graph (:class:`Tabulated`) a state is a number
and every answer a look-up. Without one (:class:`Functional`), where the objects are too many to
be listed, a state is a row of the environment and every answer is computed.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from dncbench.errors import ContractError
from dncbench.stategraph.environment import Environment
from dncbench.stategraph.graph import StateGraph
from dncbench.stategraph.laws import balanced_policy


class Moves(eqx.Module):
    """States come in stacks of N, their first axis; how one looks is the class's own business."""

    num_steps: eqx.AbstractVar[int]
    num_actions: eqx.AbstractVar[int]
    num_features: eqx.AbstractVar[int]

    @abc.abstractmethod
    def start(self, num: int) -> Shaped[Array, "N ..."]:
        """The initial state, N times."""

    @abc.abstractmethod
    def allowed(self, states: Shaped[Array, "N ..."]) -> Bool[Array, "N A"]:
        """Which actions each state allows."""

    @abc.abstractmethod
    def step(
        self, states: Shaped[Array, "N ..."], actions: Int[Array, " N"]
    ) -> Shaped[Array, "N ..."]:
        """Where the actions lead; a complete state stays as it is."""

    @abc.abstractmethod
    def entered(self, states: Shaped[Array, "N ..."]) -> Bool[Array, "N A"]:
        """Which actions lead into each state: the edges that a backward policy chooses from."""

    @abc.abstractmethod
    def features(self, states: Shaped[Array, "N ..."]) -> Float[Array, "N F"]:
        """What a policy sees of each state, float32."""

    @abc.abstractmethod
    def wander(self, states: Shaped[Array, "N ..."]) -> Float[Array, "N A"]:
        """Probabilities of the actions of somebody who explores; zero where not allowed."""

    @abc.abstractmethod
    def codes(self, states: Shaped[Array, "N ..."]) -> Int[Array, " N"]:
        """Codes of complete states; of others they mean nothing."""


class Tabulated(Moves):
    """On a state graph; a state is its number.

    Attributes:
        child: (n, A) of the graph.
        can: (n, A) which actions are allowed.
        into: (n, A) which actions lead into each state.
        code: (n,) of complete states.
        environment: computes the features, which as a table would be the largest of all.
        rows: (n, D) of the environment.
        flat: (n, A) the policy under which all objects are equally probable. Uniform actions
            would hardly ever get far where stopping is one of them.
    """

    child: Int[np.ndarray, "n A"]
    can: Bool[np.ndarray, "n A"]
    into: Bool[np.ndarray, "n A"]
    code: Int[np.ndarray, " n"]
    rows: Int[np.ndarray, "n D"]
    flat: Float[np.ndarray, "n A"]
    environment: Environment = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_actions: int = eqx.field(static=True)
    num_features: int = eqx.field(static=True)

    def __init__(self, graph: StateGraph, environment: Environment) -> None:
        self.child, self.can, self.rows = graph.child, graph.allowed, graph.states
        self.into = _entered(graph, type(environment).__name__)
        self.code = np.maximum(graph.codes(), 0).astype(np.int32)
        policy = jnp.exp(balanced_policy(graph, np.zeros(graph.num_objects)))
        self.flat = np.asarray(jnp.where(graph.allowed, policy, 0.0), np.float32)
        self.environment = environment
        self.num_steps, self.num_actions = graph.num_steps, graph.num_actions
        self.num_features = graph.features.shape[1]

    @property
    def num_states(self) -> int:
        """n."""
        return len(self.child)

    def start(self, num: int) -> Int[Array, " N"]:
        """Number 0."""
        return jnp.zeros(num, jnp.int32)

    def allowed(self, states: Int[Array, " N"]) -> Bool[Array, "N A"]:
        """Looked up."""
        return jnp.asarray(self.can)[states]

    def step(self, states: Int[Array, " N"], actions: Int[Array, " N"]) -> Int[Array, " N"]:
        """Looked up."""
        return jnp.asarray(self.child)[states, actions]

    def entered(self, states: Int[Array, " N"]) -> Bool[Array, "N A"]:
        """Looked up."""
        return jnp.asarray(self.into)[states]

    def features(self, states: Int[Array, " N"]) -> Float[Array, "N F"]:
        """Of the states' rows."""
        return self.environment.features(jnp.asarray(self.rows)[states])

    def wander(self, states: Int[Array, " N"]) -> Float[Array, "N A"]:
        """Towards any object with equal probability."""
        return jnp.asarray(self.flat)[states]

    def codes(self, states: Int[Array, " N"]) -> Int[Array, " N"]:
        """Looked up."""
        return jnp.asarray(self.code)[states]


def _entered(graph: StateGraph, name: str) -> Bool[np.ndarray, "n A"]:
    action = graph.into % graph.num_actions
    found = np.zeros(graph.child.shape, dtype=int)
    np.add.at(found, (np.nonzero(graph.into_used)[0], action[graph.into_used]), 1)
    if (found > 1).any():
        raise ContractError(f"{name}: two states lead to one by the same action")
    return found > 0
