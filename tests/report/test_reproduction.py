"""Published figures beside ours: every verdict can be reached, none by accident."""

import pytest
from click.testing import CliRunner
from handmade import record

from dncbench.cli import main
from dncbench.configure import configure, label
from dncbench.errors import UnknownNameError
from dncbench.report import reproduction

PAPER = "trojan2024"


def records(
    problem: str, method: str, values: dict[str, float], space: str = "unconstrained", **settings
):
    """Five splits about these values, 0.02 apart."""
    name = label(*configure("problem", problem, **settings))
    scheme = "in-order" if settings.get("published") else "random"
    made = []
    for split in range(5):
        figures = {f"{name}@1": value + 0.02 * (split - 2) for name, value in values.items()}
        one = record(method, split, figures, problem=problem, budget="quick")
        one["identity"]["space"] = space
        one["identity"]["problem"]["label"] = name
        one["settings"]["problem"] = settings
        one["identity"]["split"]["scheme"] = scheme
        made.append(one)
    return made


def verdict(found, table: int, method: str, metric: str) -> str:
    (row,) = [
        row
        for row in found
        if row.table.startswith(f"Table {table} ") and (row.method, row.metric) == (method, metric)
    ]
    return row.verdict


def test_every_table_of_the_paper_is_there() -> None:
    found = reproduction.rows(PAPER, [], "quick")
    assert len(found) == 5 * 6 * 3
    assert {row.verdict for row in found} == {"not run"}


def test_a_figure_within_the_errors_is_reproduced() -> None:
    # Table 2 has SwISS at 7.04 (sd .64 over five splits).
    near = records("spambase", "swiss", {"mah": 6.7, "iad": 0.26, "skew": 0.40})
    found = reproduction.rows(PAPER, near, "quick")
    assert verdict(found, 2, "SwISS", "mah") == "reproduced"
    assert verdict(found, 2, "SwISS", "iad") == "reproduced"
    assert verdict(found, 2, "SwISS", "skew") == "unexplained"
    assert verdict(found, 2, "Consensus", "mah") == "not run"


def test_what_the_code_computes_makes_an_artefact() -> None:
    # Table 1 has consensus at 6.25: far from the summed likelihood, near the first rows'.
    summed = records("power-plant", "consensus", {"mah": 0.2, "iad": 0.03, "skew": 0.03}, "natural")
    one_row = records(
        "power-plant-one-row", "consensus", {"mah": 6.24, "iad": 0.21, "skew": 0.06}, "natural"
    )
    alone = reproduction.rows(PAPER, summed, "quick")
    assert verdict(alone, 1, "Consensus", "mah") == "not run"  # half of the evidence is missing
    both = reproduction.rows(PAPER, summed + one_row, "quick")
    assert verdict(both, 1, "Consensus", "mah") == "artefact"
    text = reproduction.to_markdown(PAPER, both, "quick")
    assert "one observation for each density" in text


@pytest.mark.parametrize("other", [{"scheme": "sizes:0.5"}, {"version": 0}])
def test_other_experiments_are_not_mixed_in(other) -> None:
    ours = records("spambase", "swiss", {"mah": 6.7, "iad": 0.26, "skew": 0.40})
    strangers = records("spambase", "swiss", {"mah": 60.0, "iad": 0.9, "skew": 4.0})
    for one in strangers:
        if "scheme" in other:
            one["identity"]["split"]["scheme"] = other["scheme"]
        else:
            one["identity"]["method"]["id"] = f"swiss@{other['version']}"
    found = reproduction.rows(PAPER, ours + strangers, "quick")
    assert found == reproduction.rows(PAPER, ours, "quick")


def test_errors_that_would_let_anything_agree_decide_nothing() -> None:
    # Table 1 has a skew deviation of 0.06; with errors of 0.05, 0.03 and 0.3 both agree with it.
    vague = records("power-plant", "consensus", {"mah": 0.2, "iad": 0.03, "skew": 0.03}, "natural")
    for one in vague:
        one["metrics"]["skew@1"]["standard_error"] = 0.05
    assert verdict(reproduction.rows(PAPER, vague, "quick"), 1, "Consensus", "skew") == "undecided"


def test_an_artefact_needs_both_computations() -> None:
    one_row = records(
        "power-plant-one-row", "consensus", {"mah": 6.24, "iad": 0.21, "skew": 0.06}, "natural"
    )
    found = reproduction.rows(PAPER, one_row, "quick")
    assert verdict(found, 1, "Consensus", "mah") == "not run"


def test_settings_tell_the_two_priors_apart() -> None:
    text = records(
        "logistic-100d",
        "swiss",
        {"mah": 7.4, "iad": 0.4, "skew": 0.04},
        published=True,
        prior_precision=0.2,
    )
    code = records(
        "logistic-100d",
        "swiss",
        {"mah": 3.4, "iad": 0.17, "skew": 0.02},
        published=True,
        prior_precision=5.0,
    )
    found = reproduction.rows(PAPER, text + code, "quick")
    assert verdict(found, 5, "SwISS", "mah") == "artefact"
    (row,) = [r for r in found if r.table.startswith("Table 5") and r.method == "SwISS"][:1]
    assert row.text.value == pytest.approx(7.4)
    assert row.computed.value == pytest.approx(3.4)


def test_another_budget_is_not_read() -> None:
    near = records("spambase", "swiss", {"mah": 7.0, "iad": 0.26, "skew": 0.22})
    assert {row.verdict for row in reproduction.rows(PAPER, near, "paper")} == {"not run"}


def test_an_unknown_paper_is_named() -> None:
    with pytest.raises(UnknownNameError, match="did you mean trojan2024"):
        reproduction.rows("trojan2023", [], "quick")


def test_without_records_the_command_says_how_to_make_them(tmp_path) -> None:
    done = CliRunner().invoke(main, ["compare", PAPER, "--results", str(tmp_path)])
    assert done.exit_code == 2
    assert f"dncbench run --suite {PAPER} --method all" in done.output
    assert not list(tmp_path.iterdir())
