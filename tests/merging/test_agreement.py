"""Shards that contradict each other are told, and those that merely differ are not."""

import jax.numpy as jnp
import numpy as np
import pytest

import dncbench
import dncbench.methods.baselines
import dncbench.methods.consensus
import dncbench.methods.parametric
import dncbench.methods.swiss
from dncbench.merging.agreement import Agreement, agreement
from dncbench.merging.chains import ess_of_chains

NUM_SHARDS, NUM_DRAWS = 4, 500


def scattered(shape: str, dim: int, seed: int, num_draws: int = NUM_DRAWS) -> np.ndarray:
    """Shards of one shape and different scales, each shifted by a draw of its own.

    Subposterior means scatter so under random splits.
    """
    rng = np.random.default_rng(seed)
    size = (NUM_SHARDS, num_draws + 1, dim)
    draws = {
        "gaussian": rng.standard_normal,
        "skewed": lambda size: np.log(rng.gamma(0.5, size=size)),
        "heavy": lambda size: rng.standard_t(5, size=size),
    }[shape](size)
    turn = rng.standard_normal((dim, dim)) / np.sqrt(dim) + 0.3 * np.eye(dim)
    draws = rng.uniform(0.5, 2.0, (NUM_SHARDS, 1, 1)) * (draws @ turn)
    return draws[:, 1:] - draws[:, :1]


def held(draws: np.ndarray, inflation: float = 1.0) -> Agreement:
    found = agreement(draws, np.full(len(draws), float(draws.shape[1])), inflation)
    assert found is not None
    return found


@pytest.mark.parametrize("shape", ["gaussian", "skewed", "heavy"])
@pytest.mark.parametrize("dim", [1, 2, 10, 50])
def test_shards_of_one_posterior_agree(shape: str, dim: int) -> None:
    found = [held(scattered(shape, dim, seed)) for seed in range(10)]
    assert not any(one.contradicts for one in found)


@pytest.mark.parametrize("dim", [2, 10])
def test_the_statistic_is_about_one_for_gaussians(dim: int) -> None:
    """Q of 40 sets is χ² with 40 x 3 x d degrees of freedom; bounds are 5 standard errors.

    With so many draws that what they leave uncertain of the covariances adds less than a
    percent; the joint statistic alone, which is the larger in excess only in some sets.
    """
    ratios = []
    for seed in range(40):
        draws = scattered("gaussian", dim, seed, 4000)
        means, precisions = draws.mean(1), [np.linalg.inv(np.cov(one.T)) for one in draws]
        mean = np.linalg.solve(
            sum(precisions), sum(p @ m for p, m in zip(precisions, means, strict=True))
        )
        apart = means - mean
        expected = sum(a @ p @ a for a, p in zip(apart, precisions, strict=True)) / (3 * dim)
        found = held(draws)
        if found.degrees == 3 * dim:
            assert found.ratio == pytest.approx(expected, rel=0.01)
        ratios.append(expected)
    assert np.mean(ratios) == pytest.approx(1.0, abs=5 * np.sqrt(2 / (40 * 3 * dim)))


def switched(draws: np.ndarray) -> np.ndarray:
    draws = 0.3 * draws + np.array([-2.0, 2.0])
    draws[1] = draws[1, :, ::-1]
    return draws


def other_unit(factor: float):
    def change(draws: np.ndarray) -> np.ndarray:
        draws = 0.1 * draws + np.array([3.0, 0.5])
        draws[1, :, 0] *= factor
        return draws

    return change


CONTRADICTIONS = {
    "switched labels": (switched, {0, 1}),
    "a thousand times": (other_unit(1000.0), {0}),
    "a thousandth": (other_unit(0.001), {0}),
    "wrong sign": (lambda draws: other_unit(-1.0)(draws), {0}),
}


@pytest.mark.parametrize("contradiction", CONTRADICTIONS)
@pytest.mark.parametrize("scale", [1.0, 1e12, 1e-12])
def test_the_shard_that_is_off_and_its_coordinate_are_named(
    contradiction: str, scale: float
) -> None:
    change, coordinates = CONTRADICTIONS[contradiction]
    found = held(scale * change(scattered("gaussian", 2, 0)))
    assert found.contradicts
    assert found.shard == 1
    assert found.coordinate in coordinates


def test_one_coordinate_is_seen_among_many() -> None:
    draws = scattered("gaussian", 50, 0) / 10 + np.arange(50.0)
    draws -= draws.mean(1, keepdims=True) - np.arange(50.0)  # agree but for what comes now
    draws[2][:, [7, 40]] = draws[2][:, [40, 7]]
    found = held(draws)
    assert found.contradicts
    assert (found.shard, found.coordinate in (7, 40)) == (2, True)


def test_a_direction_is_seen_that_no_coordinate_shows() -> None:
    # Along the diagonal the shards are 100 times as broad as across it, where they differ by
    # 20 standard deviations: a fifth of one in each coordinate.
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((NUM_SHARDS, NUM_DRAWS, 2)) * np.array([1.0, 0.01])
    draws[3, :, 1] += 0.2
    found = held(draws @ np.array([[1.0, 1.0], [1.0, -1.0]]))
    assert found.contradicts
    assert found.shard == 3


@pytest.mark.parametrize(
    "draws",
    [
        np.random.default_rng(0).standard_normal((1, 50, 2)),
        np.random.default_rng(0).standard_normal((3, 4, 2)),
        np.ones((3, 50, 2)),
    ],
    ids=["one shard", "four draws", "constant"],
)
def test_of_some_nothing_can_be_said(draws: np.ndarray) -> None:
    assert agreement(draws, np.full(len(draws), 50.0)) is None


def test_a_chain_that_hardly_moved_does_not_contradict() -> None:
    # 500 draws of an AR(1) chain with .98 are worth 5 of 10 dimensions: their covariance is
    # far too small for what their mean is off.
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((NUM_SHARDS, NUM_DRAWS, 10))
    for t in range(1, NUM_DRAWS):
        draws[:, t] = 0.98 * draws[:, t - 1] + np.sqrt(1 - 0.98**2) * draws[:, t]
    found = agreement(draws, np.array([ess_of_chains(shard[None]) for shard in draws]))
    assert found is None or not found.contradicts


# ---------------------------------------------------------------- what a merge says


@pytest.mark.parametrize("method", ["consensus", "parametric", "swiss-product", "average", "swiss"])
def test_every_merge_of_draws_tells_it_and_is_worth_less(method: str) -> None:
    draws = switched(scattered("gaussian", 2, 0))
    # Inflated subposteriors have the same means and 1/S of the covariance.
    means = draws.mean(1, keepdims=True)
    inflated = means + (draws - means) / np.sqrt(len(draws))
    given = {"inflated": inflated} if method == "swiss" else {"values": draws}
    result = dncbench.merge(method=method, num_draws=100, **given)
    found = held(draws)
    (line,) = result.info["warnings"]
    assert "the shards contradict each other" in line
    assert "shard 1 is farthest" in line
    assert "(theta[" in line
    assert result.info["homogeneity"]["ratio"] == pytest.approx(found.ratio)
    assert result.info["ess"] == pytest.approx(1 / (found.ratio - 1))
    assert result.info["ess"] < 1


def test_a_merge_that_agrees_keeps_its_worth() -> None:
    result = dncbench.merge(scattered("gaussian", 2, 0), "consensus", num_draws=100)
    assert result.info["ess"] == 100
    assert result.info["warnings"] == []
    assert result.info["homogeneity"]["ratio"] < 3


@pytest.mark.usefixtures("clean_registry")
def test_a_merge_that_knows_the_densities_is_not_bound_by_the_draws() -> None:
    @dncbench.register_method("knows")
    class Knows(dncbench.Method):
        """Could tell by the densities where the posterior is."""

        needs = frozenset({"draws", "model"})

        def fit(self, shard, key):
            return shard.values

        def merge(self, messages, key, num_draws):
            return messages[0][:num_draws], {}

    draws = switched(scattered("gaussian", 2, 0))
    result = dncbench.merge(draws, "knows", density=jnp.sum, num_draws=100)
    assert result.info["ess"] == 100
    assert "contradict" in result.info["warnings"][0]
