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
    def undo(
        self, states: Shaped[Array, "N ..."], actions: Int[Array, " N"]
    ) -> Shaped[Array, "N ..."]:
        """Where the actions that led into the states came from; the initial state stays."""

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
        parent: (n, A) the state from which each action leads into a state; -1 for none.
        code: (n,) of complete states.
        environment: computes the features, which as a table would be the largest of all.
        rows: (n, D) of the environment.
        flat: (n, A) the policy under which all objects are equally probable. Uniform actions
            would hardly ever get far where stopping is one of them.
    """

    child: Int[np.ndarray, "n A"]
    can: Bool[np.ndarray, "n A"]
    parent: Int[np.ndarray, "n A"]
    code: Int[np.ndarray, " n"]
    rows: Int[np.ndarray, "n D"]
    flat: Float[np.ndarray, "n A"]
    environment: Environment = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_actions: int = eqx.field(static=True)
    num_features: int = eqx.field(static=True)

    def __init__(self, graph: StateGraph, environment: Environment) -> None:
        self.child, self.can, self.rows = graph.child, graph.allowed, graph.states
        self.parent = _parents(graph, type(environment).__name__)
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
        return jnp.asarray(self.parent)[states] >= 0

    def undo(self, states: Int[Array, " N"], actions: Int[Array, " N"]) -> Int[Array, " N"]:
        """Looked up."""
        found = jnp.asarray(self.parent)[states, actions]
        return jnp.where(found >= 0, found, states)

    def features(self, states: Int[Array, " N"]) -> Float[Array, "N F"]:
        """Of the states' rows."""
        return self.environment.features(jnp.asarray(self.rows)[states])

    def wander(self, states: Int[Array, " N"]) -> Float[Array, "N A"]:
        """Towards any object with equal probability."""
        return jnp.asarray(self.flat)[states]

    def codes(self, states: Int[Array, " N"]) -> Int[Array, " N"]:
        """Looked up."""
        return jnp.asarray(self.code)[states]


def _parents(graph: StateGraph, name: str) -> Int[np.ndarray, "n A"]:
    edge = graph.into[graph.into_used]
    place = np.nonzero(graph.into_used)[0], edge % graph.num_actions
    number = np.zeros(graph.child.shape, dtype=int)
    np.add.at(number, place, 1)
    if (number > 1).any():
        raise ContractError(f"{name}: two states lead to one by the same action")
    found = np.full(graph.child.shape, -1, dtype=np.int32)
    found[place] = edge // graph.num_actions
    return found


class Functional(Moves):
    """On an environment that says what a graph would find out; a state is its row, int8.

    Nothing has a size of the states or objects, however many there are.

    Attributes:
        environment: that answers.
    """

    environment: Environment = eqx.field(static=True)
    num_steps: int = eqx.field(static=True)
    num_actions: int = eqx.field(static=True)
    num_features: int = eqx.field(static=True)

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.num_steps, self.num_actions = environment.num_steps, environment.num_actions
        self.num_features = environment.features(environment.initial()[None]).shape[1]

    def start(self, num: int) -> Int[Array, "N D"]:
        """The initial row."""
        return jnp.tile(jnp.asarray(self.environment.initial(), jnp.int8)[None], (num, 1))

    def allowed(self, states: Int[Array, "N D"]) -> Bool[Array, "N A"]:
        """Computed."""
        return self.environment.allowed(states)

    def step(self, states: Int[Array, "N D"], actions: Int[Array, " N"]) -> Int[Array, "N D"]:
        """Computed."""
        goes_on = jnp.any(self.allowed(states), axis=1, keepdims=True)
        return jnp.where(goes_on, self.environment.step(states, actions), states)

    def entered(self, states: Int[Array, "N D"]) -> Bool[Array, "N A"]:
        """Computed."""
        return self.environment.entered(states)

    def undo(self, states: Int[Array, "N D"], actions: Int[Array, " N"]) -> Int[Array, "N D"]:
        """Computed."""
        goes_on = jnp.any(self.entered(states), axis=1, keepdims=True)
        return jnp.where(goes_on, self.environment.undo(states, actions), states)

    def features(self, states: Int[Array, "N D"]) -> Float[Array, "N F"]:
        """Computed."""
        return self.environment.features(states)

    def wander(self, states: Int[Array, "N D"]) -> Float[Array, "N A"]:
        """Computed."""
        return self.environment.wander(states)

    def codes(self, states: Int[Array, "N D"]) -> Int[Array, " N"]:
        """Computed."""
        return self.environment.code(states)
