"""The sampler against subposteriors known in closed form, in badly scaled coordinates."""

from dataclasses import replace
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from dncbench.draws import Draws
from dncbench.errors import DrawsError
from dncbench.posterior import Posterior, full_posterior, subposteriors
from dncbench.problem import Data, Split, load_data
from dncbench.sampling import diagnostics
from dncbench.sampling import nuts as sampling
from dncbench.sampling.modes import find_mode
from dncbench.sampling.nuts import sample
from dncbench.sampling.settings import SamplerSettings
from dncbench.timing import Timed
from dncbench.truth.verification import check_stored

FALSE_ALARM = 1e-4
DIM, NUM_SHARDS = 3, 3
SIZES = (70, 20, 10)  # unequal, so that two of three shards are padded
SPLIT = Split(np.repeat(np.arange(NUM_SHARDS), SIZES), NUM_SHARDS)
SCALES = np.array([1e-4, 1.0, 1e2])
CORRELATION = np.array([[1.0, 0.8, 0.3], [0.8, 1.0, 0.0], [0.3, 0.0, 1.0]])
NOISE = SCALES[:, None] * CORRELATION * SCALES
PRIOR = 4.0 * np.diag(SCALES**2)
NAMES = ("small", "middle", "large")
# The ESS asked for is out of reach, so that both rounds are run and thinned.
SETTINGS = SamplerSettings(
    num_draws=2400, num_chains=8, window_steps=40, min_ess=1e9, most_rounds=2
)
KEY = jax.random.key(0)


class Conjugate(Posterior):
    """y ~ N(θ, NOISE), θ ~ N(0, PRIOR); every power and product of them is Gaussian."""

    num_shards: int = NUM_SHARDS
    dim: ClassVar[int] = DIM

    def data(self, key):
        noise = jax.random.normal(key, (sum(SIZES), DIM)) @ np.linalg.cholesky(NOISE).T
        return {"y": 0.7 * SCALES[None] + noise}

    def log_prior(self, theta):
        return -0.5 * theta @ np.linalg.inv(PRIOR) @ theta

    def log_likelihood(self, theta, observation):
        gap = observation["y"] - theta
        return -0.5 * gap @ np.linalg.inv(NOISE) @ gap


PROBLEM = Conjugate()
DATA = load_data(PROBLEM, jax.random.key(1))


def closed_form(shard: int, inflated: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of one (inflated) subposterior."""
    prior_weight, likelihood_weight = (1.0, NUM_SHARDS) if inflated else (1 / NUM_SHARDS, 1.0)
    y = np.asarray(DATA.train["y"])[SPLIT.rows(shard)]
    precision = np.linalg.inv(NOISE) * likelihood_weight
    covariance = np.linalg.inv(prior_weight * np.linalg.inv(PRIOR) + len(y) * precision)
    return covariance @ precision @ y.sum(0), covariance


class Recorded(NamedTuple):
    """What one run returned, and what its two compiled programs returned to it."""

    inflated: bool
    draws: Draws
    adapted: Timed
    rounds: list[Timed]
    said: list[str]


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "inflated"])
def recorded(request: pytest.FixtureRequest) -> Recorded:
    adapted, rounds, said = [], [], []

    def keep(program, results: list):
        return lambda *arguments: results.append(program(*arguments)) or results[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "_adapt", keep(sampling._adapt, adapted))
        patch.setattr(sampling, "_advance", keep(sampling._advance, rounds))
        densities = subposteriors(PROBLEM, DATA, SPLIT, inflated=request.param)
        draws = sample(densities, KEY, SETTINGS, NAMES, said.append)
    return Recorded(request.param, draws, adapted[0], rounds, said)


@pytest.fixture
def sampled(recorded: Recorded) -> tuple[bool, Draws]:
    return recorded.inflated, recorded.draws


# ---------------------------------------------------------------- draws


def test_shapes_and_diagnostics(sampled) -> None:
    _, draws = sampled
    assert draws.values.shape == draws.score.shape == (NUM_SHARDS, SETTINGS.num_draws, DIM)
    assert draws.log_density.shape == (NUM_SHARDS, SETTINGS.num_draws)
    assert draws.by_chain(1).shape == (8, 300, DIM)
    assert draws.values.dtype == np.float64
    assert len(draws.info["diagnostics"]) == NUM_SHARDS
    for shard, stated in enumerate(draws.info["diagnostics"]):
        chains = draws.by_chain(shard)
        assert stated["max_rhat"] == diagnostics.rhat(chains).max() < 1.02
        assert stated["min_ess_bulk"] == diagnostics.ess_bulk(chains).min()
        assert stated["min_ess_tail"] == diagnostics.ess_tail(chains).min()
        worst = NAMES[int(np.argmin(diagnostics.ess_bulk(chains)))]
        assert stated["min_ess_bulk_parameter"] == worst
        assert stated["divergences"] == 0
        assert stated["min_bfmi"] > 0.3
    np.testing.assert_array_equal(
        draws.min_ess(), [stated["min_ess_bulk"] for stated in draws.info["diagnostics"]]
    )


@pytest.mark.parametrize("shard", range(NUM_SHARDS))
def test_draws_follow_the_closed_form(sampled, shard: int) -> None:
    # Whitened by the truth: every mean is 0 and every product of coordinates has mean
    # 0 or 1, each with its own Monte Carlo standard error; Bonferroni over the nine.
    inflated, draws = sampled
    mean, covariance = closed_form(shard, inflated)
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), (draws.values[shard] - mean).T)
    rows, columns = np.tril_indices(DIM)
    series = np.concatenate([whitened, whitened[rows] * whitened[columns]]).T
    expected = np.concatenate([np.zeros(DIM), rows == columns])
    error = diagnostics.mcse(series.reshape(8, 300, -1), "mean")
    z = np.abs(series.mean(0) - expected) / error
    assert z.max() < norm.isf(FALSE_ALARM / (2 * len(z)))
    assert error.max() < 0.1  # else agreement says little


@pytest.mark.parametrize("shard", range(NUM_SHARDS))
def test_stored_scores_and_log_densities_are_the_closed_form(sampled, shard: int) -> None:
    inflated, draws = sampled
    mean, covariance = closed_form(shard, inflated)
    gap = draws.values[shard] - mean
    score = -np.linalg.solve(covariance, gap.T).T
    np.testing.assert_allclose(
        draws.score[shard] * SCALES, score * SCALES, atol=1e-9 * np.abs(score * SCALES).max()
    )
    # Up to a constant, which cancels against the first draw.
    log_density = 0.5 * np.sum(gap * score, axis=1)
    np.testing.assert_allclose(
        draws.log_density[shard] - draws.log_density[shard, 0],
        log_density - log_density[0],
        atol=1e-9 * np.abs(draws.log_density[shard]).max(),
    )


def test_shards_and_chains_are_not_copies(sampled) -> None:
    # Two correlations of independent chains of 300 draws have standard error 0.06 or less.
    _, draws = sampled
    chains = np.stack([draws.by_chain(shard)[:, :, 1] for shard in range(NUM_SHARDS)])
    correlation = np.corrcoef(chains.reshape(-1, 300)) - np.eye(8 * NUM_SHARDS)
    every = [draws.by_chain(shard) for shard in range(NUM_SHARDS)]
    ess = min(np.min((c.std((0, 1)) / diagnostics.mcse(c, "mean")) ** 2) / 8 for c in every)
    pairs = 8 * NUM_SHARDS * (8 * NUM_SHARDS - 1) / 2
    assert np.abs(correlation).max() < norm.isf(FALSE_ALARM / (2 * pairs)) / np.sqrt(ess)


def test_the_key_decides(sampled) -> None:
    inflated, draws = sampled
    densities = subposteriors(PROBLEM, DATA, SPLIT, inflated=inflated)
    again = sample(densities, KEY, SETTINGS, NAMES)
    np.testing.assert_array_equal(again.values, draws.values)
    np.testing.assert_array_equal(again.score, draws.score)
    other = sample(densities, jax.random.key(5), SETTINGS, NAMES)
    assert not np.any(other.values == draws.values)


def test_too_small_an_ess_goes_on_and_thins(recorded: Recorded) -> None:
    assert recorded.said == ["adapting", "sampling, round 1", "sampling, round 2"]
    assert recorded.draws.info["rounds"] == 2
    first, second = (np.asarray(done.value[1].value) for done in recorded.rounds)
    both = np.concatenate([first, second], axis=2)
    for shard in range(NUM_SHARDS):
        np.testing.assert_array_equal(recorded.draws.by_chain(shard), both[shard, :, 1::2])
    # The second round goes on where the first one stopped.
    np.testing.assert_array_equal(recorded.rounds[0].value[0], first[:, :, -1])
    assert not np.any(first == second)


def test_an_ess_that_is_reached_ends_the_sampling(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = iter(recorded.rounds)
    monkeypatch.setattr(sampling, "_adapt", lambda *arguments: recorded.adapted)
    monkeypatch.setattr(sampling, "_advance", lambda *arguments: next(rounds))
    densities = subposteriors(PROBLEM, DATA, SPLIT, inflated=recorded.inflated)
    draws = sample(densities, KEY, replace(SETTINGS, min_ess=100.0), NAMES)
    assert draws.info["rounds"] == 1
    assert draws.min_ess().min() >= 100.0
    first = np.asarray(recorded.rounds[0].value[1].value)
    np.testing.assert_array_equal(draws.values, first.reshape(draws.values.shape))


# ---------------------------------------------------------------- checking what is stored


def checked(draws: Draws, inflated: bool, shard: int, **changes) -> float:
    plain = (1 / NUM_SHARDS, 1.0, 1 / NUM_SHARDS)
    weights = changes.pop("weights", (1.0, float(NUM_SHARDS), 1.0) if inflated else plain)
    split = changes.pop("split", SPLIT)
    changed = {name: getattr(draws, name).copy() for name in changes}
    for name, array in changes.items():
        changed[name][shard] = array
    return check_stored(PROBLEM, DATA, split, shard, replace(draws, **changed), KEY, weights)


@pytest.mark.parametrize("shard", range(NUM_SHARDS))
def test_what_the_sampler_stored_is_the_model(sampled, shard: int) -> None:
    inflated, draws = sampled
    assert checked(draws, inflated, shard) < 1e-8


def test_a_wrong_exponent_is_caught(sampled) -> None:
    inflated, draws = sampled
    prior, likelihood = (1.0, 3.0) if inflated else (1 / 3, 1.0)
    assert checked(draws, inflated, 2, weights=(1.5 * prior, likelihood, prior)) > 1e-4
    assert checked(draws, inflated, 2, weights=(prior, 1.5 * likelihood, prior)) > 1e-2


def test_stale_and_permuted_scores_are_caught(sampled) -> None:
    inflated, draws = sampled
    score = draws.score[0]
    assert checked(draws, inflated, 0, score=np.roll(score, 1, axis=0)) > 0.1
    assert checked(draws, inflated, 0, score=score[:, [1, 0, 2]]) > 0.1


def test_stale_log_densities_are_caught(sampled) -> None:
    inflated, draws = sampled
    stale = np.roll(draws.log_density[0], 1)
    assert checked(draws, inflated, 0, log_density=stale) > 1e-4


def test_rows_of_another_shard_are_caught(sampled) -> None:
    inflated, draws = sampled
    swapped = Split(np.array([1, 0, 2])[SPLIT.shard_of], NUM_SHARDS)
    assert checked(draws, inflated, 0, split=swapped) > 1e-2


# ---------------------------------------------------------------- modes and failures


def test_the_mode_and_curvature_of_a_gaussian() -> None:
    (mode,), (factor,), (found,) = eqx.filter_vmap(
        lambda density: find_mode(density, jnp.zeros(DIM)), in_axes=eqx.if_array(0)
    )(full_posterior(PROBLEM, DATA))
    assert found
    y = np.asarray(DATA.train["y"])
    precision = np.linalg.inv(NOISE)
    covariance = np.linalg.inv(np.linalg.inv(PRIOR) + len(y) * precision)
    # Newton stops where the slope is a thousandth in units of each coordinate's curvature.
    gap = covariance @ precision @ y.sum(0) - np.asarray(mode)
    slope = np.linalg.solve(covariance, gap) / np.sqrt(np.diag(np.linalg.inv(covariance)))
    assert np.abs(slope).max() <= 1e-3
    scaled = np.asarray(factor @ factor.T) / np.outer(SCALES, SCALES)
    np.testing.assert_allclose(scaled, covariance / np.outer(SCALES, SCALES), rtol=1e-8)


def test_the_mode_of_a_skewed_density_far_from_zero() -> None:
    # 20 η - exp(η - 5): mode 5 + log 20, curvature -20.
    mode, factor, found = find_mode(lambda eta: 20 * eta[0] - jnp.exp(eta[0] - 5.0), jnp.zeros(1))
    assert found
    # Newton stops where the slope is a thousandth of a standard deviation's worth.
    assert abs(float(mode[0]) - 5 - np.log(20)) < 1e-3 / np.sqrt(20)
    assert float(factor[0, 0]) == pytest.approx(1 / np.sqrt(20), rel=1e-3)


class Broken(Posterior):
    """A log likelihood without a value, and a gradient that does not show it."""

    num_shards: int = 1
    dim: ClassVar[int] = 2

    def data(self, key):
        return {"y": jnp.zeros(4)}

    def log_prior(self, theta):
        return -0.5 * theta @ theta

    def log_likelihood(self, theta, observation):
        return jnp.log(observation["y"]) + 0.0 * theta[1]


@pytest.mark.parametrize("y", [-1.0, 0.0], ids=["NaN", "-inf"])
def test_a_density_without_a_value_is_refused(y: float) -> None:
    settings = SamplerSettings(num_draws=64, num_chains=4, num_windows=2, window_steps=5)
    density = full_posterior(Broken(), Data({"y": jnp.full(4, y)}))
    with pytest.raises(DrawsError, match=r"shard 0.*log_likelihood"):
        sample(density, KEY, settings, ("a", "b"))
