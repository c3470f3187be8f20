"""Whether log densities belong to the draws they came with.

Draws say how dense they lie without any model. For every set B inside the support,

    E_p[1_B(θ) / p̃(θ)] = vol(B) / Z

whatever the density p = p̃ / Z: draws in B, each counted 1 / p̃, measure its volume. Log
densities that are β times too large break this in proportion to themselves: against them, log
volume less log measure has the slope 1 - 1/β in place of 0. The sets are balls that hold equally
many draws, which adapt to any shape. Beyond four dimensions a ball that holds some draws is as
large as the whole; shells about the mean, within which the log densities of most posteriors
vary little, are looked at as well.

Right log densities rise with the density of the draws, by the radii of the same balls, and are
near those of their neighbours: a wrong sign breaks the first, a wrong order both. Where scores
are there, differences of log densities are held against the trapezoid rule between neighbours,
which is sharper.

What right log densities read, and hence the limits, is in the tests, for ten shapes of density
in 1 to 50 dimensions.
"""

import numpy as np
from jaxtyping import Float
from scipy.stats import rankdata

from dncbench.draws import at_most
from dncbench.merging.whitening import Whitened

_FEW = 4  # dimensions in which balls are small, and neighbours near
_BALLS, _SHELLS = 500, 1000  # draws looked at, at most
_NUM_SHELLS = 20
_LEAST = 200  # distinct draws; of fewer, nothing can be said
_ORDER = 4.5  # standard errors of the rank correlation of what is in another order
_BALL_SLOPES, _SHELL_SLOPES = (-0.9, 0.2), (-1.1, 0.5)  # limits of 1 - 1/β
_BALL_SLOPES_1D = (-0.9, 0.33)  # where log densities vary least
_NEIGHBOURS = 0.8  # least rank correlation with the trapezoid rule, in few dimensions
_RATIO = 1.4  # largest ratio of the two, either way


def complaint(
    draws: Float[np.ndarray, "T d"],
    white: Whitened,
    log_density: Float[np.ndarray, " T"],
    score: Float[np.ndarray, "T d"] | None,
) -> str | None:
    """What is wrong with one shard's log densities; None where nothing is seen.

    Args:
        draws: of the shard.
        white: the same, whitened.
        log_density: at them, unnormalised.
        score: at them, if it is known and fits the draws.
    """
    distinct = _distinct(draws)
    if len(distinct) < _LEAST:
        return None
    rows = distinct[at_most(len(distinct), _BALLS)]
    points, given = white.draws[rows], log_density[rows]
    few = points.shape[1] <= _FEW
    squares = _squared_distances(points)
    log_volume, log_measure, of_neighbours = _balls(squares, points.shape[1], given)
    rank = _rank_correlation(log_volume, -given)
    least = _ORDER / np.sqrt(len(rows))
    if rank < -least:
        return (
            f"the log densities are lowest where the draws are densest (rank correlation "
            f"{rank:.2f}); their sign is wrong"
        )
    if max(rank, _rank_correlation(of_neighbours, given)) < least:
        return (
            f"the log densities do not belong to these draws: they are no higher where the draws "
            f"are denser (rank correlation {rank:.2f}); their rows are in another order, or of "
            "another shard"
        )
    if few and score is not None:
        return _against_scores(points, given, white.scores(score)[rows], squares)
    limits = _BALL_SLOPES_1D if points.shape[1] == 1 else _BALL_SLOPES
    found = [(_slope(log_volume - log_measure, given), limits)]
    if not few:
        rows = distinct[at_most(len(distinct), _SHELLS)]
        log_volume, log_measure, given = _shells(white.draws[rows], log_density[rows])
        found.insert(0, (_slope(log_volume - log_measure, given), _SHELL_SLOPES))
    for slope, (low, high) in found:
        if not low <= slope <= high:
            # Far beyond a factor of ten, the slope no longer tells which.
            factor = min(1 / max(1 - slope, 0.1), 10.0)
            return (
                f"the log densities vary about {factor:.2g} times as much as the draws allow; a "
                "factor is wrong, or they are of other draws"
            )
    return None


def _against_scores(
    draws: Float[np.ndarray, "n d"],
    log_density: Float[np.ndarray, " n"],
    score: Float[np.ndarray, "n d"],
    squares: Float[np.ndarray, "n n"],
) -> str | None:
    """Differences between neighbours, by the log densities and by the trapezoid rule."""
    nearest = np.argmin(squares, axis=1)
    steps = draws[nearest] - draws
    found = log_density[nearest] - log_density
    expected = 0.5 * np.sum((score + score[nearest]) * steps, axis=1)
    rank = _rank_correlation(found, expected)
    if rank < -_NEIGHBOURS:
        return "log densities and scores have opposite signs, and the scores fit the draws"
    if rank < _NEIGHBOURS:
        return (
            "log densities and scores disagree between neighbouring draws (rank correlation "
            f"{rank:.2f}), and the scores fit the draws; rows of the log densities are in another "
            "order"
        )
    ratio = float(np.median(np.abs(found)) / max(np.median(np.abs(expected)), 1e-300))
    if 1 / _RATIO <= ratio <= _RATIO:
        return None
    return (
        f"the log densities vary {ratio:.2g} times as much as the scores say, which fit the "
        "draws; a factor is wrong"
    )


# ---------------------------------------------------------------- sets and their measure


def _distinct(draws: Float[np.ndarray, "T d"]) -> np.ndarray:
    """Rows that differ: a chain that stays where it is repeats draws, which say the same once."""
    rows = at_most(len(draws), 2 * _SHELLS)
    return rows[np.sort(np.unique(draws[rows], axis=0, return_index=True)[1])]


def _squared_distances(draws: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n n"]:
    """Between all pairs; a draw is infinitely far from itself."""
    norms = np.sum(draws**2, axis=1)
    squares = norms[:, None] + norms[None, :] - 2 * draws @ draws.T
    np.fill_diagonal(squares, np.inf)
    return np.maximum(squares, 1e-300)


def _balls(
    squares: Float[np.ndarray, "n n"], dim: int, log_density: Float[np.ndarray, " n"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log volume (but for a constant), log measure, mean log density of balls about all draws."""
    held = int(np.sqrt(len(squares)))
    inside = np.argpartition(squares, held - 1, axis=1)[:, :held]
    radii = np.take_along_axis(squares, inside, axis=1).max(1)
    held_in = log_density[inside]
    return 0.5 * dim * np.log(radii), _log_measure(held_in), held_in.mean(1)


def _shells(
    draws: Float[np.ndarray, "n d"], log_density: Float[np.ndarray, " n"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log volume and log measure of shells about the mean, and mean log densities in them."""
    dim = draws.shape[1]
    norms = np.linalg.norm(draws, axis=1)
    order = np.argsort(norms)
    held = len(order) // _NUM_SHELLS
    # The outermost draws lie in a shell without an end.
    edges = held * np.arange(_NUM_SHELLS)
    sorted_norms = norms[order]
    radii = np.append(0.0, 0.5 * (sorted_norms[edges[1:] - 1] + sorted_norms[edges[1:]]))
    inner, outer = radii[:-1], radii[1:]
    log_volume = dim * np.log(outer) + np.log1p(-((inner / outer) ** dim))
    inside = log_density[order][: edges[-1]].reshape(_NUM_SHELLS - 1, held)
    return log_volume, _log_measure(inside), inside.mean(1)


def _log_measure(inside: Float[np.ndarray, "sets held"]) -> Float[np.ndarray, " sets"]:
    """log Σ 1 / p̃ over the draws of each set."""
    least = inside.min(1)
    return np.log(np.sum(np.exp(least[:, None] - inside), axis=1)) - least


def _slope(values: Float[np.ndarray, " n"], against: Float[np.ndarray, " n"]) -> float:
    """Of the least-squares line."""
    centred = against - against.mean()
    return float((centred @ (values - values.mean())) / (centred @ centred))


def _rank_correlation(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> float:
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
