"""Holding one plugin file to the laws, and saying which it breaks."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dncbench import registry
from dncbench.contracts.subjects import choose
from dncbench.entry import Kind
from dncbench.errors import DncbenchError, PluginError
from dncbench.plugins import load_plugin

_FOLDER = Path(__file__).parent
_LAWS: dict[Kind, tuple[str, ...]] = {
    "method": ("test_method_contract.py", "test_laws.py", "test_codes_contract.py"),
    "problem": ("test_problem_contract.py",),
    "metric": ("test_metric_contract.py",),
}


@dataclass
class Law:
    """One law and what became of it.

    Attributes:
        name: the law as a sentence.
        passed: how many of its cases held.
        failures: case and first line of the reason, of those that did not.
        inapplicable: reasons why it was not applied.
    """

    name: str
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    inapplicable: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """ "pass", "FAIL" or "not applicable"."""
        if self.failures:
            return "FAIL"
        return "pass" if self.passed else "not applicable"


def check(file: str | Path) -> tuple[list[str], list[Law]]:
    """Hold everything that a plugin file registers to the laws of its kind.

    Args:
        file: a Python file.

    Returns:
        What was registered, as "method median", and the laws in their order.

    Raises:
        PluginError: the file cannot be loaded, or registers nothing.
        ContractError: what it registers misses part of its contract.
        DncbenchError: pytest is not installed.
    """
    try:
        import pytest
    except ImportError as error:
        raise DncbenchError(
            "dncbench check runs the contract tests, which need pytest: pip install pytest"
        ) from error
    before = _registered()
    load_plugin(file)
    new = _registered() - before
    if not new:
        raise PluginError(f"plugin {file} registers nothing; use register_method and the like")
    choose(new)
    laws = _Laws()
    files = [str(_FOLDER / name) for kind in _LAWS for name in _LAWS[kind] if kind in dict(new)]
    # One process: the laws share merges. No configuration: a user's would be found otherwise.
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:terminal"]
    status = pytest.main([*options, "-c", str(_FOLDER / "check.ini"), *files], plugins=[laws])
    choose(None)
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) and not laws.found:
        raise DncbenchError(f"the laws could not be run (pytest said {status!r})")
    return sorted(f"{kind} {name}" for kind, name in new), list(laws.found.values())


def _registered() -> set[tuple[Kind, str]]:
    kinds: tuple[Kind, ...] = ("problem", "method", "metric")
    return {(kind, entry.name) for kind in kinds for entry in registry.entries(kind)}


class _Laws:
    """A pytest plugin that gathers outcomes by law."""

    def __init__(self) -> None:
        self.found: dict[str, Law] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """One phase of one case is over."""
        _, _, case = report.nodeid.rpartition("::")
        test, _, parameters = case.partition("[")
        name = test.removeprefix("test_").replace("_", " ")
        law = self.found.setdefault(name, Law(name))
        if report.failed:
            law.failures.append(f"{parameters.rstrip(']') or name}: {_reason(report)}")
        elif report.skipped and not _without_cases(report):
            law.inapplicable.append(_reason(report))
        elif report.when == "call" and report.passed:
            law.passed += 1

    def pytest_collectreport(self, report: Any) -> None:
        """A file of laws could not even be read."""
        if report.failed:
            name = f"reading {Path(report.nodeid).name}"
            self.found[name] = Law(name, failures=[_reason(report)])


def _without_cases(report: Any) -> bool:
    return "got empty parameter set" in str(report.longrepr)


def _reason(report: Any) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return str(crash.message).splitlines()[0]
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    return str(report.longrepr).strip().splitlines()[-1]
