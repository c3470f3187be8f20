"""Records that anybody may have written: read whole or left out, and never outside the store."""

import copy
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from handmade import failed, record

from dncbench.boards.leaderboard import boards
from dncbench.cli import main
from dncbench.storage.files import canonical
from dncbench.storage.merge_results import merge_results
from dncbench.storage.records import Records, read_record, validate

GONE = object()


def changed(path: str, value: object, made: dict | None = None) -> dict:
    """A whole record with one place replaced, or taken out."""
    made = copy.deepcopy(made or record(importance={"k_hat": 0.1}, memory_bytes={"fit": 1}))
    *parents, last = path.split("/")
    place = made
    for name in parents:
        place = place[name]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return made


LONG = 10**400

IDENTITIES = [
    ("identity/problem/id", "../../escaped@1", "the problem's id '../../escaped@1'"),
    ("identity/method/id", "../../escaped@1", "the method's id '../../escaped@1'"),
    ("identity/method/id", "/tmp/escaped@1", "the method's id '/tmp/escaped@1'"),
    ("identity/method/id", "..@1", "the method's id '..@1'"),
    ("identity/method/id", "a\\..\\b@1", "the method's id"),
    ("identity/method/id", "alpha", "the method's id 'alpha' is not NAME@VERSION"),
    ("identity/method/id", "alpha@1 + ../psis@1", "the method's id"),
    ("identity/method/id", "alpha@1\n", "the method's id"),
    ("identity/method/id", "alpha@" + "9" * 5000, "the method's id"),
    ("identity/problem/id", "a" * 300 + "@1", "the problem's id"),
    ("identity/problem/id", 1, "the problem's id 1"),
    ("identity/split/scheme", "../../escaped", "its split scheme '../../escaped'"),
    ("identity/split/scheme", "dirichlet:../../0", "its split scheme"),
    ("identity/split/scheme", "sizes:0." + "1" * 300, "its split scheme"),
    ("identity/split/scheme", None, "its split scheme None"),
    ("identity/split/index", "0", "its split or seed '0'"),
    ("identity/split/index", 1.0, "its split or seed 1.0"),
    ("identity/split/index", True, "its split or seed True"),
    ("identity/seed", True, "its split or seed True"),
    ("identity/seed", LONG, "its split or seed 1000"),
    ("identity/space", "", "its identity holds '' where a name should be"),
    ("identity/space", ["natural"], "its identity holds ['natural']"),
    ("identity/budget", {"name": "smoke"}, "its identity holds {'name': 'smoke'}"),
    ("identity/method/label", 3, "its identity holds 3"),
    ("identity/method/label", "beta", "the label 'beta' is none of alpha@1"),
    ("identity/problem/label", "spambase[x=1]", "the label 'spambase[x=1]' is none of made@1"),
    *(
        (f"identity/{part}", GONE, f"its identity lacks '{part.rpartition('/')[2]}'")
        for part in (
            *("problem", "problem/id", "problem/label", "method", "method/id", "method/label"),
            *("split", "split/scheme", "split/index", "seed", "space", "budget"),
        )
    ),
    ("identity", [], "'identity' is list"),
    ("identity/problem", "made@1", "its identity lacks"),
    ("identity/split", None, "its identity lacks"),
]
CONTENTS = [
    ("schema", 1, "it has schema 1, this version reads 2"),
    ("schema", "2", "it has schema 2, this version reads 2"),
    ("schema", GONE, "it is not a record"),
    ("status", "splendid", "its status 'splendid' is none"),
    ("status", 1, "'status' is int"),
    ("status", "failed", "it lacks 'reason'"),
    ("status", "unreliable", "it lacks 'reason'"),
    ("metrics/mah@1/value", "1.0", "the value of mah@1 is '1.0', not a finite number"),
    ("metrics/mah@1/value", None, "the value of mah@1 is None"),
    ("metrics/mah@1/value", True, "the value of mah@1 is True"),
    ("metrics/mah@1/value", LONG, "the value of mah@1 is 1000"),
    ("metrics/mah@1/standard_error", GONE, "the standard_error of mah@1 is None"),
    ("metrics/mah@1/noise_floor", GONE, "mah@1 lacks 'noise_floor'"),
    ("metrics/mah@1/noise_floor/sd", "small", "the noise floor (sd) of mah@1 is 'small'"),
    ("metrics/mah@1", 1.0, "mah@1: 1.0 is not an object"),
    ("metrics/mah", record()["metrics"]["mah@1"], "the metric's id 'mah' is not NAME@VERSION"),
    ("metrics", [], "'metrics' is list"),
    ("seconds/merge", "fast", "its seconds: 'merge' is str"),
    ("seconds/merge", GONE, "its seconds lacks 'merge'"),
    ("seconds", GONE, "it lacks 'seconds'"),
    ("other_load_cores", "none", "'other_load_cores' is str"),
    ("bytes_communicated", 1.5, "'bytes_communicated' is float"),
    ("headline", [["mah"]], "its headline: ['mah'] is not a text"),
    ("warnings", [{"a": 1}], "its warnings: {'a': 1} is not a text"),
    ("reference/grade", GONE, "its reference lacks 'grade'"),
    ("reference/failures", [1], "its reference's failures: 1 is not a text"),
    ("settings/method", GONE, "its settings lacks 'method'"),
    ("budget", "smoke", "'budget' is str"),
    ("created", 2024, "'created' is int"),
    ("environment", None, "'environment' is NoneType"),
    ("importance/k_hat", "high", "the k-hat is 'high'"),
    ("memory_bytes", {"fit": "much"}, "the memory of fit is 'much'"),
    ("rounds", [{"metrics": {}}], "a round lacks 'bytes_up'"),
]
NO_JSON = [
    ("metrics/mah@1/value", float("nan"), "NaN is not a figure"),
    ("seconds/merge", float("inf"), "Infinity is not a figure"),
    ("info/ess", -float("inf"), "-Infinity is not a figure"),
]


def written(folder: Path, content: object) -> Path:
    """A file as somebody else's results folder would hold it."""
    path = folder / "records" / "made" / "alpha" / "random-0-0-somebody.json"
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def assert_left_out(path: Path, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No record, and one line that names the file and what is wrong with it."""
    assert read_record(path) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"dncbench: {path} is left out: ")
    assert said in line


def tree(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder, with its content."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("path", "value", "said"), [*IDENTITIES, *CONTENTS, *NO_JSON])
def test_a_hostile_record_is_left_out_with_one_line(tmp_path, capsys, path, value, said) -> None:
    assert_left_out(written(tmp_path, changed(path, value)), said, capsys)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"schema": 2, "a": ' + "9" * 5000 + "}"])
def test_what_the_parser_gives_up_on_is_left_out_with_one_line(tmp_path, capsys, text) -> None:
    assert_left_out(written(tmp_path, text), "it is not a record", capsys)


def test_a_figure_too_large_for_a_float_is_left_out(tmp_path, capsys) -> None:
    text = json.dumps(changed("metrics/mah@1/value", 12345.5)).replace("12345.5", "1e999")
    assert_left_out(written(tmp_path, text), "the value of mah@1 is inf", capsys)


@pytest.mark.parametrize(("path", "value", "said"), [*IDENTITIES, *CONTENTS])
def test_a_hostile_record_is_never_put(tmp_path, path, value, said) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Records(tmp_path).put(changed(path, value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("path", "value", "said"), IDENTITIES)
def test_merging_writes_nothing_outside_the_store(tmp_path, path, value, said) -> None:
    hostile = written(tmp_path / "deep" / "theirs", changed(path, value))
    good = Records(tmp_path / "deep" / "theirs").put(record("beta"))
    ours = Records(tmp_path / "deep" / "ours")
    before = tree(tmp_path)
    assert before.keys() == {hostile, good}
    merged = merge_results(tmp_path / "deep" / "theirs", ours)
    added = ours.root / good.relative_to(tmp_path / "deep" / "theirs")
    assert tree(tmp_path) == before | {added: good.read_bytes()}
    assert merged.added == [str(added.relative_to(ours.root))]
    assert (merged.same, merged.conflicts) == ([], [])


def test_a_store_with_hostile_records_still_has_a_board(tmp_path) -> None:
    store = Records(tmp_path)
    place = store.put(record("beta")).parent
    for number, (path, value, _) in enumerate([*IDENTITIES, *CONTENTS]):
        (place / f"hostile-{number}.json").write_text(json.dumps(changed(path, value)))
    (board,) = boards(store)
    assert [row.method for row in board.rows] == ["beta"]
    shown = CliRunner().invoke(main, ["leaderboard", "--results", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    lines = [line for line in shown.stderr.splitlines() if " is left out: " in line]
    assert len(lines) == len(IDENTITIES) + len(CONTENTS)


def test_whole_records_of_every_status_are_read(tmp_path) -> None:
    made = [
        record(),
        record("plugin_1.x", label="plugin_1.x[a='../..']", problem_label="made[b=/etc/passwd]"),
        record("swiss", 3, scheme="dirichlet:1e-3", seed=-1),
        record("beta", status="unreliable", reason="R-hat", other_load_cores=None),
        record("gamma", importance=None, memory_bytes={"fit": 8, "merge": 0}, rounds=[]),
        *(failed(status.replace(" ", "-"), status=status) for status in ("failed", "timeout")),
        failed("apart", status="not applicable"),
    ]
    corrected = record("swiss", label="swiss[x=1] + psis")
    made.append(changed("identity/method/id", "swiss@1 + psis@2", corrected))
    made.append(record("odd", problem="odd", label="odd[", problem_label="odd[a[b"))
    store = Records(tmp_path)
    for each in made:
        validate(each)
        store.put(each)
    assert sorted(map(canonical, store)) == sorted(map(canonical, made))
    assert {path.relative_to(tmp_path).parts[0] for path in tree(tmp_path)} == {"records"}
    for options in ((), ("--summary",), ("--format", "csv")):
        shown = CliRunner().invoke(main, ["leaderboard", "--results", str(tmp_path), *options])
        assert shown.exit_code == 0, shown.output
