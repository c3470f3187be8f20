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
    made = copy.deepcopy(
        made or record(importance={"k_hat": 0.1}, memory_bytes={"fit": 1, "merge": 1})
    )
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
    ("identity/problem/id", "../../escaped@1"),
    ("identity/method/id", "../../escaped@1"),
    ("identity/method/id", "/tmp/escaped@1"),
    ("identity/method/id", "..@1"),
    ("identity/method/id", "a\\..\\b@1"),
    ("identity/method/id", "alpha"),
    ("identity/method/id", "alpha@1 + ../psis@1"),
    ("identity/method/id", "alpha@1\n"),
    ("identity/method/id", "alpha@" + "9" * 5000),
    ("identity/problem/id", "a" * 300 + "@1"),
    ("identity/problem/id", 1),
    ("identity/problem/id", "made@1 + made@1"),
    ("identity/split/scheme", "../../escaped"),
    ("identity/split/scheme", "dirichlet:../../0"),
    ("identity/split/scheme", "dirichlet:1.2.3"),
    ("identity/split/scheme", "sizes:0." + "1" * 300),
    ("identity/split/scheme", None),
    ("identity/split/index", "0"),
    ("identity/split/index", 1.0),
    ("identity/split/index", True),
    ("identity/split/index", -1),
    ("identity/seed", True),
    ("identity/seed", LONG),
    ("identity/seed", 2**63),
    ("identity/space", ""),
    ("identity/space", "../natural"),
    ("identity/space", ["natural"]),
    ("identity/budget", {"name": "smoke"}),
    ("identity/budget", "smoke[num_draws"),
    ("identity/budget", "smoke[]"),
    ("identity/method/label", 3),
    ("identity/method/label", "alpha[x=1]]"),
    ("identity/method/label", "alpha[x=[1]]"),
    ("identity/method/label", "alpha[1]"),
    ("identity/method/label", "alpha[x=\x1b[31m]"),
    ("identity/method/label", "alpha[x=a\nb]"),
    ("identity/method/label", "alpha[x=\u202eb]"),
    ("identity/method/label", "alpha[x=" + "9" * 2000 + "]"),
    *(
        (f"identity/{part}", GONE)
        for part in (
            *("problem", "problem/id", "problem/label", "method", "method/id", "method/label"),
            *("split", "split/scheme", "split/index", "seed", "space", "budget"),
        )
    ),
    ("identity", []),
    ("identity/more", 1),
    ("identity/problem", "made@1"),
    ("identity/split", None),
]
LABELS = [
    ("identity/method/label", "beta"),
    ("identity/method/label", "alpha + psis"),
    ("identity/problem/label", "spambase[x=1]"),
]
CONTENTS = [
    ("status", "splendid"),
    ("status", 1),
    ("status", ["ok"]),
    ("reason", 3),
    ("metrics/mah@1/value", "1.0"),
    ("metrics/mah@1/value", None),
    ("metrics/mah@1/value", True),
    ("metrics/mah@1/value", LONG),
    ("metrics/mah@1/value", 1e101),
    ("metrics/mah@1/standard_error", 1e160),
    ("metrics/mah@1/standard_error", -0.1),
    ("metrics/mah@1/standard_error", 1e-320),
    ("metrics/mah@1/standard_error", GONE),
    ("metrics/mah@1/noise_floor", GONE),
    ("metrics/mah@1/noise_floor/sd", "small"),
    ("metrics/mah@1/noise_floor/sd", -1.0),
    ("metrics/mah@1/noise_floor/mean", 5e-324),
    ("metrics/mah@1", 1.0),
    ("metrics/mah", record()["metrics"]["mah@1"]),
    ("metrics", []),
    ("seconds/merge", "fast"),
    ("seconds/merge", -1.0),
    ("seconds/merge", 1e300),
    ("seconds/merge", GONE),
    ("seconds/coffee", 1.0),
    ("seconds", GONE),
    ("other_load_cores", "none"),
    ("bytes_communicated", 1.5),
    ("bytes_communicated", -1),
    ("bytes_communicated", LONG),
    ("num_draws", 0),
    ("headline", [["mah"]]),
    ("headline", []),
    ("track", ""),
    ("track", "a\nb"),
    ("warnings", [{"a": 1}]),
    ("warnings", ["\ud800"]),
    ("metrics_not_applicable", [{}]),
    ("reference/grade", GONE),
    ("reference/grade", "Z"),
    ("reference/failures", [1]),
    ("settings/method", GONE),
    ("settings/method", {"x": {"\x1b": 1}}),
    ("budget", "smoke"),
    ("budget", {}),
    ("created", 2024),
    ("created", "yesterday"),
    ("created", "2024-01-01T00:00:00+09:00"),
    ("environment", None),
    ("environment/packages", ["jax"]),
    ("environment/commit", 7),
    ("environment/peak_memory_mib", "much"),
    ("importance", {"k_hat": "high"}),
    ("importance", {"rank_correlation": "high"}),
    ("info", {}),
    ("info/ess", "many"),
    ("info/learning_curve", [[1.0]]),
    ("info/max_rhat", None),
    ("info/deep", [[[[[[[[1]]]]]]]]),
    ("memory_bytes", {"fit": "much"}),
    ("rounds", [{"metrics": {}}]),
    ("seal", "0"),
    ("surprise", 1),
]
UNSOUND = [
    ("schema", 1, "it has schema 1, this version reads 2"),
    ("schema", "2", "it has schema '2', this version reads 2"),
    ("schema", GONE, "it is not a record"),
    ("status", "failed", "it lacks 'reason'"),
    ("status", "unreliable", "it lacks 'reason'"),
    *((path, value, "the label") for path, value in LABELS),
]
NO_JSON = [
    ("metrics/mah@1/value", float("nan"), "NaN is not a figure"),
    ("seconds/merge", float("inf"), "Infinity is not a figure"),
    ("info/ess", -float("inf"), "-Infinity is not a figure"),
]


def told(path: str, value: object) -> str:
    """Where a message says the fault is: the place, or what encloses what is not there."""
    place = path.replace("/", ".")
    outside, _, name = place.rpartition(".")
    if path in ADDED:
        return outside or f"{name!r} is no field of it"
    if value is not GONE:
        return place
    return f"{outside}: it lacks {name!r}" if outside else f"it lacks {name!r}"


ADDED = {"identity/more", "seconds/coffee", "surprise", "metrics/mah"}
HOSTILE = [
    *((path, value, told(path, value)) for path, value in (*IDENTITIES, *CONTENTS)),
    *UNSOUND,
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


@pytest.mark.parametrize(("path", "value", "said"), [*HOSTILE, *NO_JSON])
def test_a_hostile_record_is_left_out_with_one_line(tmp_path, capsys, path, value, said) -> None:
    assert_left_out(written(tmp_path, changed(path, value)), said, capsys)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"schema": 2, "a": ' + "9" * 5000 + "}"])
def test_what_the_parser_gives_up_on_is_left_out_with_one_line(tmp_path, capsys, text) -> None:
    assert_left_out(written(tmp_path, text), "it is not a record", capsys)


def test_a_figure_too_large_for_a_float_is_left_out(tmp_path, capsys) -> None:
    text = json.dumps(changed("metrics/mah@1/value", 12345.5)).replace("12345.5", "1e999")
    assert_left_out(written(tmp_path, text), "metrics.mah@1.value: inf is not a number", capsys)


@pytest.mark.parametrize(("path", "value", "said"), HOSTILE)
def test_a_hostile_record_is_never_put(tmp_path, path, value, said) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        Records(tmp_path).put(changed(path, value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("path", "value"), [*IDENTITIES, *LABELS])
def test_merging_writes_nothing_outside_the_store(tmp_path, path, value) -> None:
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
    for number, (path, value, _) in enumerate(HOSTILE):
        (place / f"hostile-{number}.json").write_text(json.dumps(changed(path, value)))
    (board,) = boards(store)
    assert [row.method for row in board.rows] == ["beta"]
    shown = CliRunner().invoke(main, ["leaderboard", "--results", str(tmp_path)])
    assert shown.exit_code == 0, shown.output
    lines = [line for line in shown.stderr.splitlines() if " is left out: " in line]
    assert len(lines) == len(HOSTILE)


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
    made.append(record("odd", label="odd[x=,y=a=b + c]"))
    store = Records(tmp_path)
    for each in made:
        validate(each)
        store.put(each)
    read = [{k: v for k, v in each.items() if k != "seal"} for each in store]
    assert sorted(map(canonical, read)) == sorted(map(canonical, made))
    assert {path.relative_to(tmp_path).parts[0] for path in tree(tmp_path)} == {"records"}
    for options in ((), ("--format", "json"), ("--format", "csv")):
        shown = CliRunner().invoke(main, ["leaderboard", "--results", str(tmp_path), *options])
        assert shown.exit_code == 0, shown.output
