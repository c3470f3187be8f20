"""Laws on a few objects, drawn from and known exactly, for tests of the metrics that read them."""

import numpy as np
from scipy import stats

from dncbench.metrics.sample import Figure, Sample

FALSE_ALARM = 1e-3


def drawn(codes: np.ndarray, ess: float | None = None, objects: np.ndarray | None = None) -> Sample:
    """These draws, worth as many independent ones unless it is said."""
    points = codes[:, None].astype(float)
    ess = float(len(codes)) if ess is None else ess
    return Sample(points, ess, codes=codes, objects=objects)


def known(law: np.ndarray, objects: np.ndarray | None = None) -> Sample:
    """A law that is known exactly; whatever was drawn of it beside does not count."""
    codes = np.zeros(100, dtype=int)
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.asarray(law))
    points = codes[:, None].astype(float)
    return Sample(points, 100.0, codes=codes, log_probs=log_probs, objects=objects)


def law(seed: int, size: int) -> np.ndarray:
    """Neither flat nor a point."""
    return np.random.default_rng(seed).dirichlet(np.full(size, 0.7))


def of_law(
    rng: np.random.Generator, p: np.ndarray, num_draws: int, objects: np.ndarray | None = None
) -> Sample:
    """Independent draws."""
    return drawn(rng.choice(len(p), num_draws, p=p), objects=objects)


def assert_honest_error(figures: list[Figure]) -> None:
    """The jackknife variances, averaged, are the variance over replicates (see test_metrics)."""
    observed = np.var([figure.value for figure in figures], ddof=1)
    claimed = np.mean([figure.standard_error**2 for figure in figures])
    f = stats.f(len(figures) - 1, 19 * len(figures))
    assert f.ppf(FALSE_ALARM / 2) < observed / claimed < f.isf(FALSE_ALARM / 2)
