"""``dncbench check``: a plugin is held to the laws, and told which it breaks."""

import re
import subprocess
import sys

import pytest
from handmade import REPOSITORY

BROKEN = '''
from dncbench import Method, register_method


@register_method("first")
class First(Method):
    """The first shard's first draws: too few where more are asked for, and no merge at all."""

    def fit(self, shard, key):
        return shard.values

    def merge(self, messages, key, num_draws):
        return messages[0, :num_draws], {}
'''

METRIC = '''
import numpy as np
from dncbench import register_metric
from dncbench.metrics.sample import Figure


@register_metric("median-gap")
def median_gap(approximation, reference):
    """Largest difference of marginal medians, in reference standard deviations."""
    gap = np.median(approximation.values, 0) - np.median(reference.values, 0)
    spread = reference.values.std(0)
    error = 1.2533 * np.sqrt(1 / approximation.ess + 1 / reference.ess)
    return Figure(float(np.max(np.abs(gap) / spread)), float(error))
'''


def check(folder, code: str) -> subprocess.CompletedProcess[str]:
    file = folder / "mine.py"
    file.write_text(code)
    command = [sys.executable, "-m", "dncbench", "check", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)


def test_the_readmes_method_keeps_every_law(tmp_path) -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n# my_method\.py\n(.*?)```", readme, re.DOTALL)
    done = check(tmp_path, code)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("method median\n")
    assert "  pass            is determined by its key" in done.stdout
    assert ", 0 broken, " in done.stdout


def test_a_broken_law_is_named_with_its_case(tmp_path) -> None:
    done = check(tmp_path, BROKEN)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "  FAIL            returns as many draws as asked" in done.stdout
    assert "  FAIL            the order of shards does not matter" in done.stdout
    assert "\n      first: dncbench.errors.DrawsError" in done.stdout
    assert "returned draws of shape (400, 2), not (403, 2)" in done.stdout
    assert "  pass            what is missing is named" in done.stdout
    assert "  FAIL            heavy tails are refused or survived" in done.stdout


def test_a_metric_is_held_to_the_laws_of_metrics(tmp_path) -> None:
    done = check(tmp_path, METRIC)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("metric median-gap\n")
    assert "  pass            is zero for identical samples" in done.stdout


@pytest.mark.parametrize(
    ("code", "message"),
    [("x = 1\n", "registers nothing"), ("1 / 0\n", "ZeroDivisionError")],
)
def test_a_file_without_subjects_is_refused(tmp_path, code: str, message: str) -> None:
    done = check(tmp_path, code)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
