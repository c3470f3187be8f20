"""Importance ratios of a merge's own density: closed forms, walls, ties, and what has no figure."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dncbench.merging.importance import importance, smooth
from dncbench.running.status import untrusted


def stacked_gaussian(scale: float) -> eqx.Module:
    class Gaussian(eqx.Module):
        scale: jax.Array

        def __call__(self, eta):
            return 5.0 - 0.5 * jnp.sum(eta**2) / self.scale**2

    return Gaussian(jnp.array([scale]))


@pytest.mark.parametrize(("scale", "trusted"), [(1.0, True), (0.9, True), (3.0, False)])
def test_k_hat_tells_draws_that_miss_the_tails(scale: float, trusted: bool) -> None:
    # Ratios of N(0, scale² I) to N(0, I): bounded for scale <= 1, of infinite variance
    # for scale² > 2.
    draws = np.random.default_rng(1).standard_normal((4000, 2))
    found = importance(stacked_gaussian(scale), draws, -0.5 * np.sum(draws**2, axis=1))
    assert (found["k_hat"] < 0.5) == trusted
    assert found["points"] == 2000
    assert found["rank_correlation"] == pytest.approx(1.0, abs=1e-12)  # both fall with |η|
    assert (untrusted(found) == []) == trusted
    assert untrusted({"k_hat": 0.9, "ess_share": 0.999}) == []
    if scale == 1.0:
        assert found["ess_share"] == pytest.approx(1.0, abs=1e-9)
    if scale == 0.9:
        # 1 / E[w²] of the normalised ratio, per dimension scale sqrt(2 - scale²).
        # Over 2000 points the estimate's standard error is below 0.005.
        assert found["ess_share"] == pytest.approx(0.81 * (2 - 0.81), abs=0.02)


class Levels(eqx.Module):
    """Log densities of coded objects."""

    table: jax.Array

    def __call__(self, code):
        return self.table[code]


LEVELS = np.log1p(np.arange(50.0))


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (3.0 * LEVELS - 1.0, 1.0),
        (-(LEVELS**2), -1.0),
        (np.append(LEVELS[1::-1], LEVELS[2:]), 1 - 12 / (50 * (50**2 - 1))),  # 1 - 6 Σ d² / ...
        (np.zeros(50), None),
        (np.append(LEVELS[1:], np.nan), None),
    ],
    ids=["same", "reversed", "two changed round", "constant", "no number"],
)
def test_rank_correlation_tells_whether_objects_are_ordered_as_the_posterior_does(
    own: np.ndarray, expected: float | None
) -> None:
    found = importance(Levels(jnp.asarray(LEVELS)[None]), np.arange(50), own)["rank_correlation"]
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_ratios_beyond_what_floats_hold_have_no_k_hat() -> None:
    # One draw outweighs all others by e^5000: the rest of the tail underflows to zero.
    ratios = np.append(np.linspace(-20_000.0, -5_000.0, 1999), 0.0)
    weights, figures = smooth(ratios)
    assert weights is None
    assert figures == {"k_hat": None, "ess_share": None, "points": 2000}
    (line,) = untrusted(figures)
    assert "not finite" in line


@pytest.mark.parametrize("equal", [True, False])
def test_draws_beyond_a_wall_have_no_weight(equal: bool) -> None:
    # Half of the draws of N(0, 1) lie outside the support of the half-normal.
    draws = np.random.default_rng(0).standard_normal(2000)
    ratios = np.where(draws > 0, 0.0 if equal else -0.1 * draws**2, -np.inf)
    weights, figures = smooth(ratios)
    assert np.all(weights[draws <= 0] == 0)
    assert weights.sum() == pytest.approx(1.0)
    assert figures["k_hat"] < 0.5
    # Weights exp(-.1 x²): E[w]² / E[w²] = sqrt(1.4) / 1.2 of the half that is left, with a
    # standard error below .001 for 1000 draws.
    share = 1.0 if equal else np.sqrt(1.4) / 1.2
    assert figures["ess_share"] == pytest.approx(share * np.mean(draws > 0), abs=0.01)


@pytest.mark.parametrize("ratios", [[-np.inf, -np.inf], [0.0, np.nan], [0.0, np.inf]])
def test_ratios_of_which_nothing_can_be_made(ratios: list[float]) -> None:
    assert smooth(np.array(ratios))[0] is None


def test_a_largest_ratio_that_is_met_again_and_again_is_the_bound() -> None:
    """Three objects, whose ratios repeat: no tail, and weights as they are."""
    ratios = np.log([1.0, 2.0, 4.0])[np.arange(900) % 3]
    weights, figures = smooth(ratios)
    np.testing.assert_allclose(weights, np.exp(ratios) / np.exp(ratios).sum(), rtol=1e-12)
    assert figures["k_hat"] == 0.0
    assert figures["ess_share"] == pytest.approx(7.0**2 / (3 * (1 + 4 + 16)), rel=1e-12)


def test_a_largest_ratio_that_was_met_once_has_no_k_hat() -> None:
    """Nobody knows how often there are larger ones."""
    ratios = np.append(np.zeros(899), 3.0)
    weights, figures = smooth(ratios)
    assert weights is None
    assert figures["k_hat"] is None
