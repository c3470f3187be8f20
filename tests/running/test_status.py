"""What a reader is told of a cell: its status, and warnings about the draws it was made from."""

import math

import numpy as np
import pytest

from dncbench.draws import Draws
from dncbench.running.status import (
    MAX_DIVERGENT,
    MAX_MERGE_RHAT,
    MIN_MERGE_ESS,
    complaints,
    status,
    summary_of,
    untrusted,
)
from dncbench.sampling.diagnostics import MAX_RHAT
from dncbench.storage.ratios import EQUAL_SHARE, LOW_SHARE, UNTRUSTED

GOOD = {
    "max_rhat": 1.001,
    "max_rhat_parameter": "theta[0]",
    "min_ess_bulk": 500.0,
    "min_ess_bulk_parameter": "theta[1]",
    "min_ess_tail": 400.0,
    "divergences": 0,
    "min_bfmi": 1.0,
}


def shards(*changes: dict, rounds: int = 2) -> Draws:
    """Draws of several shards whose diagnostics are good but for these changes."""
    return Draws(
        np.zeros((len(changes), 1000, 2)),
        info={
            "rounds": rounds,
            "diagnostics": [GOOD | change for change in changes],
            "sizes": [10] * len(changes),
            "gradient_evaluations": 7,
        },
    )


# ---------------------------------------------------------------- status


def test_a_merge_that_converged_is_ok_and_gives_no_reason() -> None:
    assert status({"ess": 1000.0}) == {"status": "ok"}
    at_the_limits = {"ess": MIN_MERGE_ESS, "max_rhat": MAX_MERGE_RHAT, "unreliable": []}
    assert status(at_the_limits) == {"status": "ok"}


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({"max_rhat": 1.4}, "R-hat of the merge's own sampling 1.40"),
        ({"max_rhat": math.inf}, "R-hat of the merge's own sampling inf"),
        ({"ess": 99.4}, "the merged draws are worth 99 independent ones"),
        ({"unreliable": ["Pareto k-hat 0.9"]}, "Pareto k-hat 0.9"),
        (
            {"unreliable": ["one", "two"], "max_rhat": 1.2, "ess": 5.0},
            "one; two; R-hat of the merge's own sampling 1.20; "
            "the merged draws are worth 5 independent ones",
        ),
    ],
)
def test_a_merge_that_did_not_is_unreliable_and_says_every_reason(info: dict, reason: str) -> None:
    assert status({"ess": 1000.0} | info) == {"status": "unreliable", "reason": reason}


def test_reading_the_status_changes_nothing() -> None:
    info = {"ess": 5.0, "unreliable": ["one"]}
    assert status(info) == status(info)
    assert info == {"ess": 5.0, "unreliable": ["one"]}


# ---------------------------------------------------------------- importance ratios


@pytest.mark.parametrize(
    "ratios",
    [
        None,
        {"k_hat": UNTRUSTED, "ess_share": LOW_SHARE},
        {"k_hat": -0.3, "ess_share": 0.95},
        # Ratios that hardly vary have no tail to speak of.
        {"k_hat": 3.0, "ess_share": (1 + EQUAL_SHARE) / 2},
    ],
)
def test_ratios_that_can_be_trusted_raise_no_warning(ratios: dict | None) -> None:
    assert untrusted(ratios) == []


@pytest.mark.parametrize(
    ("ratios", "told"),
    [
        ({"k_hat": 0.84, "ess_share": 0.2}, "Pareto k-hat 0.84:"),
        ({"k_hat": 0.84, "ess_share": EQUAL_SHARE}, "Pareto k-hat 0.84:"),
        ({"k_hat": None, "ess_share": 1.0}, "Pareto k-hat not finite:"),
    ],
)
def test_ratios_that_cannot_are_told(ratios: dict, told: str) -> None:
    (line,) = untrusted(ratios)
    assert line == f"{told} the fitted density misses parts of the posterior"


def test_a_low_share_is_told_however_small_k_hat_is() -> None:
    (line,) = untrusted({"k_hat": 0.2, "ess_share": 0.21})
    assert "leave 21% of the draws" in line
    assert "rounds=2" in line


# ---------------------------------------------------------------- shards


def test_shards_that_are_as_good_as_asked_raise_no_complaint() -> None:
    assert complaints(shards({}, {"max_rhat": MAX_RHAT}), "plain", 500.0) == []
    # 2 rounds of 1000 steps each.
    allowed = {"divergences": int(MAX_DIVERGENT * 2000)}
    assert complaints(shards(allowed), "plain", 500.0) == []


@pytest.mark.parametrize("change", [{"max_rhat": MAX_RHAT + 0.001}, {"min_ess_bulk": 499.0}])
def test_a_shard_that_did_not_mix_is_named_with_its_worst_coordinates(change: dict) -> None:
    made = GOOD | change
    assert complaints(shards({}, change, {}), "inflated", 500.0) == [
        f"inflated shard 1: R-hat {made['max_rhat']:.3f} in theta[0], "
        f"bulk ESS {made['min_ess_bulk']:.0f} in theta[1]"
    ]


def test_divergences_are_a_share_of_all_steps_and_a_complaint_of_their_own() -> None:
    diverged = {"divergences": 1 + int(MAX_DIVERGENT * 2000)}
    (line,) = complaints(shards(diverged), "plain", 500.0)
    assert line == "plain shard 0: 1.1% of the transitions diverged"
    assert complaints(shards(diverged, rounds=3), "plain", 500.0) == []
    both = complaints(shards({}, diverged | {"max_rhat": 1.3}), "plain", 500.0)
    assert [line.partition(":")[0] for line in both] == ["plain shard 1"] * 2


def test_draws_of_a_sampler_without_transitions_have_no_divergences() -> None:
    made = shards({}, {})
    for shard in made.info["diagnostics"]:
        del shard["divergences"], shard["min_bfmi"]
    assert complaints(made, "plain", 500.0) == []
    assert {"divergences", "min_bfmi"}.isdisjoint(summary_of(made))


def test_a_record_keeps_the_worst_shard_of_each_diagnostic() -> None:
    made = shards({"max_rhat": 1.5, "divergences": 3}, {"min_ess_bulk": 9.0, "divergences": 4})
    assert summary_of(made) == {
        "sizes": [10, 10],
        "max_rhat": 1.5,
        "min_ess_bulk": 9.0,
        "min_ess_tail": 400.0,
        "divergences": 7,
        "min_bfmi": 1.0,
        "thinned_by": 2,
        "gradient_evaluations": 7,
    }
