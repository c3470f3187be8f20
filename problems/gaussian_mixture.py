"""Location mixture of three Gaussians: six modes that differ in nothing but their labels."""

import itertools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from dncbench.draws import Arrays, one
from dncbench.posterior import Posterior, full_posterior
from dncbench.problem import Data
from dncbench.problems._published import checked, original_stream
from dncbench.problems._quadrature import exact_draws
from dncbench.registry import register_problem

_MEANS = (-0.4, 0.4, 0.0)
_VARIANCE = 0.2
_CHECKSUM = (-11.87691, 599.36624, 0.759829)


@register_problem("gaussian-mixture", version=1, shape="not log-concave")
class GaussianMixture(Posterior):
    """Means of a three-component mixture, 4 shards: six symmetric modes, shards disagree.

    y ~ Σ_k N(θ_k, 0.2) / 3 (a variance), θ = (-0.4, 0.4, 0), prior N(0, 1): Trojan et al.
    (2024), sections 5.2 and A.4. Subposteriors have the prior to the power 1/4; the
    published code left it whole. The posterior is known by quadrature: grade A.

    Attributes:
        num_shards: S.
        num_observations: n.
        published: the authors' own data, which are to be split ``in-order``.
    """

    num_shards: int = 4
    num_observations: int = 2000
    published: bool = False

    dim = 3
    # The iad's one bandwidth, by the sd over all modes, smooths the modes themselves away.
    headline: ClassVar = ("mah", "iad-rank", "skew")
    parameter_names = ("theta1", "theta2", "theta3")
    cites: ClassVar = ("trojan2024",)
    source: ClassVar = (
        "simulated from a fixed key; Trojan, Fearnhead & Nemeth (2024), arXiv:2406.11664, sec. 5.2"
    )

    def data(self, key: PRNGKeyArray) -> dict[str, Any]:
        """Simulate the observations from ``key``, or regenerate the published ones.

        Raises:
            DataError: the published ones are not regenerated.
        """
        if self.published:
            return _published()
        key_component, key_noise = jax.random.split(key)
        means = jax.random.choice(key_component, jnp.array(_MEANS), (self.num_observations,))
        noise = jnp.sqrt(_VARIANCE) * jax.random.normal(key_noise, (self.num_observations,))
        return {"y": means + noise}

    def log_prior(self, theta: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log density of N(0, I), up to a constant."""
        return -0.5 * jnp.sum(theta**2)

    def log_likelihood(
        self, theta: Float[Array, " dim"], observation: PyTree[Array]
    ) -> Float[Array, ""]:
        """Log of the mixture's density, up to a constant."""
        return jax.scipy.special.logsumexp(-0.5 * (observation["y"] - theta) ** 2 / _VARIANCE)

    @property
    def start(self) -> Float[np.ndarray, " dim"]:
        """Near the mode whose labels are sorted; at zero all three slopes are equal."""
        return np.array([-0.5, 0.0, 0.5])

    @property
    def permutations(self) -> Int[np.ndarray, "G dim"]:
        """All six."""
        return np.array(list(itertools.permutations(range(3))))

    def exact_draws(
        self, data: Arrays, key: PRNGKeyArray, num_draws: int
    ) -> Float[np.ndarray, "num_draws dim"]:
        """By quadrature on a grid of the whole cube, all six modes on it."""
        density = one(full_posterior(self, Data(data)))
        return exact_draws(density, np.full(3, -1.8), np.full(3, 1.8), 48, key, num_draws)


def _published() -> dict[str, np.ndarray]:
    with original_stream():
        _, key = jax.random.split(jax.random.PRNGKey(2023))
        key_component, key_noise = jax.random.split(key)
        means = jax.random.choice(key_component, jnp.array([_MEANS]), (2000,), axis=1)
        noise = jax.random.normal(key_noise, (2000, 1)) * jnp.sqrt(_VARIANCE)
        y = np.asarray(means.reshape(-1, 1) + noise).ravel()
    return checked("gaussian-mixture", {"y": y}, {"y": _CHECKSUM})
