"""What is measured: everything registered."""

from typing import Any

from dncbench import registry
from dncbench.errors import UnknownNameError


def methods() -> list[str]:
    """Every method, and every variant that it is registered with."""
    return [
        spec
        for entry in registry.entries("method")
        for spec in getattr(entry, "specs", [entry.name])  # the first commits have no variants
    ]


def metrics() -> list[str]:
    """Every metric."""
    return [entry.name for entry in registry.entries("metric")]


def method(spec: str) -> Any:
    """The method that ``spec`` stands for.

    Raises:
        NotImplementedError: the installed commit has none, which tells asv to skip it.
    """
    from dncbench.configure import configure

    try:
        return configure("method", spec)[1]
    except UnknownNameError as error:
        raise NotImplementedError(str(error)) from error


def metric(name: str) -> Any:
    """The function that reads a metric; raises as :func:`method` does."""
    try:
        return registry.get("metric", name).target
    except UnknownNameError as error:
        raise NotImplementedError(str(error)) from error
