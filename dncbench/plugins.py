"""Plugins that are files: ``--plugin FILE``."""

import hashlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path

from dncbench.errors import ContractError, PluginError
from dncbench.registry import snapshot, withdraw_since
from dncbench.undisturbed import AT_IMPORT, undisturbed

_loaded: dict[str, str] = {}
"""Files, by the module that each became."""


def load_plugin(path: str | Path) -> str:
    """Import a Python file that registers problems, methods or metrics; twice is once.

    Returns:
        The name of the module that the file became.

    Raises:
        PluginError: the file is missing or raises; what it had registered is withdrawn.
        ContractError: what it registers is refused.
    """
    if not os.path.isfile(path):  # which no name makes raise, however long
        raise PluginError(f"plugin {path}: no such file")
    file = Path(path).resolve()
    digest = hashlib.sha256(str(file).encode()).hexdigest()[:8]
    name = f"dncbench_plugin_{file.stem}_{digest}"
    if name in sys.modules:
        return name
    before = snapshot()
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"plugin {path}: not a Python file")
    # Whose settings of JAX the plugin must leave alone; it may import JAX itself, or not.
    importlib.import_module("dncbench.precision")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name], _loaded[name] = module, str(file)

    def say(what: str) -> None:
        print(f"dncbench: plugin {path}: {what}", file=sys.stderr)

    try:
        with undisturbed(say, allowed=AT_IMPORT):
            spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name], _loaded[name]
        withdraw_since(before)
        if isinstance(error, ContractError):
            raise ContractError(f"plugin {path}: {error}") from error
        where = f" (line {line})" if (line := _line_in(file, error)) else ""
        raise PluginError(f"plugin {path}{where}: {type(error).__name__}: {error}") from error
    return name


def loaded_files() -> list[str]:
    """The files that :func:`load_plugin` has loaded, in their order."""
    return list(_loaded.values())


def _line_in(file: Path, error: BaseException) -> int | None:
    line, trace = None, error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
