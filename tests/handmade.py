"""Records written by hand, and the few things that several test files do alike."""

import importlib
import pkgutil
import shutil
from pathlib import Path
from typing import Any

import dncbench.methods
import dncbench.metrics
import dncbench.problems
from dncbench import Method, registry
from dncbench.boards.board import Board, Row
from dncbench.boards.leaderboard import boards
from dncbench.storage.records import RECORD_SCHEMA, RULES

PLUGINS = Path(__file__).parent / "plugins"
REPOSITORY = Path(__file__).resolve().parents[1]


def record(
    method: str = "alpha",
    split: int = 0,
    values: dict[str, float] | None = None,
    *,
    error: float = 0.01,
    floor: tuple[float, float] = (0.5, 0.1),
    problem: str = "made",
    scheme: str = "random",
    seed: int = 0,
    budget: str = "smoke",
    method_version: int = 1,
    problem_version: int = 1,
    label: str | None = None,
    problem_label: str | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A whole record; ``values`` are metric ids with their values, ``fields`` replace others."""
    made = {
        "schema": RECORD_SCHEMA,
        "rules": RULES,
        "identity": {
            "problem": {"id": f"{problem}@{problem_version}", "label": problem_label or problem},
            "method": {"id": f"{method}@{method_version}", "label": label or method},
            "split": {"scheme": scheme, "index": split},
            "seed": seed,
            "space": "unconstrained",
            "budget": budget,
        },
        "settings": {"problem": {}, "method": {}},
        "budget": {"name": budget, "num_draws": 1200},
        "headline": ["mah", "iad", "skew"],
        "track": "draws",
        "created": "2024-01-01T00:00:00+00:00",
        "reference": {"grade": "B", "failures": []},
        "status": "ok",
        "metrics": {
            metric: {
                "value": value,
                "standard_error": error,
                "noise_floor": {"mean": floor[0], "sd": floor[1], "max": floor[0] + 2 * floor[1]},
            }
            for metric, value in ({"mah@1": 1.0} if values is None else values).items()
        },
        "seconds": {
            "sampling": 2.0,
            "sampling_compile": 8.0,
            "compile": 0.5,
            "fit_slowest_shard": 0.001,
            "fit_total": 0.003,
            "merge": 0.25,
        },
        "other_load_cores": 0.0,
        "bytes_communicated": 57_600,
        "num_draws": 1200,
        "info": {"ess": 1200.0},
        "importance": None,
        "metrics_not_applicable": [],
        "shards": {},
        "warnings": [],
        "environment": {},
    }
    return made | fields


def failed(method: str, split: int = 0, reason: str = "ValueError: no", **fields: Any) -> dict:
    """A record of a cell that failed: no figures, seconds or bytes."""
    made = record(method, split, {}, **{"status": "failed", "reason": reason, **fields})
    for absent in ("seconds", "other_load_cores", "bytes_communicated", "num_draws", "shards"):
        del made[absent]
    return made


def series_of(
    method: str, values: list[float], error: float = 1e-9, **fields: Any
) -> list[dict[str, Any]]:
    """Records of a method whose ``mah`` has these values, split by split."""
    return [
        record(method, split, {"mah@1": value}, error=error, **fields)
        for split, value in enumerate(values)
    ]


def board_of(records: list[dict[str, Any]]) -> Board:
    """The one board that the records make."""
    (board,) = boards(records)
    return board


def row_of(board: Board, method: str) -> Row:
    """A method's row."""
    (row,) = [row for row in board.rows if row.method == method]
    return row


def import_shipped() -> None:
    """Import every module that ships, so that a test which cleans the registry removes none."""
    for package in (dncbench.problems, dncbench.methods, dncbench.metrics):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def registered_names(kind: Any) -> set[str]:
    """All registered names of a kind."""
    return {entry.name for entry in registry.entries(kind)}


class Whole(Method):
    """A method that misses nothing."""

    def fit(self, shard, key):
        return shard.values

    def merge(self, messages, key, num_draws):
        return messages[0, :num_draws], {}


def copied_plugins(folder: Path, *names: str) -> list[str]:
    """Copies of the test plugins as ``--plugin`` options; a new path is a new module."""
    folder.mkdir(parents=True, exist_ok=True)
    options: list[str] = []
    for name in names:
        options += ["--plugin", str(shutil.copy(PLUGINS / f"{name}.py", folder))]
    return options
