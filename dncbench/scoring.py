"""Scoring merged draws: every registered metric against the reference, beside its noise floor."""

from collections.abc import Collection, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from dncbench import registry
from dncbench.errors import DrawsError
from dncbench.metrics import Sample, read
from dncbench.problem import Problem, full_posterior, values_and_scores
from dncbench.reference import Reference, noise_floor
from dncbench.registry import Entry
from dncbench.store import Cache


class Scorer:
    """The metrics of one problem, ready to be read.

    Args:
        problem: the model.
        data: its observations.
        reference: what is scored against.
        identity: of the problem, for the cache of noise floors.
        natural: whether natural parameters are merged instead of unconstrained ones.
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
        data: PyTree[Array],
        reference: Reference,
        identity: dict[str, Any],
        natural: bool,
        cache: Cache,
        metrics: Collection[str] | None = None,
    ) -> None:
        self._problem, self._natural = problem, natural
        posterior = full_posterior(problem, data)
        self._score = lambda eta: np.asarray(values_and_scores(posterior, eta[None])[1][0])
        self.metrics: list[Entry] = [
            registry.get("metric", entry.name)
            for entry in registry.entries("metric")
            if metrics is None or entry.id in metrics
        ]
        blocks = [
            self._sample(theta, eta, reference.ess)
            for theta, eta in zip(reference.blocks, reference.eta_blocks, strict=True)
        ]
        self.truth = blocks[0]
        self.floors = noise_floor(blocks, self.metrics, identity, cache)

    def score(
        self, draws: Float[np.ndarray, "N d"], ess: float, name: str, known: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Read every metric that is not known yet.

        Args:
            draws: merged, in the space of merging.
            ess: how many independent draws they are worth.
            name: of the method, for messages.
            known: metric ids to leave out.

        Returns:
            The record's ``metrics`` and ``metrics_not_applicable``.

        Raises:
            DrawsError: a coordinate is constant, or a metric is not finite.
            ContractError: a metric raised, or did not return a figure.
        """
        theta = draws
        if not self._natural:
            theta = np.asarray(jax.vmap(self._problem.constrain)(jnp.asarray(draws)))
        stuck = np.flatnonzero(theta.std(0) <= 1e-12 * self.truth.values.std(0))
        if len(stuck):
            raise DrawsError(
                f"method {name!r} returned draws that are constant in "
                f"{self._problem.parameter_names[stuck[0]]}; nothing can be scored"
            )
        merged = self._sample(theta, None if self._natural else draws, ess)
        figures, without = {}, []
        for entry in self.metrics:
            if entry.id in known:
                continue
            figure = read(entry, merged, self.truth)
            if figure is None:  # the problem or the space does not have what it reads
                without.append(entry.id)
                continue
            if not np.all(np.isfinite(figure)):
                raise DrawsError(f"metric {entry.name!r} is not finite for method {name!r}")
            figures[entry.id] = {
                "value": float(figure.value),
                "standard_error": float(figure.standard_error),
                "noise_floor": self.floors[entry.id],
            }
        return {"metrics": figures, "metrics_not_applicable": without}

    def _sample(
        self, theta: Float[np.ndarray, "N d"], eta: Float[np.ndarray, "N d"] | None, ess: float
    ) -> Sample:
        return Sample(theta, ess, eta, self._score, self._problem.permutations)
