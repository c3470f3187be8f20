"""A changed figure is no figure: seals."""

import json

import pytest
from click.testing import CliRunner
from handmade import record
from hostile import replaced

from dncbench.boards.comparison import compare, remarks
from dncbench.boards.leaderboard import boards
from dncbench.boards.notes import of_board
from dncbench.boards.tables import to_markdown
from dncbench.cli import main
from dncbench.report import build
from dncbench.storage.files import digest
from dncbench.storage.merge_results import merge_results
from dncbench.storage.records import Records

CHANGES = [
    (("metrics", "mah@1", "value"), 1.1),
    (("metrics", "mah@1", "noise_floor", "mean"), 0.51),
    (("seconds", "merge"), 0.26),
    (("status",), "unreliable"),
    (("identity", "seed"), 1),
    (("info", "ess"), 1201.0),
    (("settings", "method"), {"x": 1}),
]


@pytest.mark.parametrize(("place", "value"), CHANGES)
def test_a_changed_record_is_left_out_with_one_line(tmp_path, capsys, place, value) -> None:
    store = Records(tmp_path)
    path = store.put(record(reason="none"))
    written = json.loads(path.read_text())
    path.write_text(json.dumps(replaced(written, place, value)))
    assert list(store) == []
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"dncbench: {path} is left out: its contents are not those")


def test_swapped_figures_are_noticed(tmp_path) -> None:
    store = Records(tmp_path)
    path = store.put(record(values={"mah@1": 1.0, "iad@1": 2.0}))
    written = json.loads(path.read_text())
    metrics = written["metrics"]
    metrics["mah@1"], metrics["iad@1"] = metrics["iad@1"], metrics["mah@1"]
    path.write_text(json.dumps(written))
    assert list(store) == []


LAYOUTS = {
    "as written": lambda text: text,
    "for Windows": lambda text: text.replace("\n", "\r\n"),
    "indented by tabs": lambda text: json.dumps(json.loads(text), indent="\t"),
    "in one line": lambda text: json.dumps(json.loads(text)),
    "without blanks": lambda text: json.dumps(json.loads(text), separators=(",", ":")),
    "in another order": lambda text: json.dumps(dict(reversed(json.loads(text).items())), indent=1),
    "in letters": lambda text: json.dumps(json.loads(text), ensure_ascii=False, indent=1),
}
TEXTS = ["plain", 'says "so": here', "ends with \\", "naïve\t", '","seal":"', "two\nlines"]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("said", TEXTS)
def test_layout_is_no_change(tmp_path, layout, said) -> None:
    store = Records(tmp_path)
    name = "".join(filter(str.isprintable, said))
    path = store.put(record() | {"warnings": [said], "info": {"ess": 1200.0, "said": {name: 1}}})
    written = json.loads(path.read_text())
    path.write_text(LAYOUTS[layout](path.read_text()), encoding="utf-8", newline="")
    assert list(store) == [written]


@pytest.mark.parametrize(
    ("said", "changed"),
    [
        ("one two", "one  two"),
        (r"says \"so\": here", r"says \"so\":here"),
        (r"says \"so\":here", r"says \"so\": here"),
        (r"two\nlines", r"twolines"),
        (r"naïve", r"naive"),
    ],
)
def test_a_blank_within_a_text_is_a_change(tmp_path, capsys, said, changed) -> None:
    store = Records(tmp_path)
    path = store.put(record() | {"warnings": [json.loads(f'"{said}"')]})
    written = path.read_text()
    asked = written.replace(json.dumps(json.loads(f'"{said}"')), f'"{changed}"')
    assert asked != written
    path.write_text(asked)
    assert list(store) == []
    assert "its contents are not those that were sealed" in capsys.readouterr().err


def test_a_record_that_was_read_and_changed_gets_a_new_seal(tmp_path) -> None:
    store = Records(tmp_path)
    store.put(record())
    (read,) = store
    store.put(read | {"num_draws": 7})
    assert [each["num_draws"] for each in store] == [7]


def test_boards_say_how_many_records_are_not_sealed(tmp_path) -> None:
    store = Records(tmp_path)
    store.put(record("alpha", 0))
    store.copy(record("alpha", 1))
    store.copy(record("beta", 0))
    said = "2 of 3 records are not sealed"
    (board,) = boards(store)
    assert said in of_board(board)[-1]
    assert said in to_markdown([board])
    assert said in build(store, draws=False)
    shown = CliRunner().invoke(main, ["leaderboard", "--results", str(tmp_path)])
    assert said in shown.output
    (board,) = boards([record(split=split) | {"seal": "0" * 64} for split in range(3)])
    assert of_board(board) == []


def test_a_comparison_says_how_many_records_are_not_sealed() -> None:
    sealed = record() | {"seal": "0" * 64}
    found = remarks(compare([sealed], [record()]))
    assert any(line.startswith("1 records of the second are not sealed") for line in found)
    assert not any("records of the first" in line for line in found)


def test_merging_seals_nothing_that_was_not_sealed(tmp_path) -> None:
    theirs, ours = Records(tmp_path / "theirs"), Records(tmp_path / "ours")
    theirs.copy(record("alpha"))
    theirs.put(record("beta"))
    merge_results(theirs.root, ours)
    found = {each["identity"]["method"]["label"]: each.get("seal") for each in ours}
    assert found == {"alpha": None, "beta": digest(record("beta"))}
