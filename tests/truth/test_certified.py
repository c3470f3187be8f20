"""Certified references: against quadrature, and a certificate that can be failed."""

import copy
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2, norm

from dncbench import budget, registry
from dncbench.metrics.sample import Figure, Sample
from dncbench.posterior import Density, full_posterior
from dncbench.precision import derive_key
from dncbench.problem import load_data
from dncbench.problems.toy_logistic import ToyLogistic
from dncbench.sampling import diagnostics
from dncbench.storage.cache import Cache
from dncbench.truth.certified import MAX_RHAT, Reference, _grade, agreement, reference, settings_for
from dncbench.truth.floors import noise_floor

FALSE_ALARM = 1e-4
SMOKE = budget.get("smoke")
IDENTITY = {"id": "toy-logistic@test"}


@pytest.fixture(scope="module")
def problem() -> tuple[ToyLogistic, dict]:
    toy = ToyLogistic()
    return toy, load_data(toy, derive_key(0, "toy-logistic", "data"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("references"))


@pytest.fixture(scope="module")
def certified(problem, cache: Cache) -> Reference:
    return reference(problem[0], IDENTITY, problem[1], jax.random.key(0), SMOKE, cache)


def chains(made: Reference) -> np.ndarray:
    """The pool's chains again: block b is the b-th stretch of every chain."""
    stretches = made.eta_blocks.reshape(len(made.blocks), SMOKE.num_chains, -1, 2)
    return np.swapaxes(stretches, 0, 1).reshape(SMOKE.num_chains, -1, 2)


@pytest.fixture(scope="module")
def exact(problem) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and sd by quadrature on a 400 x 400 grid of seven sds either side."""
    stack = full_posterior(*problem)
    parts = jax.tree.map(lambda leaf: leaf[0], (stack.observations, stack.mask))
    density = Density(stack.problem, *parts, *[jnp.array(1.0)] * 3)
    evaluate = jax.jit(lambda points: jax.lax.map(jax.vmap(lambda eta: density(eta)), points))
    centre, spread = np.array([-3.0, -3.0]), np.array([2.0, 2.0])
    for _ in range(3):  # the first two grids only find where the mass is
        axes = [m + 7 * s * np.linspace(-1, 1, 400) for m, s in zip(centre, spread, strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        log_weight = np.asarray(evaluate(jnp.asarray(grid)))
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        centre = np.einsum("ij,ijk->k", weight, grid)
        spread = np.sqrt(np.einsum("ij,ijk->k", weight, (grid - centre) ** 2))
    return centre, spread


# ---------------------------------------------------------------- the truth


def test_draws_agree_with_quadrature(certified: Reference, exact) -> None:
    # Standard errors from the ESS of the chains; Bonferroni over two means and two sds.
    path = chains(certified)
    pool = path.reshape(-1, 2)
    z_mean = (pool.mean(0) - exact[0]) / diagnostics.mcse(path, "mean")
    z_sd = (pool.std(0) - exact[1]) / diagnostics.mcse(path, "sd")
    assert np.abs([z_mean, z_sd]).max() < norm.isf(FALSE_ALARM / 8)
    assert (diagnostics.mcse(path, "mean") / exact[1]).max() < 0.05


def test_every_block_is_a_sample_of_its_own(certified: Reference, exact) -> None:
    assert certified.blocks.shape == (SMOKE.reference_blocks, SMOKE.num_draws, 2)
    np.testing.assert_array_equal(certified.blocks, certified.eta_blocks)  # θ is η here
    error = exact[1] / np.sqrt(certified.ess)
    z = (certified.blocks.mean(1) - exact[0]) / error
    assert np.abs(z).max() < norm.isf(FALSE_ALARM / (2 * z.size))
    assert certified.ess <= SMOKE.num_draws


def test_the_oracle_never_gets_the_block_it_is_scored_against(certified: Reference) -> None:
    fresh = [certified.fresh(split) for split in range(6)]
    assert set(fresh) == set(range(1, SMOKE.reference_blocks))


def test_the_certificate(certified: Reference) -> None:
    certificate = certified.certificate
    assert certificate["grade"] == "B"
    assert certificate["failures"] == []
    path = chains(certified)
    nuts = certificate["nuts"]
    assert nuts["max_rhat"] == diagnostics.rhat(path).max() <= MAX_RHAT
    assert nuts["min_ess_bulk"] == diagnostics.ess_bulk(path).min() >= SMOKE.min_reference_ess
    assert nuts["min_ess_tail"] == diagnostics.ess_tail(path).min() >= SMOKE.min_reference_ess
    assert certificate["agreement"]["largest_z"] <= certificate["agreement"]["threshold_z"]
    assert certificate["recomputed"]["largest_relative_error"] < 1e-8


# ---------------------------------------------------------------- grades


def doctored(certified: Reference, part: str, **changes: float) -> dict:
    certificate = copy.deepcopy(certified.certificate)
    certificate[part].update(changes)
    return _grade(certificate, SMOKE)


@pytest.mark.parametrize(
    ("part", "changes", "complaint"),
    [
        ("nuts", {"max_rhat": 1.011}, "R-hat 1.0110 above 1.01"),
        ("nuts", {"max_rhat": np.nan}, "R-hat nan"),
        ("nuts", {"min_ess_bulk": 1199.0}, "ESS 1199 below 1200"),
        ("nuts", {"min_ess_tail": 100.0}, "ESS 100 below 1200"),
        ("elliptical_slice", {"max_rhat": 1.5}, "second sampler: R-hat 1.5"),
        ("agreement", {"largest_z": 9.0}, "samplers disagree on the"),
        ("agreement", {"largest_z": np.nan}, "samplers disagree on the"),
        ("agreement", {"resolution_sds": 0.051}, "resolves only 0.051"),
        ("recomputed", {"largest_relative_error": 1e-3}, "differ from the model by 1.0e-03"),
    ],
)
def test_a_broken_bound_is_grade_c(
    certified: Reference, part: str, changes: dict, complaint: str
) -> None:
    graded = doctored(certified, part, **changes)
    assert graded["grade"] == "C"
    assert len(graded["failures"]) == 1
    assert complaint in graded["failures"][0]


def test_bounds_that_hold_exactly_are_grade_b(certified: Reference) -> None:
    assert doctored(certified, "nuts", max_rhat=MAX_RHAT, min_ess_bulk=1200.0)["grade"] == "B"


# ---------------------------------------------------------------- two samplers


NAMES = ("first", "second", "third")


def independent(seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    draws = np.random.default_rng(seed).standard_normal((8, 500, 3)) * [1e-3, 1.0, 50.0]
    return draws * [1.0, 1.0, scale] + [0.0, shift, 454.0]


def test_samplers_of_one_law_agree() -> None:
    # A false alarm has probability 1e-3; the resolution is that of 4000 against 4000 draws.
    verdict = agreement(independent(1), independent(2), NAMES)
    assert verdict["largest_z"] < verdict["threshold_z"]
    assert verdict["threshold_z"] == pytest.approx(norm.isf(1e-3 / 12))
    # An ESS of 4000 is itself an estimate, good to about a tenth.
    assert verdict["resolution_sds"] == pytest.approx(np.sqrt(2 / 4000), rel=0.15)


@pytest.mark.parametrize(
    ("seed", "shift", "scale", "where"),
    [(3, 0.15, 1.0, "mean of second"), (4, 0.0, 1.12, "sd of third")],
)
def test_samplers_of_two_laws_disagree(seed: int, shift: float, scale: float, where: str) -> None:
    # Shifts of 6.7 and 7.2 standard errors, sqrt(2/4000) of a mean and sqrt(1/4000) of a log sd.
    verdict = agreement(independent(1), independent(seed, shift, scale), NAMES)
    assert verdict["largest_z"] > verdict["threshold_z"]
    assert verdict["largest_z_at"] == where


def test_chains_that_have_not_met_resolve_nothing() -> None:
    stuck = independent(5) + 3.0 * np.arange(8)[:, None, None] * [1e-3, 1.0, 50.0]
    assert agreement(independent(1), stuck, NAMES)["resolution_sds"] > 0.05


# ---------------------------------------------------------------- floors


def blocks(made: Reference) -> list[Sample]:
    return [Sample(values, made.ess) for values in made.blocks]


def metrics() -> list[registry.Entry]:
    return [registry.get("metric", entry.name) for entry in registry.entries("metric")]


def test_the_floor_of_mah_is_its_null_law(certified: Reference, cache: Cache) -> None:
    # The squared distances of all pairs of B independent blocks add up to B/n χ² with
    # 2 (B - 1) degrees of freedom, n being what a block is worth.
    floor = noise_floor(blocks(certified), metrics(), IDENTITY, cache)["mah@1"]
    number = SMOKE.reference_blocks
    pairs = number * (number - 1) // 2
    squares = pairs * floor["mean"] ** 2 + (pairs - 1) * floor["sd"] ** 2
    law = chi2(2 * (number - 1))
    assert squares * SMOKE.num_draws / number > law.ppf(FALSE_ALARM)
    assert squares * certified.ess / number < law.isf(FALSE_ALARM)
    assert floor["mean"] <= floor["max"]


def test_floors_are_over_all_pairs_and_kept(certified: Reference, tmp_path: Path) -> None:
    calls = []

    def count(approximation, reference) -> Figure:
        calls.append((approximation.values, reference.values))
        return Figure(float(len(calls)), 0.1)

    entry = registry.Entry("metric", "count", 1, "Counts.", "test", count)
    cache = Cache(tmp_path)
    first = noise_floor(blocks(certified), [entry], IDENTITY, cache)["count@1"]
    assert first == {"mean": 2.0, "sd": 1.0, "max": 3.0}
    assert len({a.tobytes() + f.tobytes() for a, f in calls}) == 3
    assert all(not np.array_equal(a, f) for a, f in calls)
    assert noise_floor(blocks(certified), [entry], IDENTITY, cache)["count@1"] == first
    assert len(calls) == 3


# ---------------------------------------------------------------- cache


def test_a_kept_reference_is_the_same_and_nothing_is_sampled(
    certified: Reference, problem, cache: Cache
) -> None:
    def say(what: str) -> None:
        raise AssertionError(f"a cached reference was made again: {what}")

    again = reference(problem[0], IDENTITY, problem[1], jax.random.key(0), SMOKE, cache, say)
    np.testing.assert_array_equal(again.eta_blocks, certified.eta_blocks)
    np.testing.assert_array_equal(again.blocks, certified.blocks)
    assert again.certificate == certified.certificate
    assert again.ess == certified.ess


@pytest.mark.parametrize("changed", ["identity", "budget"])
def test_another_problem_or_budget_is_not_taken_from_the_cache(
    certified: Reference, problem, cache: Cache, changed: str
) -> None:
    class Sampled(Exception):
        """The point of no return."""

    def say(what: str) -> None:
        raise Sampled(what)

    identity = {"id": "toy-logistic@2"} if changed == "identity" else IDENTITY
    chosen = budget.get("quick") if changed == "budget" else SMOKE
    with pytest.raises(Sampled, match="adapting"):
        reference(problem[0], identity, problem[1], jax.random.key(0), chosen, cache, say)


def test_the_settings_ask_for_the_bounds() -> None:
    for name in budget.NAMES:
        chosen = budget.get(name)
        settings = settings_for(chosen)
        assert settings.num_draws == chosen.reference_blocks * chosen.num_draws
        assert settings.min_ess >= chosen.min_reference_ess
        assert settings.num_draws % (chosen.num_chains * chosen.reference_blocks) == 0
