"""The Python API: what it returns, and what it says when draws cannot be merged."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dncbench

# Imported here, so that no test's clean registry takes their registration away again.
import dncbench.methods.baselines
import dncbench.methods.consensus
import dncbench.methods.parametric
import dncbench.methods.psis
import dncbench.methods.swiss
from dncbench.contracts.gaussian_shards import make_shards
from dncbench.errors import DrawsError, UnknownNameError
from dncbench.method import STEPS

NUM_SHARDS, NUM_DRAWS, DIM = 3, 60, 4
WITH_COVARIANCE = ["consensus", "parametric", "swiss-product", "swiss"]
PLAIN = ["consensus", "parametric", "swiss-product", "average", "pooled"]
ALL = [*PLAIN, "swiss"]


@pytest.fixture
def values() -> np.ndarray:
    rng = np.random.default_rng(0)
    return make_shards(rng, NUM_SHARDS, DIM).draws(rng, NUM_DRAWS)


def arguments(method: str, draws) -> dict:
    return {"values": None, "inflated": draws} if method == "swiss" else {"values": draws}


def field(method: str) -> str:
    return "inflated" if method == "swiss" else "values"


# ---------------------------------------------------------------- results


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("num_draws", [17, NUM_DRAWS, NUM_SHARDS * NUM_DRAWS + 41])
def test_exactly_as_many_draws_as_asked(values: np.ndarray, method: str, num_draws: int) -> None:
    result = dncbench.merge(method=method, num_draws=num_draws, **arguments(method, values))
    assert result.draws.shape == (num_draws, DIM)
    assert result.draws.dtype == np.float64
    assert np.isfinite(result.draws).all()
    assert 0 < result.info["ess"] <= min(num_draws, NUM_DRAWS)


@pytest.mark.parametrize("method", ["consensus", "average", "parametric"])
def test_the_seed_decides(values: np.ndarray, method: str) -> None:
    first, again, other = (
        dncbench.merge(values, method, num_draws=50, seed=seed).draws for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_draws_alone_are_enough(values: np.ndarray) -> None:
    alone = dncbench.merge(values)
    assert alone.info["method"] == "consensus"
    assert alone.draws.shape == (10_000, DIM)
    np.testing.assert_array_equal(alone.draws, dncbench.merge(values, "consensus").draws)


def test_moving_the_shards_moves_their_average(values: np.ndarray) -> None:
    average = dncbench.merge(values, "average", num_draws=60).draws
    moved = dncbench.merge(values - values.mean(1, keepdims=True), "average", num_draws=60).draws
    # The same key, so the same pairing: only the shift is left.
    np.testing.assert_allclose(average - moved, values.mean((0, 1))[None].repeat(60, 0))


def test_what_it_reports(values: np.ndarray) -> None:
    result = dncbench.merge(values, "consensus[weights=shard]", num_draws=50)
    assert result.info["method"] == "consensus[weights=shard]"
    assert result.info["warnings"] == []
    # Every draw and one weight for each shard, 8 bytes each.
    assert result.bytes_communicated == 8 * (values.size + NUM_SHARDS)
    assert set(result.seconds) == {"compile", "fit_total", "fit_slowest_shard", "merge"}
    assert result.seconds["fit_slowest_shard"] > 0


def test_other_array_types(values: np.ndarray) -> None:
    expected = dncbench.merge(values, "consensus", num_draws=50).draws
    for same in (jnp.asarray(values), list(values), values.tolist()):
        np.testing.assert_array_equal(
            dncbench.merge(same, "consensus", num_draws=50).draws, expected
        )


def test_unequal_numbers_of_draws_are_thinned_and_reported(values: np.ndarray) -> None:
    result = dncbench.merge([values[0], values[1][:40], values[2]], "pooled", num_draws=120)
    assert result.info["warnings"] == ["values: thinned [60, 40, 60] draws to 40 in each shard"]
    rows = (np.arange(40) * 60) // 40
    np.testing.assert_array_equal(result.draws[0::3], values[0][rows])
    np.testing.assert_array_equal(result.draws[1::3], values[1][:40])


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_non_finite_draw_is_named(values: np.ndarray, method: str, bad: float) -> None:
    values[1, 23, 2] = bad
    with pytest.raises(DrawsError, match=rf"{field(method)} of shard 1.*draw 23, coordinate 2"):
        dncbench.merge(method=method, **arguments(method, values))


@pytest.mark.parametrize("method", WITH_COVARIANCE)
@pytest.mark.parametrize("num_draws", [1, 2, DIM])
def test_too_few_draws_for_a_covariance(values: np.ndarray, method: str, num_draws: int) -> None:
    with pytest.raises(DrawsError, match=rf"shard 0 has {num_draws} draws in 4 dim.*at least 5"):
        dncbench.merge(method=method, **arguments(method, values[:, :num_draws]))


@pytest.mark.parametrize("method", ["average", "pooled"])
def test_few_draws_do_where_no_covariance_is_used(values: np.ndarray, method: str) -> None:
    assert dncbench.merge(values[:, :2], method, num_draws=5).draws.shape == (5, DIM)


@pytest.mark.parametrize("method", WITH_COVARIANCE)
@pytest.mark.parametrize("constant", [0.0, 454.05, 1e-300, -1e12])
def test_a_constant_coordinate_is_named(values: np.ndarray, method: str, constant: float) -> None:
    values[2, :, 1] = constant
    with pytest.raises(
        DrawsError, match=r"shard 2, coordinate 1 \(theta\[1\]\): the draws are const"
    ):
        dncbench.merge(method=method, **arguments(method, values))


@pytest.mark.parametrize("method", WITH_COVARIANCE)
def test_a_collinear_coordinate_is_named(values: np.ndarray, method: str) -> None:
    # Coordinate 3 is a copy of 1 in other units; either may be named, no other.
    values[1, :, 3] = 7.0 - 1e-3 * values[1, :, 1]
    with pytest.raises(DrawsError, match=r"shard 1, coordinate ([13]) \(theta\[\1\]\): a linear"):
        dncbench.merge(method=method, **arguments(method, values))


def test_ill_scaled_draws_are_not_singular(values: np.ndarray) -> None:
    scales = np.array([1e-6, 1.0, 1e3, 1e8])
    plain = dncbench.merge(values, "consensus", num_draws=50).draws
    scaled = dncbench.merge(values * scales, "consensus", num_draws=50).draws
    np.testing.assert_allclose(scaled / scales, plain, rtol=1e-6)


def test_swiss_without_inflated_draws_names_the_other_method(values: np.ndarray) -> None:
    with pytest.raises(DrawsError, match=r"'swiss' needs inflated.*'swiss-product'"):
        dncbench.merge(values, "swiss")


@pytest.mark.parametrize("num_shards", [2, NUM_SHARDS])
def test_the_oracle_is_refused(values: np.ndarray, num_shards: int) -> None:
    with pytest.raises(DrawsError, match=r"'oracle' needs draws of the full posterior"):
        dncbench.merge(values[:num_shards], "oracle")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros(5), r"values of shard 0 has shape \(\); expected \(T, d\)"),
        (np.zeros((3, 5)), r"values of shard 0 has shape \(5,\); expected \(T, d\)"),
        (np.zeros((3, 5, 2, 2, 2)), r"values of shard 0 has shape \(5, 2, 2, 2\)"),
        ([np.zeros((4, 5, 2)), np.zeros((5, 2))], r"values of shard 0 has shape \(4, 5, 2\)"),
        (np.zeros((3, 0, 2)), r"values of shard 0 has shape \(0, 2\)"),
        (np.zeros((3, 5, 0)), r"values of shard 0 has shape \(5, 0\)"),
        (np.zeros((0, 5, 2)), r"one entry for each shard"),
        ([], r"one entry for each shard"),
        (
            [np.zeros((5, 2)), np.zeros((5, 3))],
            r"values of shard 1 has 3 dimensions, values of shard 0 has 2",
        ),
        (None, r"merge needs draws"),
    ],
)
def test_shapes_that_are_not_draws(bad, message: str) -> None:
    with pytest.raises(DrawsError, match=message):
        dncbench.merge(bad, "average")


@pytest.mark.parametrize(
    "extra",
    [
        {"log_density": np.zeros((NUM_SHARDS, NUM_DRAWS - 1))},
        {"log_density": np.zeros((NUM_SHARDS - 1, NUM_DRAWS))},
        {"log_density": np.zeros((NUM_SHARDS, NUM_DRAWS, 1))},
        {"score": np.zeros((NUM_SHARDS, NUM_DRAWS + 1, DIM))},
        {"score": np.zeros((NUM_SHARDS, NUM_DRAWS))},
        {"score": np.zeros((NUM_SHARDS, NUM_DRAWS, DIM + 1))},
        {"inflated": np.zeros((NUM_SHARDS + 1, NUM_DRAWS, DIM))},
    ],
    ids=lambda extra: next(f"{name}{array.shape}" for name, array in extra.items()),
)
def test_what_goes_with_the_draws_must_fit_them(values: np.ndarray, extra: dict) -> None:
    with pytest.raises(DrawsError, match=next(iter(extra))):
        dncbench.merge(values, "average", **extra)


@pytest.mark.parametrize("num_draws", [0, -3])
def test_no_draws_asked_for(values: np.ndarray, num_draws: int) -> None:
    with pytest.raises(DrawsError, match=rf"num_draws is {num_draws}"):
        dncbench.merge(values, "average", num_draws=num_draws)


def test_unknown_names_suggest_known_ones(values: np.ndarray) -> None:
    with pytest.raises(UnknownNameError, match=r"'consenus'; did you mean consensus"):
        dncbench.merge(values, "consenus")
    with pytest.raises(UnknownNameError, match=r"no setting 'weight'; did you mean weights"):
        dncbench.merge(values, "consensus", weight="shard")
    with pytest.raises(UnknownNameError, match=r"weights='matrx'; did you mean matrix"):
        dncbench.merge(values, "consensus", weights="matrx")


# ---------------------------------------------------------------- other people's methods


def _register(merged, untraced: frozenset[str] = frozenset()) -> None:
    @dncbench.register_method("theirs")
    class Theirs(dncbench.Method):
        """Returns what the test wants."""

        def fit(self, shard, key):
            return shard.values

        def merge(self, messages, key, num_draws):
            return merged(messages, num_draws), {}

    Theirs.untraced = untraced


@pytest.mark.parametrize("untraced", [frozenset(), frozenset(STEPS)])
@pytest.mark.usefixtures("clean_registry")
def test_draws_of_the_wrong_shape(values: np.ndarray, untraced: frozenset[str]) -> None:
    _register(lambda messages, num_draws: np.zeros((num_draws - 1, DIM)), untraced)
    with pytest.raises(DrawsError, match=r"'theirs' returned draws of shape \(49, 4\), not \(50"):
        dncbench.merge(values, "theirs", num_draws=50)


@pytest.mark.usefixtures("clean_registry")
def test_non_finite_merged_draws(values: np.ndarray) -> None:
    _register(lambda messages, num_draws: jnp.zeros((num_draws, DIM)).at[7, 3].set(jnp.nan))
    with pytest.raises(DrawsError, match=r"'theirs' returned a non-finite.*row 7, coordinate 3"):
        dncbench.merge(values, "theirs", num_draws=50)


@pytest.mark.usefixtures("clean_registry")
def test_an_untraced_method_gets_numpy_arrays_and_a_list(values: np.ndarray) -> None:
    def merged(messages, num_draws):
        assert isinstance(messages, list)
        assert all(type(message) is np.ndarray for message in messages)
        return np.concatenate(messages)[:num_draws]

    _register(merged, frozenset(STEPS))
    result = dncbench.merge(values, "theirs", num_draws=50)
    np.testing.assert_array_equal(result.draws, values[0, :50])
    assert result.bytes_communicated == values.nbytes


@pytest.mark.usefixtures("clean_registry")
def test_a_method_sees_only_what_it_needs(values: np.ndarray) -> None:
    seen = {}

    @dncbench.register_method("nosy")
    class Nosy(dncbench.Method):
        """Looks at what it was not promised."""

        def fit(self, shard, key):
            seen.update(log_density=shard.log_density, score=shard.score)
            return shard.values

        def merge(self, messages, key, num_draws):
            return messages[0][:num_draws], {}

    zeros = np.zeros(values.shape)
    dncbench.merge(values, "nosy", log_density=zeros[..., 0], score=zeros, num_draws=5)
    assert seen == {"log_density": None, "score": None}


# ---------------------------------------------------------------- transformed parameters


class LogGamma(eqx.Module):
    """The log density of η = log θ, θ being Gamma(shape, rate)."""

    shape: jax.Array
    rate: jax.Array

    def __call__(self, eta: jax.Array) -> jax.Array:
        return self.shape * eta[0] - self.rate * jnp.exp(eta[0])


@pytest.mark.parametrize(("share", "mean"), [(0.1, 1.2), (1.0, 1.56)])
def test_the_jacobian_is_shared_among_the_shards(share: float, mean: float) -> None:
    """Ten shards of a Gamma(30, 25) posterior, merged by their densities of η = log θ.

    The flat prior's part of each is θ^share dη: a tenth of the Jacobian θ, as `merge` says, or
    all of it, of which the product then holds nine too many: Gamma(39, 25). The standard
    deviation is .22 and .25, the merge is worth over 1900 draws, 5 standard errors are .03.
    """
    num_shards = 10
    shape, rate = 29 / num_shards + share, 25 / num_shards
    draws = np.log(np.random.default_rng(0).gamma(shape, 1 / rate, (num_shards, 4000, 1)))
    density = LogGamma(jnp.full(num_shards, shape), jnp.full(num_shards, rate))
    result = dncbench.merge(draws, "consensus + psis", density=density, num_draws=4000)
    assert result.info["ess"] > 1900
    assert np.exp(result.draws).mean() == pytest.approx(mean, abs=0.03)


@pytest.mark.parametrize("method", [None, 3, b"consensus", ["consensus"]])
def test_a_method_that_is_no_text_is_refused(values: np.ndarray, method: Any) -> None:
    with pytest.raises(UnknownNameError, match="a method is given by its name, a text, not by"):
        dncbench.merge(values, method)
