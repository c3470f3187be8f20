"""What is measured: everything registered in the checkout that these benchmarks lie in.

Not in the installed commit: asv tells a benchmark the number of its parameter in the list,
not its name, and so the list has to be the same whichever commit is installed.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from dncbench import registry
from dncbench.errors import UnknownNameError

_CHECKOUT = Path(__file__).parents[2]
_LIST = """
import json
from dncbench import registry
specs = [spec for entry in registry.entries("method") for spec in entry.specs]
print(json.dumps([specs, [entry.name for entry in registry.entries("metric")]]))
"""


def _registered() -> list[list[str]]:
    # Another process, because in this one dncbench is the installed commit's.
    command = [sys.executable, "-c", _LIST]
    listed = subprocess.run(command, cwd=_CHECKOUT, check=True, stdout=subprocess.PIPE)
    found: list[list[str]] = json.loads(listed.stdout)
    return found


METHODS, METRICS = _registered()
"""Every method, with every variant that it is registered with; every metric."""


def method(spec: str) -> Any:
    """The method that ``spec`` stands for.

    Raises:
        NotImplementedError: the installed commit has none, or it merges no points of R^d,
            which is what these benchmarks have; it tells asv to skip it.
    """
    found = method_of_any_kind(spec)
    if "real" not in getattr(found, "spaces", {"real"}):  # what an early commit did not say
        raise NotImplementedError(f"{spec} merges {' and '.join(found.spaces)}")
    return found


def method_of_any_kind(spec: str) -> Any:
    """The method that ``spec`` stands for, whatever it merges; raises as :func:`method` does."""
    from dncbench.configure import configure

    try:
        return configure("method", spec)[1]
    except UnknownNameError as error:
        raise NotImplementedError(str(error)) from error


def metric(name: str) -> Any:
    """The function that reads a metric; raises as :func:`method` does."""
    try:
        entry = registry.get("metric", name)
    except UnknownNameError as error:
        raise NotImplementedError(str(error)) from error
    # An early commit did not say what it reads.
    lacking = {"codes", "predictions"}.intersection(getattr(entry, "reads", ()))
    if lacking:
        raise NotImplementedError(f"{name} reads {' and '.join(lacking)}")
    return entry.target
