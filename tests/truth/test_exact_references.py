"""References that no MCMC made: closed forms and quadrature, agreeing with NUTS on the model."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kstest

from dncbench import budget, registry
from dncbench.draws import Draws
from dncbench.posterior import Posterior, sort_labels, subposteriors
from dncbench.precision import derive_key
from dncbench.problem import Data, Split, load_data
from dncbench.problems._quadrature import exact_draws
from dncbench.problems.gaussian_mixture import GaussianMixture
from dncbench.problems.skewed_gamma import SkewedGamma
from dncbench.sampling.nuts import sample
from dncbench.sampling.settings import SamplerSettings
from dncbench.storage.cache import Cache
from dncbench.truth.certified import reference
from dncbench.truth.verification import check_stored

SMOKE = budget.get("smoke")


# A quarter of the mixture's observations: NUTS goes through all of them at every step.
SETTINGS = {"gaussian-mixture": {"num_observations": 500}}


def prepared(name: str) -> tuple[Posterior, Data]:
    problem = registry.get("problem", name).target(**SETTINGS.get(name, {}))
    return problem, load_data(problem, derive_key(0, name, "data"))


@pytest.mark.parametrize("name", ["banana", "skewed-gamma", "gaussian-mixture"])
def test_nuts_on_the_model_finds_the_exact_posterior(name: str, tmp_path) -> None:
    problem, data = prepared(name)
    made = reference(problem, {"id": name}, data, jax.random.key(0), SMOKE, Cache(tmp_path))
    assert made.certificate["failures"] == []
    assert made.certificate["grade"] == "A"
    assert made.ess == SMOKE.num_draws


def test_exact_draws_of_another_model_are_refused(monkeypatch, tmp_path) -> None:
    # Of another prior: every rate too large by a part in ten. The model stays the class that
    # NUTS is compiled for above.
    right = SkewedGamma.exact_draws
    wrong = lambda self, *given: right(self, *given) + np.log(1.1)  # noqa: E731
    monkeypatch.setattr(SkewedGamma, "exact_draws", wrong)
    problem, data = prepared("skewed-gamma")
    made = reference(problem, {"id": "wrong"}, data, jax.random.key(0), SMOKE, Cache(tmp_path))
    assert made.certificate["grade"] == "C"
    apart = "agreement: largest difference in standard errors"
    assert any(failure.startswith(apart) for failure in made.certificate["failures"])


def test_quadrature_draws_follow_a_known_density() -> None:
    # Gamma(4) in one coordinate, an independent N(1, 0.5²) in the other.
    def log_density(x):
        inside = x[0] > 0
        gamma = jnp.where(inside, 3 * jnp.log(jnp.where(inside, x[0], 1.0)) - x[0], -jnp.inf)
        return gamma - 2 * (x[1] - 1) ** 2

    low, high = np.array([0.0, -3.0]), np.array([40.0, 5.0])
    draws = exact_draws(log_density, low, high, 80, jax.random.key(1), 4000)
    assert kstest(draws[:, 0], "gamma", args=(4,)).pvalue > 1e-4
    assert kstest(draws[:, 1], "norm", args=(1, 0.5)).pvalue > 1e-4
    assert abs(np.corrcoef(draws.T)[0, 1]) < 4 / np.sqrt(4000)


def test_too_coarse_a_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="use more than 3 points"):
        exact_draws(
            lambda x: -0.5 * jnp.sum((x / 0.2) ** 2),
            np.full(2, -2.0),
            np.full(2, 2.0),
            3,
            jax.random.key(1),
            4000,
        )


# ---------------------------------------------------------------- exchangeable labels


@pytest.fixture(scope="module")
def mixture_draws():
    problem, data = prepared("gaussian-mixture")
    split = problem.split(data, "random", jax.random.key(0))
    settings = SamplerSettings(num_draws=1200, num_chains=8, window_steps=50)
    densities = subposteriors(problem, data, split)
    draws = sample(densities, jax.random.key(1), settings, problem.parameter_names)
    return problem, data, split, draws


def test_every_labelling_is_drawn_equally_often(mixture_draws) -> None:
    *_, draws = mixture_draws
    order = np.argsort(draws.values, axis=-1)
    code = order @ np.array([9, 3, 1])
    for shard in code:
        counts = np.unique(shard, return_counts=True)[1]
        assert len(counts) == 6
        # Independent labels: five binomial standard deviations of 1200 / 6.
        assert np.abs(counts - 200).max() < 5 * np.sqrt(1200 * 5 / 36)


def error_of(
    made: tuple[Posterior, Data, Split, Draws], shard: int, weights: tuple = (0.25, 1.0, 0.25)
) -> float:
    """The largest error of what was stored with a shard's draws."""
    problem, data, split, draws = made
    return check_stored(problem, data, split, shard, draws, jax.random.key(2), weights)


def test_scores_follow_the_labels(mixture_draws) -> None:
    for shard in range(4):
        assert error_of(mixture_draws, shard) < 1e-8


def test_scores_left_behind_by_a_label_switch_are_seen(mixture_draws) -> None:
    # What the published code stores: positions are permuted, their gradients are not.
    problem, data, split, draws = mixture_draws
    permuted = dataclasses.replace(draws, values=draws.values[:, :, [1, 2, 0]])
    assert error_of((problem, data, split, permuted), 0) > 1e-2


def test_the_whole_prior_in_a_subposterior_is_seen(mixture_draws) -> None:
    # What the published mixture code samples: the prior to the power one instead of a quarter.
    assert error_of(mixture_draws, 0, (1.0, 1.0, 1.0)) > 1e-6


def test_sorting_labels_is_what_it_says() -> None:
    problem = GaussianMixture()
    eta = np.random.default_rng(5).normal(size=(20, 3))
    in_order = jax.jit(jax.vmap(lambda one: sort_labels(problem, one)))(eta)
    np.testing.assert_array_equal(in_order, np.sort(eta, axis=1))
