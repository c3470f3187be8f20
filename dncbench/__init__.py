"""dncbench: which merge of local posteriors can you trust, and what does it cost?

The names below are imported on first use, so that ``import dncbench`` and the
commands that only read (``list``, ``leaderboard``, ``--help``) stay fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dncbench.experiment import run
    from dncbench.merging import MergeResult, merge
    from dncbench.method import Method, ShardDraws
    from dncbench.metrics import Figure, Sample
    from dncbench.problem import Problem
    from dncbench.registry import load_plugin, register_method, register_metric, register_problem

__version__ = "0.1.0"

_HOME = {
    "run": "experiment",
    "merge": "merging",
    "MergeResult": "merging",
    "Method": "method",
    "ShardDraws": "method",
    "Figure": "metrics",
    "Sample": "metrics",
    "Problem": "problem",
    "load_plugin": "registry",
    "register_method": "registry",
    "register_metric": "registry",
    "register_problem": "registry",
}

__all__ = [
    "Figure",
    "MergeResult",
    "Method",
    "Problem",
    "Sample",
    "ShardDraws",
    "load_plugin",
    "merge",
    "register_method",
    "register_metric",
    "register_problem",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'dncbench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dncbench.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
