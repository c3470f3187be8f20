"""What merges of coded objects cost at the size of a published experiment: 24 310 multisets."""

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any

from . import parameters

PROBLEM, NUM_DRAWS, STEPS = "multisets", 10_000, 300
"""Ten items, eight of them, four clients; updates of each network instead of the default's."""


class ObjectMerges:
    """Seconds by phase and total variation of every method that merges codes.

    All figures of a method come of one run, as those of ``Merges`` do. Networks are trained for
    :data:`STEPS` updates, so that seconds stand for the cost of an update.
    """

    params = (parameters.METHODS,)
    param_names = ("method",)
    version = "1"
    timeout = 900

    rounds, number, repeat, warmup_time = 1, 1, 1, 0.0
    _elapsed = 0.0  # asv calls setup before every sample: it outlives it

    def setup(self, method: str) -> None:
        """Look up what was measured, or measure."""
        kept = Path(f"objects-{re.sub(r'[^A-Za-z0-9]', '-', method)}.json")
        if not kept.exists():
            found = _method(method)  # or skip
            kept.write_text(json.dumps({"failed": "an earlier benchmark of it did not finish"}))
            kept.write_text(json.dumps(_measure(method, found)))
        self._measured: dict[str, Any] = json.loads(kept.read_text())
        if "failed" in self._measured:
            raise RuntimeError(f"{method}: {self._measured['failed']}")

    def timer(self) -> float:
        """asv's clock: it moves by the seconds that dncbench reports."""
        return self._elapsed

    def time_fit(self, method: str) -> None:
        """Seconds to fit all shards, one after another; without compilation."""
        self._elapsed += self._measured["fit_total"]

    def time_merge(self, method: str) -> None:
        """Seconds of work where the messages meet; without compilation."""
        self._elapsed += self._measured["merge"]

    def track_compile_seconds(self, method: str) -> float:
        """Seconds to compile fit and merge, once."""
        return float(self._measured["compile"])

    def track_tv(self, method: str) -> float:
        """Total variation from the truth."""
        return float(self._measured["tv"])

    track_compile_seconds.unit = "seconds"  # type: ignore[attr-defined]


class ObjectMergeMemory:
    """Peak memory of a process that does one such merge, with JAX and all that it compiles."""

    params = (parameters.METHODS,)
    param_names = ("method",)
    version = "1"
    timeout = 900

    def setup(self, method: str) -> None:
        """Skip what the commit does not have."""
        _method(method)

    def peakmem_merge(self, method: str) -> None:
        """Fit and merge, compilation included."""
        _run(method, _method(method))


def _method(spec: str) -> Any:
    """The method, with fewer updates where it trains; raises as ``parameters.method`` does."""
    found = parameters.method_of_any_kind(spec)
    if "codes" not in getattr(found, "spaces", ()) or "reference" in found.needs:
        raise NotImplementedError(f"{spec} merges no codes")
    return dataclasses.replace(found, steps=STEPS) if hasattr(found, "steps") else found


@functools.cache
def _shards() -> Any:
    """Rewards and draws of the clients."""
    import jax
    import jax.numpy as jnp

    from dncbench.configure import configure
    from dncbench.method import Shard
    from dncbench.problem import load_data

    problem = configure("problem", PROBLEM)[1]
    data = load_data(problem, jax.random.key(0))
    split = problem.split(data, "random", jax.random.key(0))
    draws = problem.draws(data, split, "plain", jax.random.key(1), NUM_DRAWS)
    return Shard(
        values=jnp.asarray(draws.values),
        log_density=jnp.asarray(draws.log_density),
        density=problem.density(data, split, "plain", problem.space),
        problem=problem,
        num_shards=problem.num_shards,
        ess=jnp.full(problem.num_shards, float(NUM_DRAWS)),
    )


def _run(spec: str, method: Any) -> Any:
    import jax

    from dncbench.merging.run import run_method

    shards = _shards()
    return run_method(method, spec, shards, jax.random.key(3), NUM_DRAWS, shards.problem.space)


def _measure(spec: str, method: Any) -> dict[str, Any]:
    """Of one run: ``compile``, ``fit_total``, ``merge``, and the distance ``tv``."""
    import jax
    import numpy as np

    result = _run(spec, method)
    truth = np.asarray(jax.nn.softmax(_shards().density.table.sum(0)))
    law = (
        np.bincount(np.asarray(result.draws), minlength=len(truth)) / len(result.draws)
        if result.log_probs is None
        else np.exp(result.log_probs)
    )
    return {
        "tv": float(0.5 * np.abs(law - truth).sum()),
        **{phase: result.seconds[phase] for phase in ("compile", "fit_total", "merge")},
    }
