"""Warnings about draws that can be merged but should not be trusted; they travel with the merge."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from dncbench.draws import at_most
from dncbench.merging import log_densities
from dncbench.merging.agreement import Agreement
from dncbench.merging.inputs import coordinate
from dncbench.merging.whitening import Whitened, whitened
from dncbench.method import Method, Shard

_ENOUGH = 5.0  # effective draws for each dimension
_HEAVY = 9.0
"""Kurtosis; Gaussian 3, exponential tails up to 9, infinite for Student's t(3) and t(4)."""
_OUTLYING = 30.0  # times the shard's median score norm
_STEIN = 0.5  # of 1
_STEIN_ESS = 400.0
_STEIN_ERRORS = 6.0  # standard errors
_WALL = 0.05  # of a standard deviation
_FEW_VALUES = 50
_LOOKED_AT = 4000  # draws of a shard whose values are counted


def warnings_about(
    method: Method,
    shards: Shard,
    names: Sequence[str] | None = None,
    agreement: Agreement | None = None,
) -> list[str]:
    """What a reader should know about the draws of real coordinates that a method was given.

    Shards that contradict each other; coordinates that are discrete; too few effective draws
    for a covariance, and tails so heavy that it is noise, where the method uses one; scores
    that lie far outside the others or do not belong to their draws; log densities that do not.

    Args:
        method: that merges them.
        shards: with what the method needs, stacked.
        names: of the coordinates.
        agreement: of the shards, where it is known.
    """
    draws = shards.inflated if shards.values is None else shards.values
    if draws is None or "reference" in method.needs:
        return []
    values = np.asarray(draws, dtype=np.float64)
    ess = np.full(len(values), np.inf) if shards.ess is None else np.asarray(shards.ess)
    lines = _about_agreement(agreement, names)
    lines += _about_few_values(values, names)
    for s, shard in enumerate(values):
        if "covariance" in method.needs:
            lines += _about_moments(s, shard, ess[s], names)
        if shards.values is None or (shards.score is None and shards.log_density is None):
            continue
        white = whitened(shard)
        if white is None:
            continue
        score = None if shards.score is None else np.asarray(shards.score[s])
        about_score = [] if score is None else _about_scores(s, shard, white, score, ess[s], names)
        lines += about_score
        if shards.log_density is not None:
            usable = None if about_score or shards.conditional_score else score
            wrong = log_densities.complaint(shard, white, np.asarray(shards.log_density[s]), usable)
            lines += [f"shard {s}: {wrong}"] if wrong else []
    return lines


def _about_agreement(agreement: Agreement | None, names: Sequence[str] | None) -> list[str]:
    if agreement is None or not agreement.contradicts:
        return []
    return [
        f"the shards contradict each other: Q / degrees of freedom is {agreement.ratio:.3g}, where "
        f"1 is expected; shard {agreement.shard} is farthest, {agreement.distance:.3g} standard "
        f"deviations from the others, most in {coordinate(agreement.coordinate, names)}. The "
        "merged draws lie where no shard has any: look for switched labels, another unit, mixed "
        "columns, or a shard that did not converge"
    ]


def _about_few_values(values: Float[np.ndarray, "S T d"], names: Sequence[str] | None) -> list[str]:
    """Coordinates whose values come back again and again, as an indicator's or a count's do."""
    lines = []
    values = values[:, at_most(values.shape[1], _LOOKED_AT)]
    for j in range(values.shape[2]):
        for s, column in enumerate(values[:, :, j]):
            distinct = len(np.unique(column))
            # A chain that stays where it is repeats a value in one stretch only.
            stretches = 1 + np.count_nonzero(np.diff(column))
            if distinct < stretches and (
                distinct <= _FEW_VALUES or _is_count(column, values[s], distinct)
            ):
                lines.append(
                    f"shard {s}, {coordinate(j, names)}: only {distinct} distinct values that "
                    "come back, as those of an indicator or a count; merging real draws turns "
                    "them into fractions: merge its parameters in place of it"
                )
                break
    return lines


def _is_count(
    column: Float[np.ndarray, " T"], shard: Float[np.ndarray, "T d"], distinct: int
) -> bool:
    """Whether many distinct values are a count's, and not those of resampled rows."""
    return bool(
        np.all(column == np.round(column)) and distinct <= len(np.unique(shard, axis=0)) // 2
    )


def _about_moments(
    s: int, shard: Float[np.ndarray, "T d"], ess: float, names: Sequence[str] | None
) -> list[str]:
    lines = []
    dim = shard.shape[1]
    if ess < _ENOUGH * dim:
        lines.append(
            f"shard {s}: {ess:.0f} effective draws in {dim} dimensions; moments of "
            f"fewer than {_ENOUGH * dim:.0f} are noisy"
        )
    centred = shard - shard.mean(0)
    kurtosis = np.mean(centred**4, axis=0) / np.mean(centred**2, axis=0) ** 2
    worst = int(np.argmax(kurtosis))
    if kurtosis[worst] > _HEAVY:
        lines.append(
            f"shard {s}, {coordinate(worst, names)}: heavy tails (kurtosis "
            f"{kurtosis[worst]:.0f}); its covariance is uncertain"
        )
    return lines


# ---------------------------------------------------------------- scores


def _about_scores(
    s: int,
    draws: Float[np.ndarray, "T d"],
    white: Whitened,
    score: Float[np.ndarray, "T d"],
    ess: float,
    names: Sequence[str] | None,
) -> list[str]:
    """Scores far outside the others, and scores that break Stein's identity.

    With z the whitened draws and g the scores in them, E[g_j] = 0 and E[z_j g_j] = -1 for every
    density that vanishes at the edges of its support. Unwhitened, the mean of deviation times
    score has a standard error of sqrt((1 + 1 / (1 - R²)) / T), R being the coordinate's multiple
    correlation with the others, 70 for T = 400 at a correlation of .9999; whitened,
    it is that of no correlation, sqrt(2 / T).
    """
    lines = []
    scale = np.median(np.abs(score), axis=0)
    norms = np.linalg.norm(score / np.where(scale > 0, scale, 1.0), axis=1)
    outlying = np.flatnonzero(norms > _OUTLYING * np.median(norms))
    if len(outlying):
        first = outlying[0]
        lines.append(
            f"shard {s}: {len(outlying)} score row(s) far outside the others, the first at draw "
            f"{first} ({norms[first] / np.median(norms):.0f} times the median norm)"
        )
    if ess <= _STEIN_ESS or _has_walls(draws):
        return lines
    kept = np.delete(np.arange(len(score)), outlying)
    gradients = white.scores(score)[kept]
    for what, terms, expected in (
        ("deviation times score", white.draws[kept] * gradients, -1.0),
        ("score", gradients, 0.0),
    ):
        found = terms.mean(0)
        wrong = np.abs(found - expected)
        wrong[wrong < _STEIN_ERRORS * terms.std(0) / np.sqrt(ess)] = 0.0
        worst = int(np.argmax(wrong))
        if wrong[worst] > _STEIN:
            lines.append(
                f"shard {s}, {coordinate(worst, names)}: the scores do not belong to these draws "
                f"(mean of {what} {found[worst]:.2f} in standardised coordinates; "
                f"{expected:.0f} for every density that vanishes at its edges)"
            )
            break
    return lines


def _has_walls(draws: Float[np.ndarray, "T d"]) -> bool:
    """Whether a density ends abruptly in some coordinate: it then owes Stein's identity nothing.

    Within a twentieth of a standard deviation from the smallest or largest value lies a
    hundredth of the draws: a density of .2 at its edge, where those of Gaussian and even of
    quartic tails have none.
    """
    spread = draws.std(0)
    for column, sd in zip(draws.T, spread, strict=True):
        values = np.unique(column)
        outer = len(values) // 100
        if outer and min(values[outer] - values[0], values[-1] - values[-1 - outer]) < _WALL * sd:
            return True
    return False
