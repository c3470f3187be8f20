"""Grid world: cells of a square, reached by steps down and to the right."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.draws import Arrays
from dncbench.problems.discrete._enumerated import Enumerated
from dncbench.problems.discrete._grid import Grid
from dncbench.registry import register_problem
from dncbench.stategraph.sites import Sites

_NUM_PEAKS = 3
_FLOOR = 1e-2  # reward far from all peaks
_WIDTH = 2.5 / 18  # standard deviation of a peak, of the side
_SHIFT = 1.5 / 18  # standard deviation of how far a client's peaks lie from the common ones


@register_problem("grid-world", version=1, small="size=6")
class GridWorld(Enumerated):
    """A square grid of 18 x 18 cells; each of 4 clients rewards the surroundings of three peaks.

    log R_n(x) = log(0.01 + Σ_k w_nk exp(-|x - c_nk|² / (2 · 2.5²))), where c_nk lies near a
    peak that is common to all clients. The task of da Silva et al. (2024); the rewards are this
    suite's own.

    Attributes:
        num_shards: S.
        size: cells of a side.
    """

    num_shards: int = 4
    size: int = 18

    cites: ClassVar = ("dasilva2024",)
    source: ClassVar = "rewards from a fixed key, in the style of da Silva et al. (2024)"

    @property
    def environment(self) -> Grid:
        """Steps down and right."""
        return Grid(self.size)

    def data(self, key: PRNGKeyArray) -> dict[str, Float[Array, "S ..."]]:
        """Each client's peaks, and their weights."""
        key_common, key_shift, key_weight = jax.random.split(key, 3)
        common = jax.random.uniform(key_common, (1, _NUM_PEAKS, 2))
        shift = jax.random.normal(key_shift, (self.num_shards, _NUM_PEAKS, 2))
        weight = jax.random.uniform(
            key_weight, (self.num_shards, _NUM_PEAKS), minval=0.2, maxval=1.0
        )
        return {"peak": (self.size - 1) * (common + _SHIFT * shift), "weight": weight}

    def log_terms(self, observations: Arrays) -> Float[np.ndarray, "S K"]:
        """Log rewards of all cells."""
        cells = jnp.asarray(self.graph.objects[:, :2], float)
        gap = cells[None, :, None] - observations["peak"][:, None]
        near = jnp.exp(-0.5 * jnp.sum(gap**2, -1) / (_WIDTH * self.size) ** 2)
        return np.asarray(jnp.log(_FLOOR + jnp.sum(observations["weight"][:, None] * near, -1)))

    @property
    def sites(self) -> Sites:
        """Row and column."""
        return Sites(self.graph.objects[:, :2].astype(int))

    def coordinates(self) -> tuple[tuple[str, ...], Float[np.ndarray, "K p"]]:
        """Row and column."""
        return ("row", "column"), self.graph.objects[:, :2].astype(float)
