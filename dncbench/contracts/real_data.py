"""Where the real data sets are, for laws and tests that need one."""

import os
from pathlib import Path

import pytest


def real_data_folder(name: str) -> Path:
    """The folder of the real data sets, or a skip that says which one is missing."""
    root = os.environ.get("DNCBENCH_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"needs the real data set {name}: set DNCBENCH_DATA to its parent folder")
    return Path(root).resolve()
