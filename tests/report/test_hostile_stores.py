"""Whatever a results folder holds, every command that reads it ends, and says what it left out."""

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from handmade import record
from hostile import as_file, mutations, whole

from dncbench.budget import get
from dncbench.cli import main
from dncbench.running.plan import Case, plan
from dncbench.scaling import FOLDER
from dncbench.storage.records import Records

COMMANDS = {
    "leaderboard": ["leaderboard", "--results", "{store}"],
    "markdown": ["leaderboard", "--results", "{store}", "--format", "md", "--metric", "all"],
    "csv": ["leaderboard", "--results", "{store}", "--format", "csv"],
    "latex": ["leaderboard", "--results", "{store}", "--format", "latex"],
    "json": ["leaderboard", "--results", "{store}", "--format", "json"],
    "compare": ["compare", "{store}", "{store}", "--everything"],
    "report": ["report", "--results", "{store}", "--no-draws", "--output", "{out}/page.html"],
    "publish": ["publish", "--results", "{store}"],
    "merge-results": ["merge-results", "{store}", "--results", "{out}"],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whole records among 500 mutated ones, for boards and for a scaling study."""
    root = tmp_path_factory.mktemp("deep") / "store"
    for made in whole():
        Records(root).put(made | {"identity": made["identity"] | {"budget": "quick"}})
    for folder in (root, root / FOLDER):
        place = folder / "records" / "made" / "alpha"
        place.mkdir(parents=True, exist_ok=True)
        for number, made in enumerate(mutations(8, 500 if folder == root else 100)):
            (place / f"hostile-{number}.json").write_bytes(as_file(made))
    return root


def outside(store: Path) -> dict[Path, str]:
    """Every file of the store but those that ``publish`` makes, by its digest."""
    made = {"leaderboard.md", "overview.svg", "report.html"}
    files = [path for path in store.parent.rglob("*") if path.is_file() and path.name not in made]
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def ended(command: list[str]) -> Result:
    """A command that ended without a traceback and sent nothing that steers a terminal."""
    result = CliRunner().invoke(main, command)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "\x1b" not in result.output + result.stderr
    return result


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_over_hostile_records(store, tmp_path, name) -> None:
    before = outside(store)
    command = [part.format(store=store, out=tmp_path) for part in COMMANDS[name]]
    result = ended(command)
    assert result.exit_code == 0, result.stderr
    assert outside(store) == before
    read = {line.partition(": ")[0] for line in result.stderr.splitlines() if "left out" in line}
    assert read == {"dncbench"}


def test_a_dry_run_plans_anew_what_has_no_whole_record(tmp_path) -> None:
    store = Records(tmp_path)
    cases = [Case("toy-logistic", 5)]
    planned = plan(cases, ["consensus"], seed=0, budget=get("quick"), records=store)
    paths = [store.path(cell.identity) for cell in planned.todo]
    paths[0].parent.mkdir(parents=True)
    command = ["run", "--dry-run", "--method", "consensus", "--results", str(tmp_path)]
    fresh = ended(command).stdout
    for number, made in enumerate(mutations(9, 100)):
        paths[number % 5].write_bytes(as_file(made))
        if number % 5 == 4:
            assert ended(command).exit_code == 0
    for path, content in zip(paths, (b"[" * 100_000, b"", b"{}", b"\xff", b"null"), strict=True):
        path.write_bytes(content)
    assert ended(command).stdout == fresh
    assert len(paths) == 5


# ---------------------------------------------------------------- text of theirs


@pytest.mark.parametrize("text", ["\x1b[31mred\x1b]0;title\x07", "one\r\ntwo\x00", "\u202egnp.exe"])
def test_nothing_of_a_record_steers_the_terminal(tmp_path, text) -> None:
    store = Records(tmp_path)
    store.put(record(warnings=[text]))
    store.put(record("beta", status="unreliable", reason=text))
    store.put(record("beta", 1, reference={"grade": "C", "failures": [text]}))
    for name in ("leaderboard", "markdown", "csv", "latex", "compare"):
        shown = ended([part.format(store=tmp_path) for part in COMMANDS[name]]).output
        assert all(each.isprintable() for each in shown.split("\n")), name


def test_nothing_of_a_record_is_markdown_or_a_formula(tmp_path) -> None:
    hostile = "a|b <img src=x> [link](http://x) `code` *bold* $x$"
    store = Records(tmp_path)
    store.put(record(warnings=[hostile], track="=HYPERLINK(1)"))
    shown = ended([part.format(store=tmp_path) for part in COMMANDS["markdown"]]).output
    assert "a\\|b \\<img src=x\\> \\[link\\](http://x) \\`code\\` \\*bold\\* \\$x\\$" in shown
    assert ",'=HYPERLINK(1)," in ended([p.format(store=tmp_path) for p in COMMANDS["csv"]]).output
