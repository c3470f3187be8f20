"""An environment as tables: states as numbers, actions as look-ups."""

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

from dncbench.errors import ContractError
from dncbench.stategraph.environment import Environment

MOST_STATES = 2_000_000


class StateGraph(eqx.Module):
    """All n states of an environment, in order of how many actions lead to them.

    An edge is a pair of a state and an allowed action. What belongs to edges is kept in arrays
    (n, A); entries of actions that are not allowed mean nothing and are never read. A complete
    state allows none; ``child`` leads back to it.

    Arrays are NumPy's, so that a graph may be made inside a traced function and kept.

    Attributes:
        states: (n, D) rows of the environment; the initial state comes first.
        child: (n, A) the state that each action leads to; the state itself where not allowed.
        allowed: (n, A) whether it is.
        into: (n, P) numbers A s + a of the edges that lead to each state; unused places hold 0.
        into_used: (n, P) which places are used.
        log_backward: (n, A) uniform backward policy: minus the logarithm of how many
            edges lead to the child.
        features: (n, F) float32.
        complete: (K,) states that are objects; an object's code is its place in this list.
        starts: for every layer the first of its states; then n. All states of layer k are
            k actions from the initial one.
    """

    states: Int[np.ndarray, "n D"]
    child: Int[np.ndarray, "n A"]
    allowed: Bool[np.ndarray, "n A"]
    into: Int[np.ndarray, "n P"]
    into_used: Bool[np.ndarray, "n P"]
    log_backward: Float[np.ndarray, "n A"]
    features: Float[np.ndarray, "n F"]
    complete: Int[np.ndarray, " K"]
    starts: tuple[int, ...] = eqx.field(static=True)

    @property
    def num_states(self) -> int:
        """n."""
        return self.child.shape[0]

    @property
    def num_actions(self) -> int:
        """A."""
        return self.child.shape[1]

    @property
    def num_objects(self) -> int:
        """K."""
        return self.complete.shape[0]

    @property
    def num_edges(self) -> int:
        """How many pairs of a state and an allowed action there are."""
        return int(np.sum(self.allowed))

    @property
    def num_steps(self) -> int:
        """Actions of a longest way from the initial state to an object."""
        return len(self.starts) - 2

    @property
    def width(self) -> int:
        """States of the largest layer."""
        return int(np.max(np.diff(self.starts)))

    @property
    def objects(self) -> Int[np.ndarray, "K D"]:
        """The objects, as rows of the environment."""
        return self.states[self.complete]

    def codes(self) -> Int[np.ndarray, " n"]:
        """Each state's code; -1 where it is not complete."""
        found = np.full(self.num_states, -1)
        found[self.complete] = np.arange(self.num_objects)
        return found

    def num_trajectories(self) -> int:
        """How many ways lead from the initial state to some object."""
        ways = np.zeros(self.num_states, dtype=object)  # whole numbers of any size
        ways[0] = 1
        for first, end in zip(self.starts[:-1], self.starts[1:], strict=True):
            source, action = np.nonzero(self.allowed[first:end])
            np.add.at(ways, self.child[first:end][source, action], ways[first + source])
        return int(ways[self.complete].sum())


def tabulate(environment: Environment, most: int = MOST_STATES) -> StateGraph:
    """Build the graph of all that can be reached, layer by layer, breadth first.

    Args:
        environment: how objects are built.
        most: refuse more states than this.

    Raises:
        ContractError: too many states, a state that is reached by paths of unequal length, an
            entry that is no number from 0 to 127, or features that do not tell states apart.
    """
    name = type(environment).__name__
    layers, allowed, children = [_rows(environment.initial()[None], name)], [], []
    starts = [0]
    while True:
        layer, end = layers[-1], starts[-1] + len(layers[-1])
        if end > most:
            raise ContractError(f"{name}: more than {most} states; nobody can tabulate them")
        starts.append(end)
        allowed.append(np.asarray(environment.allowed(layer)))
        child = np.repeat(np.arange(starts[-2], end)[:, None], environment.num_actions, axis=1)
        source, action = np.nonzero(allowed[-1])
        children.append(child)
        if not len(source):
            break
        following, place = _distinct(_rows(environment.step(layer[source], action), name))
        child[source, action] = end + place
        layers.append(following)
    states = np.concatenate(layers)
    if len(_distinct(states)[0]) < len(states):
        raise ContractError(f"{name}: paths of unequal length lead to one state")
    features = np.asarray(environment.features(states), np.float32)
    if len(_distinct(features)[0]) < len(states):
        raise ContractError(f"{name}: some states have equal features")
    return _assembled(states, np.concatenate(children), np.concatenate(allowed), features, starts)


def _assembled(
    states: np.ndarray,
    child: np.ndarray,
    allowed: np.ndarray,
    features: np.ndarray,
    starts: list[int],
) -> StateGraph:
    edges = np.flatnonzero(allowed)
    target = child.ravel()[edges]
    order = np.argsort(target, kind="stable")
    num_into = np.bincount(target, minlength=len(states))
    rank = np.arange(len(edges)) - np.repeat(np.cumsum(num_into) - num_into, num_into)
    into = np.zeros((len(states), max(1, num_into.max())), dtype=np.int32)
    into_used = np.zeros(into.shape, dtype=bool)
    into[target[order], rank] = edges[order]
    into_used[target[order], rank] = True
    return StateGraph(
        states,
        child.astype(np.int32),
        allowed,
        into,
        into_used,
        np.where(allowed, -np.log(np.maximum(num_into, 1))[child], 0.0),
        features,
        np.flatnonzero(~allowed.any(1)),
        tuple(starts),
    )


def _rows(states: np.ndarray, name: str) -> np.ndarray:
    """The states as bytes, by which they are compared."""
    found = np.ascontiguousarray(states, dtype=np.int8)
    if not (found == states).all() or (found < 0).any():
        raise ContractError(f"{name}: a state's entries are whole numbers from 0 to 127")
    return found


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows in the order of their bytes, and which of them each row is."""
    rows = np.ascontiguousarray(rows)
    as_bytes = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel()
    _, first, place = np.unique(as_bytes, return_index=True, return_inverse=True)
    return rows[first], place.ravel()
