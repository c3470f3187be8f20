"""Scoring merged draws: every registered metric against the reference, beside its noise floor."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from dncbench import registry
from dncbench.entry import Entry
from dncbench.errors import DncbenchError, DrawsError
from dncbench.metrics.sample import Sample, read
from dncbench.posterior import Density, values_and_scores
from dncbench.problem import Data, Problem
from dncbench.space import Codes, Real, Space
from dncbench.storage.cache import Cache
from dncbench.storage.contents import METRIC
from dncbench.truth.certified import Reference
from dncbench.truth.floors import noise_floor


class Scorer:
    """The metrics of one problem, ready to be read.

    Args:
        problem: the model.
        data: as loaded.
        reference: what is scored against.
        key: of the problem, for the cache of noise floors.
        space: that merging happens in.
        cache: where noise floors are kept.
        metrics: ids to read; all that are registered where None.
        note: told in a line which metric failed.

    Attributes:
        metrics: entries, by name.
        truth: the block of the reference that merges are scored against; one object, so
            that what a metric computes of the truth alone is computed once.
        floors: for each metric id that applies, what it reads on perfect draws.
        failed: for each metric id that cannot be read on perfect draws, the reason.
    """

    def __init__(
        self,
        problem: Problem,
        data: Data,
        reference: Reference,
        key: dict[str, Any],
        space: Space,
        cache: Cache,
        metrics: Collection[str] | None = None,
        note: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._problem, self._space, self._held_out = problem, space, data.held_out
        self._note = note
        density = problem.density(data, problem.whole(data), "full", problem.space)
        self._score = None
        if isinstance(density, Density):
            self._score = lambda eta: np.asarray(values_and_scores(density, eta[None])[1][0])
        self.metrics: list[Entry] = [
            registry.get("metric", entry.name)
            for entry in registry.entries("metric")
            if metrics is None or entry.id in metrics
        ]
        # Of objects that can be enumerated, as an exact law does, metrics may ask for all points.
        self._objects = None
        if reference.log_probs is not None:
            self._objects = space.embed(np.arange(len(reference.log_probs)))
        blocks = [
            self._sample(points, draws, draws, reference.ess)
            for points, draws in zip(reference.embedded, reference.blocks, strict=True)
        ]
        self.truth = blocks[0]
        if reference.log_probs is not None:
            self.truth = self._sample(*self._first(reference), reference.ess, reference.log_probs)
        # A metric without a floor is not applicable.
        defined = [entry for entry in self.metrics if entry.moments <= problem.finite_moments]
        self.floors, self.failed = noise_floor(
            blocks, self.truth, defined, key, cache, note, problem.headline
        )

    @staticmethod
    def _first(reference: Reference) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return reference.embedded[0], reference.blocks[0], reference.blocks[0]

    def score(
        self,
        draws: Shaped[np.ndarray, "N ..."],
        ess: float,
        name: str,
        known: Iterable[str] = (),
        log_probs: Float[np.ndarray, " K"] | None = None,
        only: Collection[str] | None = None,
    ) -> dict[str, Any]:
        """Read every metric that is not known yet.

        Args:
            draws: merged, in the space of merging.
            ess: how many independent draws they are worth.
            name: of the method, for messages.
            known: metric ids to leave out.
            log_probs: exact law of the draws, where the method knows it.
            only: names of metrics to read; all where None.

        Returns:
            The record's ``metrics`` and ``metrics_not_applicable``, and where a metric could
            not be read ``metrics_failed``: it costs the others nothing.

        Raises:
            DrawsError: a coordinate is constant.
        """
        points = self._space.embed(draws)
        if isinstance(self._space, Real):
            self._refuse_constant(points, name)
        natural = self._space.name == "natural"
        merged = self._sample(points, draws, None if natural else draws, ess, log_probs)
        figures, without, failed = {}, [], {}
        for entry in self.metrics:
            if entry.id in known or (only is not None and entry.name not in only):
                continue
            try:
                figure = self._read(entry, merged)
            except (DncbenchError, ValueError) as error:
                failed[entry.id] = str(error)
                if entry.id not in self.failed and only is None:
                    told = f"metric {entry.id} of {entry.module} is left out for method"
                    self._note(f"{told} {name!r}: {error}")
                continue
            if figure is None:  # the problem or the space does not have what it reads
                without.append(entry.id)
            else:
                figures[entry.id] = figure
        found: dict[str, Any] = {"metrics": figures, "metrics_not_applicable": without}
        return found | {"metrics_failed": failed} if failed else found

    def _refuse_constant(self, theta: Float[np.ndarray, "N d"], name: str) -> None:
        stuck = np.flatnonzero(theta.std(0) <= 1e-12 * self.truth.values.std(0))
        if len(stuck):
            raise DrawsError(
                f"method {name!r} returned draws that are constant in "
                f"{self._space.names[stuck[0]]}; nothing can be scored"
            )

    def _read(self, entry: Entry, merged: Sample) -> dict[str, Any] | None:
        """The figure beside its noise floor; None where the metric does not apply.

        A law on a few objects may be a point, or have no covariance: metrics of points in
        R^p then do not apply, and no merge is to blame.

        Raises:
            DncbenchError: the metric failed.
            ValueError: it is not a figure that a record can hold.
        """
        if entry.id in self.failed:
            raise DrawsError(self.failed[entry.id])
        if entry.id not in self.floors:
            return None
        lenient = not isinstance(self._space, Real)
        figure = read(entry, merged, self.truth, lenient)
        if figure is None or (lenient and not np.all(np.isfinite(figure))):
            return None
        found = figure._asdict() | {"noise_floor": self.floors[entry.id]}
        METRIC.check(found)
        return found

    def _sample(
        self,
        points: Float[np.ndarray, "N p"],
        draws: Shaped[np.ndarray, "N ..."],
        eta: Shaped[np.ndarray, "N ..."] | None,
        ess: float,
        log_probs: Float[np.ndarray, " K"] | None = None,
    ) -> Sample:
        real = isinstance(self._space, Real)
        predicted = None
        if self._held_out is not None:
            predicted = self._problem.predict(points if real else draws, self._held_out)
        return Sample(
            _locked(points),
            ess,
            _locked(eta) if real else None,
            self._score if real else None,
            self._problem.permutations,
            _locked(draws) if isinstance(self._space, Codes) else None,
            _locked(log_probs),
            _locked(predicted),
            _locked(self._objects),
        )


def _locked(array: Any) -> Any:
    """The array, which a metric that would write to it cannot spoil for the others."""
    if array is None:
        return None
    view = array.view()
    view.flags.writeable = False
    return view
