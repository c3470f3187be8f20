"""Whole smoke runs in the natural space and with the correction: recorded apart, scored alike."""

from pathlib import Path

import numpy as np

from dncbench.boards.leaderboard import boards
from dncbench.running import run as experiment
from dncbench.storage.records import Records


def run(folder: Path, cache: Path, problem: str, methods: list[str], **options):
    records = experiment.run(
        problem,
        methods,
        splits=1,
        budget="smoke",
        metrics=["ksd", "sw2"],
        results=folder,
        cache=cache,
        **options,
    )
    assert {record["status"] for record in records} <= {"ok", "unreliable"}, records
    return {record["identity"]["method"]["label"]: record for record in records}


def test_both_spaces_are_recorded(tmp_path: Path, session_cache: Path) -> None:
    methods = ["parametric", "oracle"]
    natural = run(tmp_path, session_cache, "skewed-gamma", methods, space="natural")
    usual = run(tmp_path, session_cache, "skewed-gamma", methods)
    for records, space in ((natural, "natural"), (usual, "unconstrained")):
        assert {record["identity"]["space"] for record in records.values()} == {space}
    # The Stein discrepancy lives in unconstrained coordinates, which a merged θ may not have.
    assert "ksd@1" in natural["parametric"]["metrics_not_applicable"]
    assert "ksd@1" in usual["parametric"]["metrics"]
    # Perfect draws are perfect in both; the log of a Gamma is closer to a Gaussian than it is
    # itself only in the tails, so the two parametric rows differ.
    for records in (natural, usual):
        figure = records["oracle"]["metrics"]["sw2@1"]
        error = np.hypot(figure["standard_error"], figure["noise_floor"]["sd"])
        assert figure["value"] - figure["noise_floor"]["mean"] < 4 * error
    # The seed is fixed; 0.15 here, 1.4 standard errors at this budget: a difference, not a proof.
    skews = [records["parametric"]["metrics"]["skew@1"]["value"] for records in (natural, usual)]
    assert abs(skews[0] - skews[1]) > 0.1
    assert {board.terms.space for board in boards(Records(tmp_path))} == {
        "natural",
        "unconstrained",
    }


def test_the_correction_brings_a_banana_closer(tmp_path: Path, session_cache: Path) -> None:
    # A single split tells little: k-hat is about its limit, and few draws carry the weights. All
    # of the first four count, whatever each says. Their gaps in standard errors are unit normal
    # if the correction did nothing, so their mean has a standard deviation of at most 1, however
    # much the reference, which they share, makes them agree: above 2.33 once in a hundred.
    methods, splits = ["parametric", "consensus"], 4
    common = {"splits": splits, "budget": "smoke", "results": tmp_path, "cache": session_cache}
    common |= {"metrics": "sw2"}
    records = {
        (record["identity"]["method"]["label"], record["identity"]["split"]["index"]): record
        for correct in (None, "psis")
        for record in experiment.run("banana", methods, correct=correct, **common)
    }
    for method in methods:
        gaps = []
        for split in range(splits):
            plain, corrected = records[method, split], records[f"{method} + psis", split]
            assert corrected["track"].endswith("+ a correction round")
            assert corrected["importance"]["k_hat"] == corrected["info"]["k_hat"]
            assert corrected["bytes_communicated"] > plain["bytes_communicated"]
            figures = [record["metrics"]["sw2@1"] for record in (plain, corrected)]
            error = np.hypot(*(figure["standard_error"] for figure in figures))
            gaps.append((figures[0]["value"] - figures[1]["value"]) / error)
        assert np.mean(gaps) > 2.33, (method, gaps)
