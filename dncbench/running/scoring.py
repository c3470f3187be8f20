"""Scoring merged draws: every registered metric against the reference, beside its noise floor."""

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from dncbench import registry
from dncbench.errors import DrawsError
from dncbench.metrics.sample import Figure, Sample, read
from dncbench.posterior import Density, values_and_scores
from dncbench.problem import Data, Problem
from dncbench.registry import Entry
from dncbench.space import Codes, Real, Space
from dncbench.storage.cache import Cache
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

    Attributes:
        metrics: entries, by name.
        truth: the block of the reference that merges are scored against; one object, so
            that what a metric computes of the truth alone is computed once.
        floors: for each metric id that applies, what it reads on perfect draws.
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
    ) -> None:
        self._problem, self._space, self._held_out = problem, space, data.held_out
        density = problem.density(data, problem.whole(data), "full", problem.space)
        self._score = None
        if isinstance(density, Density):
            self._score = lambda eta: np.asarray(values_and_scores(density, eta[None])[1][0])
        self.metrics: list[Entry] = [
            registry.get("metric", entry.name)
            for entry in registry.entries("metric")
            if metrics is None or entry.id in metrics
        ]
        blocks = [
            self._sample(points, draws, draws, reference.ess)
            for points, draws in zip(reference.embedded, reference.blocks, strict=True)
        ]
        self.truth = blocks[0]
        if reference.log_probs is not None:
            law = np.exp(reference.log_probs)
            self.truth = self._sample(*self._first(reference), reference.ess, law)
        self.floors = noise_floor(blocks, self.truth, self.metrics, key, cache)

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
            The record's ``metrics`` and ``metrics_not_applicable``.

        Raises:
            DrawsError: a coordinate is constant, or a metric is not finite.
            ContractError: a metric raised, or did not return a figure.
        """
        points = self._space.embed(draws)
        if isinstance(self._space, Real):
            self._refuse_constant(points, name)
        law = None if log_probs is None else np.exp(log_probs)
        natural = self._space.name == "natural"
        merged = self._sample(points, draws, None if natural else draws, ess, law)
        figures, without = {}, []
        for entry in self.metrics:
            if entry.id in known or (only is not None and entry.name not in only):
                continue
            figure = self._read(entry, merged, name)
            if figure is None:  # the problem or the space does not have what it reads
                without.append(entry.id)
                continue
            figures[entry.id] = {
                "value": float(figure.value),
                "standard_error": float(figure.standard_error),
                "noise_floor": self.floors[entry.id],
            }
        return {"metrics": figures, "metrics_not_applicable": without}

    def _refuse_constant(self, theta: Float[np.ndarray, "N d"], name: str) -> None:
        stuck = np.flatnonzero(theta.std(0) <= 1e-12 * self.truth.values.std(0))
        if len(stuck):
            raise DrawsError(
                f"method {name!r} returned draws that are constant in "
                f"{self._space.names[stuck[0]]}; nothing can be scored"
            )

    def _read(self, entry: Entry, merged: Sample, name: str) -> Figure | None:
        """The figure; None where the metric does not apply.

        A law on a few objects may be a point, or have no covariance: metrics of points in
        R^p then do not apply, and no merge is to blame.
        """
        if entry.id not in self.floors:
            return None
        lenient = not isinstance(self._space, Real)
        figure = read(entry, merged, self.truth, lenient)
        if figure is not None and not np.all(np.isfinite(figure)):
            if lenient:
                return None
            raise DrawsError(f"metric {entry.name!r} is not finite for method {name!r}")
        return figure

    def _sample(
        self,
        points: Float[np.ndarray, "N p"],
        draws: Shaped[np.ndarray, "N ..."],
        eta: Shaped[np.ndarray, "N ..."] | None,
        ess: float,
        law: Float[np.ndarray, " K"] | None = None,
    ) -> Sample:
        real = isinstance(self._space, Real)
        predicted = None
        if self._held_out is not None:
            predicted = self._problem.predict(points if real else draws, self._held_out)
        return Sample(
            points,
            ess,
            eta if real else None,
            self._score if real else None,
            self._problem.permutations,
            draws if isinstance(self._space, Codes) else None,
            law,
            predicted,
        )
