"""The importance correction: exact where the merge covers the posterior, loud where it does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dncbench.merging.psis import psis
from jaxtyping import Array

from dncbench.errors import DrawsError
from dncbench.merging.run import MergeResult
from dncbench.posterior import subposteriors
from dncbench.problem import Problem, load_data
from dncbench.running.status import status

NUM_DRAWS = 4000
KEY = jax.random.key(3)


class Rates(Problem):
    """Known mean (sum of y + 0) and precision 1 + n: the posterior is Gaussian."""

    num_shards: int = 3
    dim = 2

    def data(self, key: Array) -> dict[str, Array]:
        return {"y": 1.0 + jax.random.normal(key, (30, 2))}

    def log_prior(self, theta: Array) -> Array:
        return -0.5 * jnp.sum(theta**2)

    def log_likelihood(self, theta: Array, observation: dict[str, Array]) -> Array:
        return -0.5 * jnp.sum((observation["y"] - theta) ** 2)


PROBLEM = Rates()
DATA = load_data(PROBLEM, jax.random.key(0))
DENSITIES = subposteriors(PROBLEM, DATA, np.arange(30) % 3)
SD = 1 / np.sqrt(31)
MEAN = np.asarray(DATA["y"]).sum(0) / 31


def merged(shift: float, scale: float, *, density: bool = True) -> MergeResult:
    """Draws of N(mean + shift sds, (scale sd)²), as a merge would return them."""
    noise = np.random.default_rng(1).standard_normal((NUM_DRAWS, 2))
    return MergeResult(
        draws=MEAN + SD * (shift + scale * noise),
        info={"ess": float(NUM_DRAWS), "warnings": []},
        seconds={"compile": 0.0, "fit_total": 0.0, "fit_slowest_shard": 0.0, "merge": 0.0},
        bytes_communicated=100,
        log_density=-0.5 * np.sum(noise**2, 1) if density else None,
    )


@pytest.mark.parametrize("density", [True, False])
def test_moves_the_draws_to_the_posterior(density: bool) -> None:
    result, figures = psis(merged(0.5, 1.3, density=density), DENSITIES, KEY)
    assert figures["k_hat"] < 0.7
    assert result.draws.shape == (NUM_DRAWS, 2)
    # Four standard errors of a mean and of a standard deviation, by the ESS that is reported.
    error = SD / np.sqrt(result.info["ess"])
    assert np.abs(result.draws.mean(0) - MEAN).max() < 4 * error
    assert np.abs(result.draws.std(0) - SD).max() < 4 * error / np.sqrt(2)
    assert result.info["proposal"] == ("the merge's own density" if density else "Student t")


def test_weights_of_a_perfect_merge_are_equal() -> None:
    result, figures = psis(merged(0.0, 1.0), DENSITIES, KEY)
    assert figures["ess_share"] == pytest.approx(1.0, abs=1e-6)
    assert result.info["ess"] == pytest.approx(NUM_DRAWS, rel=1e-6)
    assert np.abs(np.sort(result.draws, 0) - np.sort(merged(0.0, 1.0).draws, 0)).max() < 0.1 * SD


def test_a_merge_too_far_away_is_unreliable() -> None:
    result, figures = psis(merged(6.0, 0.5), DENSITIES, KEY)
    assert figures["k_hat"] > 0.7
    found = status(result.info, corrected=True)
    assert found["status"] == "unreliable"
    assert "k-hat of the correction" in found["reason"]


def test_the_further_round_is_paid_for() -> None:
    result, _ = psis(merged(0.0, 1.2), DENSITIES, KEY)
    assert result.bytes_communicated == 100 + 8 * 3 * NUM_DRAWS * (2 + 1)
    assert result.seconds["fit_total"] > 0
    assert result.seconds["fit_slowest_shard"] > 0


def test_a_density_that_is_not_finite_is_refused() -> None:
    away = merged(0.0, 1.0)
    away.draws[7] = np.inf
    with pytest.raises(DrawsError, match="misses the posterior's support"):
        psis(away, DENSITIES, KEY)


def test_the_same_key_gives_the_same_draws() -> None:
    first, second = (psis(merged(0.3, 1.2, density=False), DENSITIES, KEY)[0] for _ in range(2))
    np.testing.assert_array_equal(first.draws, second.draws)
