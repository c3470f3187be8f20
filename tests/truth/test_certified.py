"""Certified references: against quadrature, and a certificate that can be failed."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from dncbench import budget, registry
from dncbench.draws import Check, Truth
from dncbench.entry import Entry
from dncbench.errors import ContractError, DrawsError
from dncbench.metrics.sample import Sample
from dncbench.posterior import Density, full_posterior
from dncbench.precision import derive_key
from dncbench.problem import Data, Problem, load_data
from dncbench.problems.toy_logistic import ToyLogistic
from dncbench.sampling import diagnostics
from dncbench.sampling.diagnostics import MAX_RHAT
from dncbench.storage.cache import Cache
from dncbench.truth import floors
from dncbench.truth.certified import Reference, reference
from dncbench.truth.floors import noise_floor
from dncbench.truth.two_samplers import settings_for

FALSE_ALARM = 1e-4
SMOKE = budget.get("smoke")
IDENTITY = {"id": "toy-logistic@test"}


@pytest.fixture(scope="module")
def problem() -> tuple[ToyLogistic, Data]:
    toy = ToyLogistic()
    return toy, load_data(toy, derive_key(0, "toy-logistic", "data"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("references"))


@pytest.fixture(scope="module")
def certified(problem, cache: Cache) -> Reference:
    return reference(problem[0], IDENTITY, problem[1], jax.random.key(0), SMOKE, cache)


def chains(made: Reference) -> np.ndarray:
    """The pool's chains again, one after the other once shuffled back."""
    shuffled = made.blocks.reshape(-1, 2)
    order = jax.random.permutation(jax.random.fold_in(jax.random.key(0), 2), len(shuffled))
    pool = np.empty_like(shuffled)
    pool[np.asarray(order)] = shuffled
    return pool.reshape(SMOKE.num_chains, -1, 2)


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
    np.testing.assert_array_equal(certified.embedded, certified.blocks)  # θ is η here
    error = exact[1] / np.sqrt(certified.ess)
    z = (certified.blocks.mean(1) - exact[0]) / error
    assert np.abs(z).max() < norm.isf(FALSE_ALARM / (2 * z.size))
    assert certified.ess <= SMOKE.num_draws


def test_the_oracle_never_gets_the_block_it_is_scored_against(certified: Reference) -> None:
    fresh = [certified.fresh(split) for split in range(6)]
    assert set(fresh) == set(range(1, SMOKE.reference_blocks))


def checks_of(made: Reference) -> dict[str, Check]:
    named = {check.name: check for check in made.checks}
    assert len(named) == len(made.checks)
    return named


def test_the_certificate(certified: Reference) -> None:
    assert certified.certificate["grade"] == "B"
    assert certified.certificate["failures"] == []
    path, checks = chains(certified), checks_of(certified)
    rhat = checks["NUTS: R-hat"]
    assert rhat.value == diagnostics.rhat(path).max() <= rhat.limit == MAX_RHAT
    for name, values in (
        ("NUTS: bulk ESS", diagnostics.ess_bulk(path)),
        ("NUTS: tail ESS", diagnostics.ess_tail(path)),
    ):
        check = checks[name]
        assert check.at_least
        assert check.value == values.min() >= check.limit == SMOKE.min_reference_ess
        assert check.where == ToyLogistic().parameter_names[int(np.argmin(values))]
    # Bonferroni over mean, sd and two quantiles of two coordinates and of the log density.
    apart = checks["agreement: largest difference in standard errors"]
    assert apart.value <= apart.limit == pytest.approx(norm.isf(1e-3 / 24))
    # Of a mean between two sets of 1200 perfect draws, the floor of every metric.
    resolution = checks["agreement: resolution of the second sampler in posterior sds"]
    assert resolution.value <= resolution.limit == pytest.approx(np.sqrt(2 / 1200))
    noticed = checks["agreement: shift of a mean that would be noticed, in posterior sds"]
    assert noticed.value == pytest.approx((apart.limit + norm.isf(0.1)) * resolution.value)
    assert checks["recomputed from the model: largest relative error"].limit == 1e-8


# ---------------------------------------------------------------- grades


def own_truth(truth: Truth, name: str, folder: Path) -> Reference:
    """The reference of a problem that knows this of its posterior."""

    class Knowing(ToyLogistic):
        def truth(self, data, key, num_draws):
            return truth

    problem = Knowing()
    data = load_data(problem, jax.random.key(0))
    return reference(problem, {"id": name}, data, jax.random.key(0), SMOKE, Cache(folder))


def doctored(certified: Reference, name: str, folder: Path, **changes: Any) -> Reference:
    """The same draws with one line of the certificate changed."""
    checks = checks_of(certified)
    checks[name] = checks[name]._replace(**changes)
    pool = certified.blocks.reshape(-1, 2)
    return own_truth(Truth(pool, len(pool), None, tuple(checks.values()), "B"), name, folder)


APART = "agreement: largest difference in standard errors"
RESOLUTION = "agreement: resolution of the second sampler in posterior sds"
BETA = "second sampler: inverse temperature reached"
EVIDENCE = "second sampler: two runs' log evidence apart in standard errors"
WHAT = r"(mean|sd|5 % quantile|95 % quantile)"
RECOMPUTED = "recomputed from the model: largest relative error"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("NUTS: R-hat", 1.011, r"NUTS: R-hat 1\.011 \(.+\) above 1\.01"),
        ("NUTS: R-hat", np.nan, r"NUTS: R-hat nan \(.+\) above 1\.01"),
        ("NUTS: bulk ESS", 1199.0, r"NUTS: bulk ESS 1199 \(.+\) below 1200"),
        ("NUTS: bulk ESS", np.nan, r"NUTS: bulk ESS nan \(.+\) below 1200"),
        ("NUTS: tail ESS", 100.0, r"NUTS: tail ESS 100 \(.+\) below 1200"),
        (
            "second sampler: nested R-hat",
            1.5,
            r"second sampler: nested R-hat 1\.5 \(128 chains in 8 groups\) above 1\.01",
        ),
        (APART, 9.0, rf"{APART} 9 \({WHAT} of .+\) above 3\.935"),
        (APART, np.nan, rf"{APART} nan \({WHAT} of .+\) above 3\.935"),
        (RESOLUTION, 0.041, rf"{RESOLUTION} 0\.041 \(.+\) above 0\.04082"),
        (BETA, 0.5, rf"{BETA} 0\.5 \(.+\) below 1"),
        (EVIDENCE, 4.0, rf"{EVIDENCE} 4 \(standard error .+\) above 3\.291"),
        (RECOMPUTED, 1e-3, rf"{RECOMPUTED} 0\.001 \(.+\) above 1e-08"),
    ],
)
def test_a_broken_bound_is_grade_c(
    certified: Reference, tmp_path: Path, name: str, value: float, said: str
) -> None:
    made = doctored(certified, name, tmp_path, value=value)
    assert made.certificate["grade"] == "C"
    (failure,) = made.certificate["failures"]
    assert re.fullmatch(said, failure)
    np.testing.assert_equal(checks_of(made)[name].value, value)  # also where it is not a number


def test_bounds_that_hold_exactly_are_grade_b(certified: Reference, tmp_path: Path) -> None:
    for name, value in (("NUTS: R-hat", MAX_RHAT), ("NUTS: bulk ESS", 1200.0)):
        assert doctored(certified, name, tmp_path, value=value).certificate["grade"] == "B"


def test_what_is_only_told_breaks_no_bound(certified: Reference, tmp_path: Path) -> None:
    told = [name for name, check in checks_of(certified).items() if check.limit is None]
    assert "NUTS: divergences" in told
    for name in told:
        assert doctored(certified, name, tmp_path, value=1e9).certificate["failures"] == []


# ---------------------------------------------------------------- a problem's own truth


POOL = np.random.default_rng(9).standard_normal((SMOKE.reference_blocks * SMOKE.num_draws + 5, 2))
GOOD = Check("enumerated", 0.0, 1.0)


@pytest.mark.parametrize("grade", ["A", "given"])
def test_a_known_truth_is_taken_as_it_is(tmp_path: Path, grade: str) -> None:
    made = own_truth(Truth(POOL, 2400.0, None, (GOOD,), grade), "known", tmp_path)
    assert made.certificate["grade"] == grade
    assert made.checks == [GOOD]
    shuffled = made.blocks.reshape(-1, 2)
    assert not np.array_equal(shuffled, POOL[:-5])
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(POOL[:-5], axis=0))
    # 3 blocks of 1200: 1/ESS = (1 - 1/3)/1200 + 1/2400.
    assert made.ess == pytest.approx(1028.571, abs=1e-3)


def test_draws_whose_worth_cannot_be_told_count_as_one(tmp_path: Path) -> None:
    made = own_truth(Truth(POOL, np.nan, None, (GOOD,)), "untold", tmp_path)
    assert made.ess == pytest.approx(1.0, abs=1e-3)


def test_a_truth_that_nothing_vouches_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="its truth has no checks"):
        own_truth(Truth(POOL, 2400.0, None, ()), "unchecked", tmp_path)


def test_a_truth_with_too_few_draws_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DrawsError, match=r"few.truth\(\) returned draws of shape \(100, 2\)"):
        own_truth(Truth(POOL[:100], 100.0, None, (GOOD,)), "few", tmp_path)


@pytest.mark.parametrize(("total", "grade"), [(1.0, "A"), (1.0 + 1e-6, "C")])
def test_probabilities_that_do_not_add_up_are_grade_c(
    tmp_path: Path, total: float, grade: str
) -> None:
    log_probs = np.log(total * np.array([0.25, 0.5, 0.25]))
    made = own_truth(Truth(POOL, 2400.0, log_probs, (GOOD,)), "law", tmp_path)
    assert made.certificate["grade"] == grade
    np.testing.assert_array_equal(made.log_probs, log_probs)
    assert made.checks[-1].name == "probabilities: |sum - 1|"


def test_a_problem_that_nobody_can_sample_must_know_its_truth(tmp_path: Path) -> None:
    class Unknown(Problem):
        num_shards: int = 2

        @property
        def space(self):
            return ToyLogistic().space

    with pytest.raises(ContractError, match=r"mine: truth\(\) gave None"):
        reference(Unknown(), {"id": "mine"}, Data(), jax.random.key(0), SMOKE, Cache(tmp_path))


# ---------------------------------------------------------------- floors


def blocks(made: Reference) -> list[Sample]:
    return [Sample(values, made.ess, values) for values in made.blocks]


def metrics() -> list[Entry]:
    return [registry.get("metric", entry.name) for entry in registry.entries("metric")]


def test_the_floor_of_mah_is_its_null_law(certified: Reference, cache: Cache) -> None:
    # sqrt(2/n) times a χ of 2 degrees of freedom, of mean sqrt(π/2); whatever the pool is worth.
    made = blocks(certified)
    found = noise_floor(made, made[0], metrics(), IDENTITY, cache, headline=("mah",))
    floor = found.levels["mah@1"]
    unit = np.sqrt(2 / SMOKE.num_draws)
    assert floor["mean"] == pytest.approx(
        unit * np.sqrt(np.pi / 2), abs=norm.isf(FALSE_ALARM / 2) * floor["standard_error"]
    )
    # Of R readings of such a χ the sd has a relative standard error of 0.75 / sqrt(R) or less.
    assert floor["sd"] == pytest.approx(unit * np.sqrt(2 - np.pi / 2), rel=4 * 0.075)
    assert 0.04 < floor["standard_error"] / floor["mean"] <= floors.RESOLUTION
    assert floor["max"] > floor["mean"] + 1.5 * floor["sd"]


# ---------------------------------------------------------------- cache


def test_a_kept_reference_is_the_same_and_nothing_is_sampled(
    certified: Reference, problem, cache: Cache
) -> None:
    def say(what: str) -> None:
        raise AssertionError(f"a cached reference was made again: {what}")

    again = reference(problem[0], IDENTITY, problem[1], jax.random.key(0), SMOKE, cache, say)
    np.testing.assert_array_equal(again.embedded, certified.embedded)
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
    with pytest.raises(Sampled, match="looking for modes"):
        reference(problem[0], identity, problem[1], jax.random.key(0), chosen, cache, say)


def test_the_settings_ask_for_the_bounds() -> None:
    for name in budget.NAMES:
        chosen = budget.get(name)
        settings = settings_for(chosen)
        assert settings.num_draws == chosen.reference_blocks * chosen.num_draws
        assert settings.min_ess >= chosen.min_reference_ess
        assert settings.num_draws % (chosen.num_chains * chosen.reference_blocks) == 0
