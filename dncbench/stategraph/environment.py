"""How objects are built, one action after another: pure functions of integer states."""

import abc
from typing import Any

from jaxtyping import Bool, Float, Int, Shaped

from dncbench.errors import NotApplicableError


class Environment(abc.ABC):
    """Objects that are built step by step from one initial state.

    A state is a row of D whole numbers from 0 to 127. Functions take stacks of states, of any
    array type that knows its namespace (NumPy, JAX), and change nothing in place. A state with
    no action left is complete: it is an object. Where building may end early, stopping is an
    action, and whether it was taken is part of the state.

    Every path to a state is equally long. Two states are one where their rows are equal, so
    that a row says all that matters, and nothing of how the state was reached.

    A state graph finds out the rest. Where the objects are too many for one, the environment
    itself says how long building takes, what leads into a state, and what an object's code is:
    ``num_steps``, ``entered``, ``undo`` and ``code``, which no other use asks for; and where
    uniform actions hardly ever reach some objects, a better ``wander``.
    """

    @property
    @abc.abstractmethod
    def num_actions(self) -> int:
        """A."""

    @abc.abstractmethod
    def initial(self) -> Any:
        """The initial state (D,), a NumPy array."""

    @abc.abstractmethod
    def allowed(self, states: Shaped[Any, "n D"]) -> Bool[Any, "n A"]:
        """Which actions each state allows."""

    @abc.abstractmethod
    def step(self, states: Shaped[Any, "n D"], actions: Int[Any, " n"]) -> Shaped[Any, "n D"]:
        """The state that an allowed action leads to."""

    @abc.abstractmethod
    def features(self, states: Shaped[Any, "n D"]) -> Float[Any, "n F"]:
        """What a policy sees of each state: F numbers, mostly 0 or 1, that tell states apart."""

    # ------------------------------------------------------------ what a graph would find out

    @property
    def num_steps(self) -> int:
        """Actions of a longest way from the initial state to an object."""
        raise self._untold("num_steps")

    def entered(self, states: Shaped[Any, "n D"]) -> Bool[Any, "n A"]:
        """Which actions lead into each state; each of them from one state only."""
        raise self._untold("entered")

    def undo(self, states: Shaped[Any, "n D"], actions: Int[Any, " n"]) -> Shaped[Any, "n D"]:
        """The state from which an action leads into this one."""
        raise self._untold("undo")

    def code(self, states: Shaped[Any, "n D"]) -> Int[Any, " n"]:
        """The code of each complete state in the problem's space; of others it means nothing."""
        raise self._untold("code")

    def wander(self, states: Shaped[Any, "n D"]) -> Float[Any, "n A"]:
        """Probabilities of the actions of somebody who explores; zero where not allowed.

        All allowed ones are equally probable, unless an environment knows how to make all objects
        so, as a graph does.
        """
        xp = states.__array_namespace__()
        can = self.allowed(states).astype(xp.float32)
        return can / xp.maximum(xp.sum(can, axis=1, keepdims=True), 1.0)

    def _untold(self, what: str) -> NotApplicableError:
        return NotApplicableError(
            f"{type(self).__name__} defines no {what!r}, which building without a state graph needs"
        )
