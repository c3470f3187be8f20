"""How long a user waits before anything is computed."""

import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_PUBLISHED = Path(__file__).parents[2] / "results" / "records"


def _python(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


class Import:
    """A fresh interpreter that imports one module: the front door, and what computes."""

    params = (("dncbench", "dncbench.merging"),)
    param_names = ("module",)
    version = "1"
    rounds, repeat, warmup_time = 1, (3, 10, 10.0), 0.0
    number = 1

    def setup(self, module: str) -> None:
        """Once before, so that files are in memory and bytecode is written."""
        _python("-c", f"import {module}")

    def time_import(self, module: str) -> None:
        """Start, import, exit."""
        _python("-c", f"import {module}")


class CommandLine:
    """``dncbench list``, for each kind of thing registered."""

    params = (("problems", "methods", "metrics"),)
    param_names = ("kind",)
    version = "1"
    rounds, repeat, warmup_time = 1, (3, 10, 10.0), 0.0
    number = 1

    def setup(self, kind: str) -> None:
        """Once before, as for the import."""
        _python("-m", "dncbench", "list", kind)

    def time_cli_list(self, kind: str) -> None:
        """Start, list, exit."""
        _python("-m", "dncbench", "list", kind)


class Reading:
    """Commands that read 10 000 records: copies of the published ones, under other seeds."""

    params = (("leaderboard", "compare", "report"),)
    param_names = ("command",)
    version = "1"
    rounds, repeat, warmup_time = 1, 3, 0.0
    number = 1
    timeout = 300

    num_records = 10_000

    def setup(self, command: str) -> None:
        """Write the records, unsealed: their identities are not those that were sealed."""
        self._folder = tempfile.mkdtemp()
        files = sorted(_PUBLISHED.rglob("*.json"))
        copies = ((seed, file) for seed in itertools.count() for file in files)
        for seed, file in itertools.islice(copies, self.num_records):
            record = json.loads(file.read_text(encoding="utf-8"))
            record.pop("seal", None)
            record["identity"]["seed"] = seed
            place = Path(self._folder, "records", str(seed), file.relative_to(_PUBLISHED))
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(json.dumps(record), encoding="utf-8")
        self._command = {
            "leaderboard": ["leaderboard", "--results", self._folder],
            "compare": ["compare", self._folder, self._folder],
            "report": ["report", "--no-draws", "--results", self._folder],
        }[command]

    def teardown(self, command: str) -> None:
        """Remove them."""
        shutil.rmtree(self._folder)

    def time_reading(self, command: str) -> None:
        """Start, read, write, exit."""
        _python("-m", "dncbench", *self._command)
