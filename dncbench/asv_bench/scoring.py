"""What every metric costs."""

from . import parameters
from .shards import Shards, WithShards, as_sample


class Metrics(WithShards):
    """Scoring perfect draws against the truth, for every metric."""

    params = (parameters.METRICS,)
    param_names = ("metric",)
    version = "1"
    timeout = 300

    rounds, warmup_time = 1, 0.0
    repeat = (3, 20, 3.0)

    def setup(self, shards: Shards, metric: str) -> None:
        """Score once, as a board has done before: what depends on the truth alone is then kept."""
        self._metric = parameters.metric(metric)
        self._truth = as_sample(shards["truth"], shards)
        self._metric(as_sample(shards["fresh"], shards), self._truth)
        # Another object, like the next merge's draws: of it, nothing was kept.
        self._merged = as_sample(shards["fresh"], shards)

    def time_metrics(self, shards: Shards, metric: str) -> None:
        """One figure with its standard error."""
        self._metric(self._merged, self._truth)

    def peakmem_metrics(self, shards: Shards, metric: str) -> None:
        """Peak memory of the process."""
        self._metric(self._merged, self._truth)
