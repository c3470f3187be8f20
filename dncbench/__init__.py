"""dncbench: which merge of local posteriors can you trust, and what does it cost?

The names below are imported on first use, so that ``import dncbench`` and the
commands that only read (``list``, ``leaderboard``, ``--help``) stay fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dncbench.merging.given import merge
    from dncbench.merging.run import MergeResult
    from dncbench.method import Method, Shard
    from dncbench.metrics.sample import Figure, Sample
    from dncbench.plugins import load_plugin
    from dncbench.posterior import Posterior
    from dncbench.problem import Data, Problem
    from dncbench.registry import (
        register_correction,
        register_method,
        register_metric,
        register_problem,
    )
    from dncbench.running.run import run

__version__ = "0.1.0"

_HOME = {
    "run": "running.run",
    "merge": "merging.given",
    "MergeResult": "merging.run",
    "Method": "method",
    "Shard": "method",
    "Figure": "metrics.sample",
    "Sample": "metrics.sample",
    "Data": "problem",
    "Problem": "problem",
    "Posterior": "posterior",
    "load_plugin": "plugins",
    "register_correction": "registry",
    "register_method": "registry",
    "register_metric": "registry",
    "register_problem": "registry",
}

__all__ = [
    "Data",
    "Figure",
    "MergeResult",
    "Method",
    "Posterior",
    "Problem",
    "Sample",
    "Shard",
    "load_plugin",
    "merge",
    "register_correction",
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
