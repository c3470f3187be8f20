"""Whether two samplers found the same law."""

import numpy as np
import pytest
from scipy.stats import norm

from dncbench.truth.two_samplers import agreement

FALSE_ALARM = 1e-4


NAMES = ("first", "second", "third")


def independent(seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    draws = np.random.default_rng(seed).standard_normal((8, 500, 3)) * [1e-3, 1.0, 50.0]
    return draws * [1.0, 1.0, scale] + [0.0, shift, 454.0]


def test_samplers_of_one_law_agree() -> None:
    # A false alarm has probability 1e-3; the resolution is that of 4000 against 4000 draws.
    verdict = agreement(independent(1), independent(2), NAMES)
    assert verdict["largest_z"] < verdict["threshold_z"]
    assert verdict["threshold_z"] == pytest.approx(norm.isf(1e-3 / 24))
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
