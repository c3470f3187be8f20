"""The banana, cut into cells: where merges of objects and of points meet."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import log_softmax

from dncbench.draws import Arrays, Check
from dncbench.problem import Data
from dncbench.problems import _banana
from dncbench.problems.discrete._enumerated import Enumerated
from dncbench.problems.discrete._grid import Grid
from dncbench.registry import register_problem
from dncbench.stategraph.sites import Sites

_BOX = ((-1.0, 2.75), (-7.0, 1.25))  # of θ1 and θ2: all but 0.0015 of the posterior
_FINER = 10  # points of a cell's side, for its mass


@register_problem("banana-grid", version=1, small="size=6")
class BananaGrid(Enumerated):
    """The model of ``banana`` at the centres of 18 x 18 cells; 4 shards, of its rows.

    A cell's reward is the density at its centre, so that the shards' laws multiply to the whole
    one's exactly. Draws of points that are uniform within their cells have densities that
    multiply likewise: merges of points aim at the same law. The certificate tells how far
    that is from the posterior's mass in every cell.

    Attributes:
        num_shards: S.
        size: cells of a side.
        num_observations: n.
    """

    num_shards: int = 4
    size: int = 18
    num_observations: int = 400

    unit: ClassVar = "rows"
    cites: ClassVar = ("haario1999", "dasilva2024")
    source: ClassVar = "simulated from a fixed key; after Haario, Saksman & Tamminen (1999)"

    @property
    def environment(self) -> Grid:
        """Steps down and right."""
        return Grid(self.size)

    @property
    def sites(self) -> Sites:
        """Row and column."""
        return Sites(self.graph.objects[:, :2].astype(int))

    def data(self, key: PRNGKeyArray) -> dict[str, Float[Array, "n 2"]]:
        """Simulate the observations from ``key``."""
        return {"y": _banana.simulate(key, self.num_observations)}

    def _at(self, within: Float[np.ndarray, " 2"]) -> Float[Array, "K 2"]:
        """A point of each cell: (1/2, 1/2) is its centre."""
        low, high = np.array(_BOX).T
        return jnp.asarray(low + (high - low) * (self.graph.objects[:, :2] + within) / self.size)

    def _log_likelihoods(
        self, observations: Arrays, points: Float[Array, "K 2"]
    ) -> Float[Array, "n K"]:
        each = lambda y, theta: _banana.log_likelihood(theta, y, 1.0)  # noqa: E731
        return jax.vmap(jax.vmap(each, (None, 0)), (0, None))(observations["y"], points)

    def log_terms(self, observations: Arrays) -> Float[np.ndarray, "n K"]:
        """Log likelihood of every row at every centre."""
        return np.asarray(self._log_likelihoods(observations, self._at(np.array([0.5, 0.5]))))

    def log_prior(self) -> Float[np.ndarray, " K"]:
        """At every centre."""
        return np.asarray(self._log_prior(self._at(np.array([0.5, 0.5]))))

    def _log_prior(self, points: Float[Array, "K 2"]) -> Float[Array, " K"]:
        return jax.vmap(lambda theta: _banana.log_prior(theta, 1.0))(points)

    def told(self, data: Data) -> tuple[Check, ...]:
        """How much the centres miss of what is in the cells."""
        finer = (np.arange(_FINER) + 0.5) / _FINER
        within = jnp.asarray(np.stack(np.meshgrid(finer, finer), axis=-1).reshape(-1, 2))

        def at(offset: Array) -> Array:
            low, high = jnp.array(_BOX).T
            cells = jnp.asarray(self.graph.objects[:, :2], float)
            points = low[None] + (high - low)[None] * (cells + offset[None]) / self.size
            return jnp.sum(self._log_likelihoods(data.train, points), 0) + self._log_prior(points)

        masses = np.asarray(jax.nn.logsumexp(jax.lax.map(at, within), axis=0))
        centres = log_softmax(self.log_rewards(data, self.whole(data))[0])
        gap = 0.5 * float(np.abs(np.exp(log_softmax(masses)) - np.exp(centres)).sum())
        return (Check("tv from the posterior's mass in the cells", gap),)

    def coordinates(self) -> tuple[tuple[str, ...], Float[np.ndarray, "K p"]]:
        """The centres."""
        return ("theta1", "theta2"), np.asarray(self._at(np.array([0.5, 0.5])))
