"""The cells of a square, reached step by step."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from dncbench.stategraph.environment import Environment


@dataclass(frozen=True)
class Grid(Environment):
    """States (row, column, stopped); actions down, right, stop. Every cell is an object."""

    size: int

    num_actions = 3

    def initial(self) -> np.ndarray:
        """The corner."""
        return np.zeros(3, dtype=int)

    def allowed(self, states: Shaped[Any, "n 3"]) -> Bool[Any, "n 3"]:
        """Steps that stay inside; stopping always."""
        xp = states.__array_namespace__()
        inside = states < xp.asarray([self.size - 1, self.size - 1, 1])[None]
        return inside & (states[:, 2:] == 0)

    def step(self, states: Shaped[Any, "n 3"], actions: Int[Any, " n"]) -> Shaped[Any, "n 3"]:
        """One coordinate grows by one."""
        xp = states.__array_namespace__()
        return states + xp.eye(3, dtype=states.dtype)[actions]

    def features(self, states: Shaped[Any, "n 3"]) -> Float[Any, "n F"]:
        """Row and column one-hot, and whether stopped."""
        xp = states.__array_namespace__()
        places = xp.arange(self.size)[None]
        parts = [states[:, :1] == places, states[:, 1:2] == places, states[:, 2:] == 1]
        return xp.concatenate(parts, axis=1).astype(xp.float32)

    @property
    def num_steps(self) -> int:
        """To the opposite corner, and stop."""
        return 2 * self.size - 1

    def entered(self, states: Shaped[Any, "n 3"]) -> Bool[Any, "n 3"]:
        """The stop where there was one; else the steps from cells inside."""
        stopped = states[:, 2:] == 1
        xp = states.__array_namespace__()
        return xp.concatenate([(states[:, :2] > 0) & ~stopped, stopped], axis=1)

    def undo(self, states: Shaped[Any, "n 3"], actions: Int[Any, " n"]) -> Shaped[Any, "n 3"]:
        """One coordinate shrinks by one."""
        xp = states.__array_namespace__()
        return states - xp.eye(3, dtype=states.dtype)[actions]
