"""Two result sets cell by cell, from records made by hand."""

import pytest
from click.testing import CliRunner
from handmade import failed, record

from dncbench.boards import comparison
from dncbench.cli import main
from dncbench.errors import DataError
from dncbench.storage.identity import identity_of
from dncbench.storage.merge_results import merge_results
from dncbench.storage.records import Records


def one(first: list[dict], second: list[dict]) -> comparison.Difference:
    (difference,) = comparison.compare(first, second).differences
    return difference


def series(values: list[float], error: float = 1e-9, **fields) -> list[dict]:
    return [
        record(split=split, values={"mah@1": value}, error=error, **fields)
        for split, value in enumerate(values)
    ]


@pytest.mark.parametrize(("gap", "verdict"), [(0.27, "agree"), (0.28, "differ")])
def test_one_split_is_judged_by_its_monte_carlo_errors(gap: float, verdict: str) -> None:
    # 1.96 sqrt(0.1**2 + 0.1**2) = 0.2772
    found = one(series([1.0], 0.1), series([1.0 + gap], 0.1))
    assert found.verdict == verdict
    assert found.difference == pytest.approx(gap)
    assert found.standard_error == pytest.approx(0.1 * 2**0.5)


@pytest.mark.parametrize(("shift", "verdict"), [(0.87, "agree"), (0.89, "differ")])
def test_five_splits_are_judged_by_their_paired_spread(shift: float, verdict: str) -> None:
    # Gaps shift + (-1, 0, 0, 0, 1): t(0.975, 4) sqrt(1/10) = 0.878
    gaps = [shift - 1, shift, shift, shift, shift + 1]
    hard = [1.0, 3.0, 50.0, 7.0, 9.0]
    found = one(series(hard), series([a + b for a, b in zip(hard, gaps, strict=True)]))
    assert (found.verdict, found.splits) == (verdict, 5)


def test_equal_figures_are_the_same_whatever_their_error() -> None:
    assert one(series([1.0, 2.0], 0.5), series([1.0, 2.0], 0.5)).verdict == "same"


def test_versions_may_differ_but_terms_may_not() -> None:
    newer = record(values={"mah@2": 1.0}, method_version=3)
    assert one([record()], [newer]).metric == "mah"
    other = comparison.compare([record()], [record(seed=1)])
    assert other.differences == []
    assert other.only_first == ["made, budget smoke, alpha, split 0"]
    assert other.only_second == ["made, budget smoke, seed 1, alpha, split 0"]


def test_a_changed_status_is_said_with_its_reason() -> None:
    found = comparison.compare([record()], [failed("alpha", reason="ValueError: no")])
    assert found.differences == []
    assert found.changed == ["made, budget smoke, alpha, split 0: ok, then failed (ValueError: no)"]


def test_times_are_compared_by_their_geometric_mean() -> None:
    slow = record(split=0)
    slow["seconds"] = slow["seconds"] | {"fit_total": 0.012, "merge": 1.0}
    fast = record(split=1)
    found = comparison.compare([record(split=0), fast], [slow, fast])
    assert found.slower["alpha"] == (pytest.approx(2.0), 2)  # 4 times slower, and equally fast


def test_chance_is_counted() -> None:
    found = comparison.compare(series([1.0, 2.0], 0.1), series([1.1, 2.1], 0.1))
    assert found.expected_by_chance == pytest.approx(0.05)
    assert "by chance alone 0.1 would" in comparison.remarks(found)[0]


# ---------------------------------------------------------------- commands and folders


@pytest.fixture
def two(tmp_path):
    """Two result folders: one cell the same, one different, one missing in the first."""
    ours, theirs = Records(tmp_path / "ours"), Records(tmp_path / "theirs")
    for split, gap in ((0, 0.0), (1, 5.0)):
        ours.put(record(split=split))
        theirs.put(record(split=split, values={"mah@1": 1.0 + gap}))
    theirs.put(record("beta"))
    return tmp_path


def test_two_folders_on_the_command_line(two) -> None:
    done = CliRunner().invoke(main, ["compare", str(two / "ours"), str(two / "theirs")])
    assert done.exit_code == 0, done.output
    assert "differ" in done.stdout
    assert "only in the second: made, budget smoke, beta, split 0" in done.stdout
    same = CliRunner().invoke(main, ["compare", str(two / "ours"), str(two / "ours")])
    assert "1 the same to the last bit, 0 agree, 0 differ" in same.stdout


def test_folders_without_records_or_common_cells_are_refused(two, tmp_path) -> None:
    empty = CliRunner().invoke(main, ["compare", str(two / "ours"), str(tmp_path / "no")])
    assert empty.exit_code == 2
    assert "has no records" in empty.output
    Records(tmp_path / "other").put(record(problem="another"))
    apart = CliRunner().invoke(main, ["compare", str(two / "ours"), str(tmp_path / "other")])
    assert "no scored cell in common" in apart.output


@pytest.mark.parametrize("prefer_theirs", [False, True])
def test_merged_results_keep_ours_unless_told_otherwise(two, prefer_theirs: bool) -> None:
    store = Records(two / "ours")
    merged = merge_results(two / "theirs", store, prefer_theirs=prefer_theirs)
    assert [len(each) for each in (merged.added, merged.same, merged.conflicts)] == [1, 1, 1]
    values = {
        (identity_of(each).method.name, identity_of(each).split): each["metrics"]["mah@1"]["value"]
        for each in store
    }
    assert values == {
        ("alpha", 0): 1.0,
        ("alpha", 1): 6.0 if prefer_theirs else 1.0,
        ("beta", 0): 1.0,
    }


def test_merging_twice_adds_nothing(two) -> None:
    store = Records(two / "ours")
    merge_results(two / "theirs", store)
    before = {path: path.read_bytes() for path in store.root.rglob("*.json")}
    again = CliRunner().invoke(
        main, ["merge-results", str(two / "theirs"), "--results", str(two / "ours")]
    )
    assert "0 added, 2 there already, 1 with other figures (ours kept)" in again.stdout
    assert {path: path.read_bytes() for path in store.root.rglob("*.json")} == before


def test_a_damaged_record_is_left_where_it_is(two) -> None:
    (two / "theirs" / "records" / "made" / "beta").mkdir(exist_ok=True)
    (two / "theirs" / "records" / "made" / "beta" / "broken.json").write_text("{")
    merged = merge_results(two / "theirs", Records(two / "ours"))
    assert len(merged.added) == 1


def test_a_folder_without_records_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match="has no records"):
        merge_results(tmp_path, Records(tmp_path / "mine"))
