"""A wide base to start from: a product of Gaussians that covers the prior and the start.

Its width is read from the prior's own density, which every problem has, so that no problem
has to say how its prior is sampled. It knows nothing of the likelihood.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.posterior import Density
from dncbench.sampling.modes import find_mode

_DISTANCES = 2.0 ** np.arange(-20, 20.25, 0.25)  # from the prior's mode, along each coordinate
_DROP = 0.5 * 5.0**2  # the prior's edge is where its log density is so far below its largest
_SDS_TO_EDGE = 2.5  # of the base; five of a Gaussian prior: the base is twice as wide


class WideBase(NamedTuple):
    """Independent Gaussians, one for each coordinate."""

    centre: Float[Array, " dim"]
    scale: Float[Array, " dim"]

    def draw(self, key: PRNGKeyArray, number: int) -> Float[Array, "number dim"]:
        """Independent draws."""
        unit = jax.random.normal(key, (number, len(self.centre)))
        return self.centre[None, :] + self.scale[None, :] * unit

    def log_density(self, eta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Normalised."""
        return jnp.sum(norm.logpdf(eta, self.centre, self.scale))


def wide_base(density: Density) -> WideBase:
    """The base of a density: twice as wide as its prior, and wide enough for its ``start``.

    From ``start`` and from the prior's mode every coordinate is followed both ways, to a
    million units, to where the prior ends. A prior without an end, an improper one, has its
    edge there. Data that lie many prior sds away have the problem's
    ``start`` near them; a base that held it back would part the way there into two.

    Args:
        density: one, not a stack.
    """
    start = jnp.asarray(density.problem.start)
    mode, _, _ = find_mode(density.log_prior, start)
    usable = jnp.all(jnp.isfinite(mode)) & (density.log_prior(mode) >= density.log_prior(start))
    origins = jnp.stack([start, jnp.where(usable, mode, start)])
    steps = jnp.asarray(np.concatenate([-_DISTANCES[::-1], [0.0], _DISTANCES]))

    def edges(place: Array) -> tuple[Array, Array]:
        def along(origin: Array) -> tuple[Array, Array]:
            value = jax.vmap(lambda step: density.log_prior(origin.at[place].add(step)))(steps)
            value = jnp.where(jnp.isnan(value), -jnp.inf, value)
            inside = (value >= jnp.max(value) - _DROP) & (value > -jnp.inf)
            points = origin[place] + steps
            return (
                jnp.min(jnp.where(inside, points, start[place])),
                jnp.max(jnp.where(inside, points, start[place])),
            )

        low, high = jax.vmap(along)(origins)
        return jnp.min(low), jnp.max(high)

    low, high = jax.lax.map(edges, jnp.arange(len(start)))
    found = high > low
    return WideBase(
        jnp.where(found, 0.5 * (low + high), start),
        jnp.where(found, 0.5 * (high - low) / _SDS_TO_EDGE, 1.0),
    )
