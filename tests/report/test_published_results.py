"""What is published in this repository is what its records say, byte for byte."""

import json
import subprocess

import pytest
from handmade import REPOSITORY

from dncbench.boards.summary import summaries
from dncbench.report import build
from dncbench.report.overview_figure import svg
from dncbench.report.publish import (
    BEGIN,
    END,
    leaderboard_text,
    published_boards,
    readme_block,
)
from dncbench.storage.records import Records, read_record

RESULTS = REPOSITORY / "results"
REMEDY = "run: dncbench publish --readme README.md"


def committed() -> list[dict]:
    """The records that git knows: those of a run of one's own are not published yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "results/records"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:  # not a checkout: nobody has run anything in it
        return list(Records(RESULTS))
    found = [read_record(REPOSITORY / name) for name in listed.stdout.split("\0") if name]
    return [record for record in found if record is not None]


@pytest.fixture(scope="module")
def boards():
    found = published_boards(committed())
    assert found, "there are no records to publish"
    return found


def test_the_leaderboard_is_up_to_date(boards) -> None:
    assert (RESULTS / "leaderboard.md").read_text(encoding="utf-8") == leaderboard_text(boards), (
        REMEDY
    )


def test_the_overview_figure_is_up_to_date(boards) -> None:
    assert (RESULTS / "overview.svg").read_text(encoding="utf-8") == svg(boards), REMEDY


def test_the_readmes_block_is_up_to_date(boards) -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    _, begin, rest = text.partition(BEGIN)
    block, end, _ = rest.partition(END)
    assert begin, "README.md has no leaderboard block"
    assert end, "README.md has no end of its leaderboard block"
    assert block == readme_block(summaries(boards)), REMEDY


def test_the_reports_cells_are_up_to_date(tmp_path) -> None:
    store = Records(tmp_path)
    for record in committed():
        store.put(record)
    published = (RESULTS / "report.html").read_text(encoding="utf-8")
    # Overlays and features come from cached draws, which are not kept here; the cells do not.
    assert cells(published) == cells(build(store, draws=False)), REMEDY


def cells(page: str) -> list:
    _, _, rest = page.partition('<script type="application/json" id="data">')
    sections = json.loads(rest.partition("</script>")[0])["sections"]
    assert sections
    return [(section["terms"], section["cells"]) for section in sections]


def test_no_record_is_stale_or_holds_a_path(boards) -> None:
    assert sum(board.stale for board in boards) == 0
    kept = [
        file for name in ("records", "scale", "asv") for file in (RESULTS / name).rglob("*.json")
    ]
    assert {file.relative_to(RESULTS).parts[0] for file in kept} == {"records", "scale", "asv"}
    for file in kept:
        text = file.read_text(encoding="utf-8")
        for folder in ("home", "tmp", "root", "Users"):
            assert f"/{folder}/" not in text, file
