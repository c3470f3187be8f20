"""The second sampler: evidence and moments known in closed form, modes of unequal weight."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import chi2, norm, t

from dncbench.posterior import Posterior, full_posterior
from dncbench.problem import Data
from dncbench.sampling import diagnostics
from dncbench.sampling.bridge import bridge
from dncbench.sampling.tempered import (
    Tempered,
    _temper,
    evidence_gap,
    num_particles,
    tempered,
)

FALSE_ALARM = 1e-4
RUNS = 24


class Gaussian(Posterior):
    """y ~ N(θ, I) with θ ~ N(0, 2² I), neither with its constant; ``far`` moves the data."""

    num_shards: int = 1
    far: float = 0.0
    dim: ClassVar[int] = 3

    def data(self, key):
        return {"y": jnp.zeros((1, 3))}

    def log_prior(self, theta):
        return -0.5 * theta @ theta / 4.0

    def log_likelihood(self, theta, observation):
        return -0.5 * jnp.sum((observation["y"] - theta) ** 2)

    def observed(self) -> np.ndarray:
        noise = np.random.default_rng(3).standard_normal((20, 3))
        return noise + self.far * np.array([1.0, -1.0, 0.5])

    def closed_form(self) -> tuple[np.ndarray, float, float]:
        """Mean, sd and log integral of the unnormalised posterior."""
        y = self.observed()
        precision = len(y) + 0.25
        total = y.sum(0)
        log_integral = 1.5 * np.log(2 * np.pi / precision)
        log_integral -= 0.5 * (np.sum(y**2) - total @ total / precision)
        return total / precision, precision**-0.5, float(log_integral)


class Rates(Posterior):
    """Gamma(3, 2) twice, sampled as log θ: the log-Jacobian belongs to the density."""

    num_shards: int = 1
    dim: ClassVar[int] = 2

    def data(self, key):
        return {"y": jnp.zeros(1)}

    def log_prior(self, theta):
        return jnp.sum(2.0 * jnp.log(theta) - 2.0 * theta)

    def log_likelihood(self, theta, observation):
        return 0.0 * theta[0]

    def constrain(self, eta):
        return jnp.exp(eta)


class TwoModes(Posterior):
    """0.2 N(-5, 0.5² I) + 0.8 N(5, 0.5² I) in the plane, off its axes; normalised.

    5 is ``apart``.
    """

    num_shards: int = 1
    apart: float = 5.0
    in_likelihood: bool = True
    dim: ClassVar[int] = 2

    def data(self, key):
        return {"y": jnp.zeros(1)}

    def _mixture(self, theta):
        each = [
            jnp.log(weight) + jnp.sum(jax.scipy.stats.norm.logpdf(theta, centre, 0.5))
            for weight, centre in ((0.2, -self.apart), (0.8, self.apart))
        ]
        return jnp.logaddexp(*each)

    def log_prior(self, theta):
        wide = -0.5 * theta @ theta / 1e4
        return wide if self.in_likelihood else self._mixture(theta)

    def log_likelihood(self, theta, observation):
        wide = 0.5 * theta @ theta / 1e4  # takes the prior back
        return self._mixture(theta) + wide if self.in_likelihood else 0.0 * theta[0]


def density(problem: Posterior):
    rows = problem.observed() if isinstance(problem, Gaussian) else np.zeros(1)
    return full_posterior(problem, Data({"y": jnp.asarray(rows)}))


def several(problem: Posterior) -> list[Tempered]:
    stack, number = density(problem), num_particles(problem.dim)
    return [_temper(stack, jax.random.key(seed), number).value for seed in range(RUNS)]


def closed(problem: Posterior) -> float:
    """The log of the integral of the density."""
    if isinstance(problem, Gaussian):
        return problem.closed_form()[2]
    # Γ(3) / 2³ for each rate; the mixture is normalised.
    return 2 * np.log(2 / 8) if isinstance(problem, Rates) else 0.0


@pytest.mark.parametrize(
    "problem",
    [Gaussian(), Gaussian(far=12.0), Rates(), TwoModes(), TwoModes(in_likelihood=False)],
    ids=[
        "conjugate",
        "data far away",
        "constrained",
        "two modes",
        "a prior of two modes",
    ],
)
def test_the_evidence_and_its_standard_error(problem: Posterior) -> None:
    runs = several(problem)
    assert all(float(run.beta) == 1.0 for run in runs)
    log_evidence = np.array([run.log_evidence for run in runs])
    # The estimate of the integral, not of its logarithm, has no bias: Student's t of its mean.
    relative = np.exp(log_evidence - closed(problem))
    error = relative.std(ddof=1) / np.sqrt(RUNS)
    assert abs(relative.mean() - 1.0) < t(RUNS - 1).isf(FALSE_ALARM / 2) * error
    # What a run says of its own error is that of the runs. They scatter by it as χ² says, with
    # half as much again allowed for what a correlation of 0.3 with the last positions leaves.
    told = np.mean([run.variance for run in runs])
    scatter = (RUNS - 1) * log_evidence.var(ddof=1) / told
    law = chi2(RUNS - 1)
    assert law.ppf(FALSE_ALARM / 2) < scatter < 1.5 * law.isf(FALSE_ALARM / 2)


@pytest.mark.parametrize("in_likelihood", [True, False])
def test_modes_have_the_weights_that_are_theirs(in_likelihood: bool) -> None:
    shares = np.array(
        [
            np.mean(np.asarray(run.eta)[:, 0] > 0)
            for run in several(TwoModes(in_likelihood=in_likelihood))
        ]
    )
    error = shares.std(ddof=1) / np.sqrt(RUNS)
    assert 0 < error < 0.03
    assert abs(shares.mean() - 0.8) < t(RUNS - 1).isf(FALSE_ALARM / 2) * error


@pytest.mark.parametrize("far", [0.0, 12.0])
def test_chains_have_the_moments_of_the_closed_form(far: float) -> None:
    problem, resolution = Gaussian(far=far), 0.02
    chains, values, told = tempered(density(problem), jax.random.key(7), resolution, print)
    mean, sd, _ = problem.closed_form()
    apart = abs(told["log_evidence"] - closed(problem)) / (0.5 * told["evidence_error"])
    assert apart < norm.isf(FALSE_ALARM / 2)
    assert told["evidence_z"] < norm.isf(FALSE_ALARM / 2)
    assert 0 < told["evidence_error"] < 0.1
    for what, expected, found in (
        ("mean", mean, chains.mean((0, 1))),
        ("sd", sd, chains.std((0, 1))),
    ):
        z = (found - expected) / diagnostics.mcse(chains, what)
        assert np.abs(z).max() < norm.isf(FALSE_ALARM / 12)
    assert np.max(diagnostics.mcse(chains, "mean")) <= resolution * sd * 1.05
    # The squared distance from the mean is χ²(3): the log densities are those of the draws.
    squares = np.sum((chains - mean) ** 2, axis=-1) / sd**2
    np.testing.assert_allclose(np.ptp(values + 0.5 * squares), 0.0, atol=1e-9)


def test_modes_that_chains_do_not_cross_are_told() -> None:
    *_, told = tempered(density(TwoModes(apart=60.0)), jax.random.key(1), 0.02, print)
    assert told["max_rhat"] > diagnostics.MAX_RHAT


def test_a_run_that_lost_half_the_posterior_is_told_by_its_evidence() -> None:
    # Two modes of equal weight, a t around both or around one; draws of both or of one.
    rng = np.random.default_rng(4)
    modes = np.array([-5.0, 5.0])

    def estimate(side: np.ndarray, centre: float, scale: float):
        draws = rng.normal(modes[side], 0.5, (64, 20))
        law = t(5, centre, scale)
        log_density = lambda x: logsumexp(norm.logpdf(x[..., None], modes, 0.5), axis=-1)  # noqa: E731
        proposed = law.rvs(1000, random_state=rng)
        return bridge(*(log_density(x) - law.logpdf(x) for x in (draws, proposed)))

    both = rng.integers(0, 2, (64, 20))
    whole, again = (estimate(both, 0.0, 5.0) for _ in range(2))
    lost = estimate(np.ones_like(both), 5.0, 0.5)
    for found, expected in ((whole, np.log(2.0)), (again, np.log(2.0)), (lost, 0.0)):
        assert abs(found.log - expected) < norm.isf(FALSE_ALARM / 6) * found.error
    limit = norm.isf(1e-3 / 2)  # of a certificate
    assert evidence_gap(whole, again) < limit < evidence_gap(whole, lost)


def test_nothing_to_estimate_from_is_told_as_none() -> None:
    assert np.isnan(bridge(np.full((4, 5), np.nan), np.zeros(9)).log)
    assert np.isnan(bridge(np.zeros((4, 5)), np.full(9, -np.inf)).log)


def test_the_closed_forms_are_right() -> None:
    # By a sum over a fine grid in one coordinate: coordinates are independent.
    problem = Gaussian(far=1.0)
    *_, log_integral = problem.closed_form()
    grid = np.linspace(-10, 10, 20_001)
    by_sum = 0.0
    for y in problem.observed().T:
        values = -0.125 * grid**2 - 0.5 * np.sum((y[:, None] - grid) ** 2, axis=0)
        by_sum += logsumexp(values) + np.log(grid[1] - grid[0])
    assert log_integral == pytest.approx(by_sum, abs=1e-9)


def autoregressive(correlation: float) -> np.ndarray:
    """128 stationary chains of 200 draws."""
    rng = np.random.default_rng(4)
    noise = rng.standard_normal((128, 200, 2))
    chains = noise.copy()
    for place in range(1, 200):
        kept = correlation * chains[:, place - 1]
        chains[:, place] = kept + np.sqrt(1 - correlation**2) * noise[:, place]
    return chains


def test_nested_rhat_is_no_alarm_of_many_short_chains_that_mix() -> None:
    chains = autoregressive(0.8)
    # Worth 128 · 200 · (1 - 0.8) / 1.8 = 2844 draws: 2 · 128 halves exceed 1 by 0.045, 2 · 8 by
    # 0.003, of which the largest of two coordinates is at most two in ten thousand times.
    assert diagnostics.rhat(chains).min() > 1.03
    assert diagnostics.nested_rhat(chains, 8).max() < 1.01


def test_nested_rhat_notices_chains_that_stay() -> None:
    chains = autoregressive(0.0)
    chains[..., 0] += np.where(np.random.default_rng(5).random(128) < 0.5, -3.0, 3.0)[:, None]
    rhat = diagnostics.nested_rhat(chains, 8)
    # Halves of groups hold eight chains: their means spread by 3 / sqrt(8), draws by sqrt(10).
    assert rhat[0] > 1.02
    assert rhat[1] < 1.01
