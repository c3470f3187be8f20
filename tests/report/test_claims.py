"""A paper's claims: every verdict can be reached, none by accident."""

import math
from pathlib import Path

import pytest
from click.testing import CliRunner
from handmade import record

from dncbench.cli import main
from dncbench.configure import configure, label
from dncbench.report.claim_kinds import Finding
from dncbench.report.claim_records import ratio_of
from dncbench.report.claims import examine
from dncbench.report.claims_text import commands, to_markdown
from dncbench.report.reproduction import published
from dncbench.running import suites
from dncbench.storage.identity import version_of
from dncbench.storage.records import Records

PAPER = "dasilva2024"
CLAIMS = published(PAPER)["claims"]
CASE = "multisets[num_items=8,size=6]"  # of the small suite
SMALL = [case.problem for case in suites.get(PAPER, 3).cases]
ALL = [case.problem for case in suites.get("discrete", 3).cases]


def made(case: str, method: str, values: list[float], metric: str = "tv", **fields) -> list[dict]:
    """A record for each split with these values of a metric."""
    (problem, chosen), (entry, configured) = configure("problem", case), configure("method", method)
    settings = {
        "problem": {"num_shards": 4},
        "method": {"steps": 3000, "batch": 128} if "gflownet" in method else {},
    }
    records = [
        record(
            entry.name,
            split,
            {f"{metric}@1": value},
            problem=problem.name,
            problem_version=version_of(problem.id),
            method_version=version_of(entry.id),
            label=label(entry, configured),
            problem_label=label(problem, chosen),
            **{"budget": "quick", "settings": settings} | fields,
        )
        for split, value in enumerate(values)
    ]
    for one in records:
        one["identity"]["space"] = chosen.space.name
    return records


def about(value: float, spread: float = 0.02) -> list[float]:
    """Three splits."""
    return [value * math.exp(step * spread) for step in (-1, 0, 1)]


def nowhere(case: str, method: str) -> list[dict]:
    """One record that says that the method does not apply."""
    return [one | {"status": "not applicable", "metrics": {}} for one in made(case, method, [0.0])]


def finding(records: list[dict], name: str) -> Finding:
    (found,) = [each for each in examine(PAPER, records, "quick") if each.name == name]
    return found


def verdict_of(found: Finding, *start: str) -> str:
    """Of the row that begins so."""
    (row,) = [row for row in found.rows if row.cells[: len(start)] == start]
    return row.verdict


def test_every_claim_can_be_read_and_says_how_to_run_it() -> None:
    found = examine(PAPER, [], "quick")
    assert [each.name for each in found] == list(CLAIMS)
    assert {each.verdict for each in found} == {"not run"}
    discrete, small = commands(found, "quick")
    assert discrete.startswith("dncbench run --suite discrete --budget quick --method ")
    assert "'central-gflownet[loss=detailed,steps=300]'" in small
    assert "'ep-gflownet-exact[broken=0.5]'" in small


# ---------------------------------------------------------------- ratios


@pytest.mark.parametrize(
    ("merged", "spread", "verdict"),
    [(0.15, 0.02, "holds"), (0.25, 0.02, "fails"), (0.21, 0.1, "undecided")],
)
def test_a_ratio_is_held_against_its_limit(merged: float, spread: float, verdict: str) -> None:
    records = made("grid-world", "ep-gflownet", about(merged, spread))
    records += made("grid-world", "central-gflownet", [0.1] * 3)
    assert verdict_of(finding(records, "accuracy"), "grid-world") == verdict


def everywhere(**odd: float) -> list[dict]:
    """All tasks, with ratios of one but for some."""
    records = []
    for case in ALL:
        records += made(case, "ep-gflownet", about(0.1 * odd.get(case.split("[")[0], 1.0)))
        records += made(case, "central-gflownet", about(0.1))
    return records


def test_a_claim_holds_where_all_of_it_does() -> None:
    assert finding(everywhere(), "accuracy").verdict == "holds"


def test_a_claim_fails_where_one_task_fails() -> None:
    found = finding(everywhere(**{"grid-world": 3.0}), "accuracy")
    assert found.verdict == "fails"
    assert f"Rows: holds {len(ALL) - 1}, fails 1." in found.sentence
    assert "3 (grid-world)" in found.sentence


@pytest.mark.parametrize("absent", ["ep-gflownet", "central-gflownet"])
def test_a_claim_of_which_a_part_is_missing_is_undecided(absent: str) -> None:
    records = [
        one
        for one in everywhere()
        if (one["identity"]["problem"]["label"], one["identity"]["method"]["label"])
        != ("grid-world", absent)
    ]
    found = finding(records, "accuracy")
    assert found.verdict == "undecided"
    assert verdict_of(found, "grid-world") == "not run"
    assert found.missing == {"discrete": sorted({absent, "ep-gflownet-exact"})}


def test_one_split_decides_nothing() -> None:
    records = made("grid-world", "ep-gflownet", [0.1])
    records += made("grid-world", "central-gflownet", [0.1])
    assert verdict_of(finding(records, "accuracy"), "grid-world") == "undecided"


def test_splits_are_paired_and_few_of_them_widen_the_interval() -> None:
    first = {(0, split): value for split, value in enumerate(about(0.2, 0.3))}
    second = {(0, split): value for split, value in enumerate([*about(0.1, 0.3), 9.0])}
    same = ratio_of(first, second)
    assert same is not None
    assert (same.value, same.number) == (pytest.approx(2.0), 3)
    assert same.error == pytest.approx(0.0, abs=1e-12)
    spread = ratio_of(first, dict.fromkeys(first, 0.1))
    assert spread is not None
    assert spread.error == pytest.approx(0.3 / math.sqrt(3))
    # P(t < 4.527) = P(normal < 2) with two degrees of freedom: F(t) = (1 + t / sqrt(t² + 2)) / 2.
    share = math.erf(2 / math.sqrt(2))
    times = math.sqrt(2 * share**2 / (1 - share**2))
    assert spread.interval[1] == pytest.approx(2.0 * math.exp(times * spread.error))


@pytest.mark.parametrize("change", ["budget", "method", "problem", "metric", "suite"])
def test_other_experiments_are_not_mixed_in(change: str) -> None:
    ours = made("grid-world", "ep-gflownet", about(0.1))
    ours += made("grid-world", "central-gflownet", about(0.1))
    strangers = made("grid-world", "ep-gflownet", about(9.0))
    for one in strangers:
        identity = one["identity"]
        if change == "budget":
            identity["budget"] = "smoke"
        elif change == "metric":
            identity["split"]["index"] += 10
            one["metrics"] = {"tv@0": one["metrics"]["tv@1"]}
        elif change == "suite":
            identity["split"]["scheme"] = "in-order"
        else:
            identity[change]["id"] = identity[change]["id"].replace("@1", "@0")
    assert finding(ours + strangers, "accuracy").rows == finding(ours, "accuracy").rows


def test_a_control_and_what_does_not_apply_are_not_counted() -> None:
    records = []
    for case in ALL:
        records += made(case, "ep-gflownet", about(0.01))
        if case.startswith("phylogenetics"):
            records += nowhere(case, "pcvi")
        else:
            records += made(case, "pcvi", about(1e-4 if case == "sequences[reward=site]" else 0.5))
    found = finding(records, "pcvi")
    assert found.verdict == "holds"
    assert verdict_of(found, "sequences[reward=site]") == "control"
    assert verdict_of(found, "phylogenetics") == "not applicable"
    assert "control" not in found.sentence
    assert not found.missing["discrete"]
    worse = records + made("banana-grid", "pcvi", about(0.05))
    assert finding(worse[-3:] + records[:-3], "pcvi").verdict == "fails"


# ---------------------------------------------------------------- convergence


@pytest.mark.parametrize(
    ("contrastive", "spread", "trajectory", "verdict"),
    [
        (0.1, 0.02, 0.2, "holds"),  # faster
        (0.1, 0.02, 0.1, "holds"),  # as fast
        (0.15, 0.02, 0.1, "fails"),
        (0.1, 0.5, 0.1, "undecided"),  # could be twice as bad
    ],
)
def test_contrastive_balance_is_held_against_both(
    contrastive: float, spread: float, trajectory: float, verdict: str
) -> None:
    of = "central-gflownet[loss={},steps=300]".format
    records = made(CASE, of("contrastive"), about(contrastive, spread))
    records += made(CASE, of("trajectory"), [trajectory] * 3)
    # Of one comparison alone the claim can fail, and not hold.
    alone = "fails" if verdict == "fails" else "undecided"
    assert verdict_of(finding(records, "convergence"), CASE, "300") == alone
    records += made(CASE, of("detailed"), [3.0] * 3)
    assert verdict_of(finding(records, "convergence"), CASE, "300") == verdict
    assert verdict_of(finding(records, "convergence"), CASE, "1000") == "not run"


# ---------------------------------------------------------------- one broken client


def bounded(method: str, values: list[float], bound: float, case: str = CASE) -> list[dict]:
    return made(case, method, values, "jeffreys", info={"ess": 1.0, "failure_bound": bound})


def test_a_record_beyond_its_bound_fails() -> None:
    within = bounded("ep-gflownet-exact", [0.1, 0.2, 0.3], 0.4)
    found = finding(within, "failure-bound")
    assert verdict_of(found, CASE) == "holds"
    assert found.verdict == "undecided"  # the other tasks were not run
    assert "3 of 3 records are within the bound; jeffreys is at most 0.75 of it" in found.sentence
    beyond = bounded("ep-gflownet-exact[broken=2.0]", [0.1, 0.5, 0.1], 0.4)
    found = finding(within + beyond, "failure-bound")
    assert verdict_of(found, CASE, "ep-gflownet-exact[broken=2.0]") == "fails"
    assert found.verdict == "fails"
    assert "5 of 6" in found.sentence


def test_a_bound_that_holds_everywhere_holds() -> None:
    records = []
    for case in dict.fromkeys(ALL + SMALL):
        records += bounded("ep-gflownet-exact", [0.1], 0.1, case)
    assert finding(records, "failure-bound").verdict == "holds"


def test_a_record_without_its_bound_says_nothing() -> None:
    found = finding(made(CASE, "ep-gflownet-exact", [0.1], "jeffreys"), "failure-bound")
    assert verdict_of(found, CASE) == "not run"
    assert found.sentence == "No record has both."


@pytest.mark.parametrize(
    ("last", "spread", "verdict"),
    [(0.5, 0.02, "holds"), (0.2, 0.02, "fails"), (0.05, 0.02, "fails"), (0.25, 0.5, "undecided")],
)
def test_more_noise_has_to_cost_more(last: float, spread: float, verdict: str) -> None:
    records = []
    for case in SMALL:
        for broken, values in ((0.1, [0.1] * 3), (0.5, [0.2] * 3), (2.0, about(last, spread))):
            records += made(case, f"ep-gflownet-exact[broken={broken}]", values)
    found = finding(records, "failure-growth")
    assert found.verdict == verdict
    assert verdict_of(found, CASE, "0.1") == "-"
    assert verdict_of(found, CASE, "0.5") == "holds"
    assert found.missing == {PAPER: ["ep-gflownet-exact"]}


# ---------------------------------------------------------------- communication


def rounds(number: int) -> list[dict]:
    one = {"fit_by_shard": [], "fit_total": 1.0, "merge": 0.0}
    return [one | {"bytes_up": 1, "bytes_down": 0, "metrics": {}}] * number


@pytest.mark.parametrize(
    ("number", "sent", "verdict"),
    [(1, 12_287_999, "holds"), (2, 1000, "fails"), (1, 12_288_000, "fails")],
)
def test_one_round_is_held_against_one_for_each_update(
    number: int, sent: int, verdict: str
) -> None:
    sent_once = {"rounds": rounds(number), "bytes_communicated": sent}
    records = made("multisets", "ep-gflownet", [0.1], **sent_once)
    records += made("multisets", "central-gflownet", [0.1])
    found = finding(records, "communication")
    assert verdict_of(found, "multisets") == verdict
    # 3000 updates of 128 objects to 4 clients and back, 4 bytes each.
    assert "centralised: rounds 3,000, bytes 12,288,000" in found.sentence


def test_records_that_do_not_count_rounds_say_nothing() -> None:
    records = made("grid-world", "ep-gflownet", [0.1])
    found = finding(records + made("grid-world", "central-gflownet", [0.1]), "communication")
    assert verdict_of(found, "grid-world") == "not run"


# ---------------------------------------------------------------- text


def test_verdicts_come_first_and_tables_after() -> None:
    records = made("grid-world", "ep-gflownet", [0.3, 0.3])
    records += made("grid-world", "central-gflownet", [0.1, 0.1])
    text = to_markdown(PAPER, examine(PAPER, records, "quick"), "quick")
    claims, _, rest = text.partition("\n## accuracy\n")
    assert (
        "| accuracy: The merged law is about as accurate as one network trained on all rewards, on "
        "every task. | fails | tv of merged over that of centralised is 3 (grid-world). "
        f"Rows: fails 1, not run {len(ALL) - 1}. |\n"
    ) in claims
    assert "sizes and rewards, networks and numbers of updates are this suite's own" in claims
    assert (
        "| case | merged | centralised | clients | merged / centralised | verdict |\n"
        "|---|---|---|---|---|---|\n"
        "| grid-world | 0.3 | 0.1 | - | 3 (3 to 3, n 2) | fails |\n"
    ) in rest
    assert "Reads `tv`; merged is `ep-gflownet`, centralised is" in rest
    assert rest.rstrip().splitlines()[-1] == "```"
    assert "\n## Not run yet\n" in rest


def test_the_command_writes_the_report(tmp_path: Path) -> None:
    store = Records(tmp_path)
    for one in made("grid-world", "ep-gflownet", [0.1, 0.1]):
        store.put(one)
    arguments = ["compare", PAPER, "--results", str(tmp_path)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2  # nothing to compare with
    for one in made("grid-world", "central-gflownet", [0.1, 0.1]):
        store.put(one)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.output
    text = (tmp_path / f"reproduction_{PAPER}.md").read_text(encoding="utf-8")
    assert "| grid-world | 0.1 | 0.1 | - | 1 (1 to 1, n 2) | holds |" in text


def test_without_records_the_commands_are_named(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["compare", PAPER, "--results", str(tmp_path)])
    assert done.exit_code == 2
    assert "dncbench run --suite discrete" in done.output
    assert f"dncbench run --suite {PAPER}" in done.output
    assert not list(tmp_path.iterdir())
