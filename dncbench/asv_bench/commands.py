"""How long a user waits before anything is computed."""

import subprocess
import sys


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
