"""What every merge costs, and how far from the truth it ends."""

import json
import re
import time
from pathlib import Path
from typing import Any

from . import parameters
from .shards import NUM_DRAWS, Shards, WithShards, as_sample, given_to

_MIN_RUNS, _MAX_RUNS = 2, 10
_ENOUGH_SECONDS = 10.0
_METRICS = "mah", "iad", "skew"


class Merges(WithShards):
    """Seconds by phase and distances to the truth, for every method.

    Some methods compile for half a minute, so all figures of a method come of the same
    runs: the first benchmark that asks for them measures, and leaves them to the others in
    the folder where asv runs these benchmarks. Seconds are those that dncbench reports.
    """

    params = (parameters.METHODS,)
    param_names = ("method",)
    version = "1"
    timeout = 900

    rounds, number, warmup_time = 1, 1, 0.0
    _elapsed, _taken = 0.0, 0  # asv calls setup before every sample: these outlive it

    def setup(self, shards: Shards, method: str) -> None:
        """Look up what was measured, or measure."""
        self._measured = _measured(shards, method)
        self.repeat = len(self._measured["merge"])

    def timer(self) -> float:
        """asv's clock: it moves by the seconds that dncbench reports."""
        return self._elapsed

    def _take(self, phase: str) -> None:
        samples = self._measured[phase]
        self._elapsed += samples[self._taken % len(samples)]
        self._taken += 1

    def time_fit(self, shards: Shards, method: str) -> None:
        """Seconds to fit all shards, one after another, in all rounds; without compilation."""
        self._take("fit_total")

    def time_merge(self, shards: Shards, method: str) -> None:
        """Seconds of work where the messages meet, in all rounds; without compilation."""
        self._take("merge")

    def track_compile_seconds(self, shards: Shards, method: str) -> float:
        """Seconds to compile fit and merge, once."""
        return float(self._measured["compile"])

    def track_mah(self, shards: Shards, method: str) -> float:
        """Distance of the means: location."""
        return float(self._measured["mah"])

    def track_iad(self, shards: Shards, method: str) -> float:
        """Distance of the marginal densities."""
        return float(self._measured["iad"])

    def track_skew(self, shards: Shards, method: str) -> float:
        """Difference of marginal skewness: shape."""
        return float(self._measured["skew"])

    track_compile_seconds.unit = "seconds"  # type: ignore[attr-defined]
    track_mah.unit = "posterior sds"  # type: ignore[attr-defined]


class MergeMemory(WithShards):
    """Peak memory of a process that does one merge, with JAX and all that it compiles."""

    params = (parameters.METHODS,)
    param_names = ("method",)
    version = "1"
    timeout = 900

    def setup(self, shards: Shards, method: str) -> None:
        """Skip what the commit does not have."""
        parameters.method(method)

    def peakmem_merge(self, shards: Shards, method: str) -> None:
        """Fit and merge, compilation included."""
        _run(shards, method)


def _run(shards: Shards, spec: str) -> Any:
    import dncbench

    given = given_to(parameters.method(spec), shards)
    return dncbench.merge(**given, method=spec, num_draws=NUM_DRAWS)


def _measured(shards: Shards, spec: str) -> dict[str, Any]:
    """What :func:`_measure` gives, measured once for each commit."""
    kept = Path(re.sub(r"\W", "-", spec) + ".json")
    if not kept.exists():
        parameters.method(spec)  # or skip
        # Stays if the process dies or runs out of time, so that no other benchmark repeats it.
        kept.write_text(json.dumps({"failed": "an earlier benchmark of it did not finish"}))
        kept.write_text(json.dumps(_measure(shards, spec)))
    measured: dict[str, Any] = json.loads(kept.read_text())
    if "failed" in measured:
        raise RuntimeError(f"{spec}: {measured['failed']}")
    return measured


def _measure(shards: Shards, spec: str) -> dict[str, Any]:
    """Run a method until there are enough samples.

    Returns:
        ``compile``, seconds of the first run; ``fit_total`` and ``merge``, seconds of each run;
        the three metrics. The first run's seconds count like the others: compilation
        is measured apart from them.
    """
    start = time.perf_counter()
    results = [_run(shards, spec)]
    while len(results) < _MIN_RUNS or (
        len(results) < _MAX_RUNS and time.perf_counter() - start < _ENOUGH_SECONDS
    ):
        results.append(_run(shards, spec))
    merged = as_sample(results[0].draws, shards, results[0].info["ess"])
    truth = as_sample(shards["truth"], shards)
    return {
        "compile": results[0].seconds["compile"],
        **{
            phase: [result.seconds[phase] for result in results] for phase in ("fit_total", "merge")
        },
        **{name: parameters.metric(name)(merged, truth).value for name in _METRICS},
    }
