"""The benchmarks of speed across commits: asv takes them, and they measure what they say."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from handmade import REPOSITORY
from scipy.special import polygamma, psi
from scipy.stats import chi2, loggamma, norm

from dncbench import registry
from dncbench.asv_bench import merges, parameters, scoring, shards
from dncbench.entry import Entry, Kind

FALSE_ALARM = 1e-4  # of each comparison, over all that it compares


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what asv reads, since it writes beside that."""
    copy = tmp_path_factory.mktemp("asv")
    shutil.copy(REPOSITORY / "asv.conf.json", copy)
    shutil.copytree(REPOSITORY / "dncbench" / "asv_bench", copy / "dncbench" / "asv_bench")
    machine = {"version": 1, "here": {"machine": "here"}}
    (copy / ".asv-machine.json").write_text(json.dumps(machine))
    return copy


def asv(folder: Path, *arguments: str) -> str:
    """What asv prints when it uses this interpreter and this checkout."""
    environment = os.environ | {"HOME": str(folder), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "asv", *arguments, "--environment", "existing:same"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    return done.stdout


def test_asv_finds_nothing_wrong(folder: Path) -> None:
    assert "No problems found" in asv(folder, "check")


def shipped(kind: Kind) -> list[Entry]:
    """What other tests have registered in this process is none of asv's business."""
    return [entry for entry in registry.entries(kind) if entry.module.startswith("dncbench.")]


def test_everything_registered_is_measured(folder: Path) -> None:
    asv(folder, "run", "--machine", "here", "--dry-run", "--bench", "just-discover")
    found = json.loads((folder / "results" / "asv" / "benchmarks.json").read_text())
    taken = {
        name.split(".")[-1]: {parameter.strip("'") for parameter in benchmark["params"][0]}
        for name, benchmark in found.items()
        if name != "version"
    }
    methods = {spec for entry in shipped("method") for spec in entry.specs}
    metrics = {entry.name for entry in shipped("metric")}
    phases = {"time_fit", "time_merge", "track_compile_seconds", "peakmem_merge"}
    for benchmark in phases | {"track_mah", "track_iad", "track_skew"}:
        assert taken[benchmark] == methods
    for benchmark in ("time_metrics", "peakmem_metrics"):
        assert taken[benchmark] == metrics
    assert {"time_import", "time_cli_list"} < set(taken)
    # Without one, asv would drop all earlier figures whenever a line of a benchmark changes.
    assert all(len(b["version"]) < 10 for name, b in found.items() if name != "version")


def test_a_number_means_the_same_parameter_whichever_commit_is_installed(tmp_path: Path) -> None:
    # asv hands over numbers: were the lists the commit's own, an earlier commit's figures would
    # stand under the names of other methods.
    earlier = tmp_path / "dncbench"
    ignored = shutil.ignore_patterns("swiss.py", "kernel.py", "asv_bench", "__pycache__")
    shutil.copytree(REPOSITORY / "dncbench", earlier, ignore=ignored)
    benchmarks = REPOSITORY / "dncbench"
    script = """
import json
from dncbench import registry
from asv_bench import merges, scoring
installed = [[entry.name for entry in registry.entries(kind)] for kind in ("method", "metric")]
print(json.dumps([*installed, merges.Merges.params[0], scoring.Metrics.params[0]]))
"""
    paths = os.pathsep.join(map(str, (tmp_path, benchmarks)))
    printed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
        check=True,
        capture_output=True,
    )
    methods, metrics, measured_methods, measured_metrics = json.loads(printed.stdout)
    assert "swiss" not in methods
    assert "mmd" not in metrics
    assert measured_methods == [spec for entry in shipped("method") for spec in entry.specs]
    assert measured_metrics == [entry.name for entry in shipped("metric")]


@pytest.fixture(scope="module")
def made() -> shards.Shards:
    return shards.make_shards()


def assert_log_gamma(draws: np.ndarray, shape: np.ndarray, rate: np.ndarray) -> None:
    """Means and variances of log Gamma draws (..., T, d): ψ(a) - log b and ψ'(a).

    Standard errors of independent draws; that of a variance by the fourth cumulant ψ'''(a).
    """
    count, variance = draws.shape[-2], polygamma(1, shape)
    of_mean = (draws.mean(-2) - psi(shape) + np.log(rate)) / np.sqrt(variance / count)
    spread = np.sqrt((polygamma(3, shape) + 2 * variance**2) / count)
    of_variance = (draws.var(-2) - variance) / spread
    threshold = norm.isf(FALSE_ALARM / (4 * shape.size))
    assert max(np.abs(of_mean).max(), np.abs(of_variance).max()) < threshold


def test_shards_are_draws_of_what_they_say(made: shards.Shards) -> None:
    shape, rate = made["shape"], made["rate"]
    assert_log_gamma(made["values"], shape, rate)
    assert_log_gamma(made["inflated"], shards.NUM_SHARDS * shape, shards.NUM_SHARDS * rate)
    for exact in ("truth", "fresh"):
        assert_log_gamma(made[exact], shape.sum(0), rate.sum(0))


def test_log_densities_and_scores_are_those_of_log_gamma_variables(made: shards.Shards) -> None:
    shift = np.log(made["rate"])[:, None]

    def log_pdf(values: np.ndarray) -> np.ndarray:
        return loggamma.logpdf(values + shift, made["shape"][:, None])

    constant = made["log_density"] - log_pdf(made["values"]).sum(-1)
    np.testing.assert_allclose(constant, constant[:, :1] + 0 * constant, rtol=1e-9, atol=1e-9)
    step = 1e-5  # central differences: errors of step² and of 1e-16 / step
    slope = (log_pdf(made["values"] + step) - log_pdf(made["values"] - step)) / (2 * step)
    np.testing.assert_allclose(made["score"], slope, rtol=1e-6, atol=1e-6)
    eta = made["truth"][:50]
    summed = made["shape"].sum(0) - made["rate"].sum(0) * np.exp(eta)
    np.testing.assert_allclose(shards.product_score(made, eta), summed)


def test_one_measurement_serves_all_benchmarks_of_a_method(
    made: shards.Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    benchmark = merges.Merges()
    benchmark.setup(made, "consensus")
    monkeypatch.setattr(merges, "_measure", None)  # would fail if it were called again
    benchmark.setup(made, "consensus")
    (kept,) = tmp_path.glob("*.json")
    samples = json.loads(kept.read_text())
    assert benchmark.repeat == len(samples["fit_total"]) >= 2
    for number, seconds in enumerate(samples["merge"]):
        before = benchmark.timer()
        benchmark.time_merge(made, "consensus")
        assert benchmark.timer() - before == pytest.approx(seconds), number
    assert benchmark.track_compile_seconds(made, "consensus") == samples["compile"] > 0


def test_a_merge_that_does_not_finish_is_not_tried_again(
    made: shards.Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(merges, "_measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        merges.Merges().setup(made, "consensus")
    with pytest.raises(RuntimeError, match="consensus: an earlier benchmark of it did not finish"):
        merges.Merges().setup(made, "consensus")


def test_perfect_draws_are_at_the_floor_and_pooled_ones_are_not(
    made: shards.Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    benchmark, mah = merges.Merges(), {}
    for method in ("oracle", "pooled"):
        benchmark.setup(made, method)
        mah[method] = benchmark.track_mah(made, method)
    # T/2 Mah² of two perfect samples of T draws is χ² with d degrees of freedom.
    floor = np.sqrt(2 / shards.NUM_DRAWS * chi2.isf(FALSE_ALARM, shards.DIM))
    assert mah["oracle"] < floor < mah["pooled"]


def test_what_a_commit_lacks_is_skipped(made: shards.Shards) -> None:
    for skipped in (merges.Merges(), merges.MergeMemory(), scoring.Metrics()):
        with pytest.raises(NotImplementedError, match="nobody-has-this"):
            skipped.setup(made, "nobody-has-this")
    with pytest.raises(NotImplementedError, match="rouns"):
        parameters.method("score-regression[rouns=2]")


@pytest.mark.parametrize("metric", ["tv", "jeffreys", "log-predictive"])
def test_metrics_that_points_do_not_have_are_skipped(made: shards.Shards, metric: str) -> None:
    with pytest.raises(NotImplementedError, match=f"{metric} reads (codes|predictions)"):
        scoring.Metrics().setup(made, metric)
