"""Whether several published figures differ from ours by one common factor.

Figures of one metric in a table are read against one reference, and mostly on the same splits:
an error of the reference moves all of them alike, and agreement of each within its own three
standard errors does not say that all of them together agree. The model, for figure i,

    log(published_i / ours_i) = offset + error_i,

has errors whose covariance is, in relative terms, with δ_ij = 1 for i = j only,

    Σ_ij = 2 c² + b_i b_j + q_i q_j + δ_ij (2 (m_i² - c²) + r_i²).

m_i is the Monte Carlo error of our figure i, and c the smallest of the m_i: what the reference
puts into all of them cannot be more. The published figures, of as many draws against one
chain, are taken to have the same, hence the 2. b_i and q_i are our error and the published one
from the spread between splits, the same for all methods; r_i is what rounding leaves open.

The offset is the mean weighted by 1 / Σ_ii, which depends little on how errors are shared; its
standard error, from all of Σ, does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

STANDARD_ERRORS = 3.0
"""A difference of more than this many standard errors is no agreement."""


@dataclass(frozen=True)
class Member:
    """One published figure and ours.

    Attributes:
        published: as printed.
        published_error: its standard error from the spread between splits.
        ours: mean over splits.
        monte_carlo: standard error of ours from finite samples.
        between: standard error of ours from the spread between splits.
    """

    published: float
    published_error: float
    ours: float
    monte_carlo: float
    between: float


@dataclass(frozen=True)
class Offset:
    """What figures have in common.

    Attributes:
        value: of log(published / ours); -0.04 where ours are 4 % high.
        standard_error: of it.
    """

    value: float
    standard_error: float

    @property
    def p_value(self) -> float:
        """Probability of so large an offset, either way, if there were none."""
        return math.erfc(abs(self.value) / self.standard_error / math.sqrt(2.0))

    @property
    def significant(self) -> bool:
        """Whether it is more than three of its standard errors."""
        return abs(self.value) > STANDARD_ERRORS * self.standard_error


def joint_offset(members: Sequence[Member], resolution: float) -> Offset:
    """The common offset of two figures or more.

    Args:
        members: the figures, all of them positive.
        resolution: of the printed ones, which are cut off: what was cut lies anywhere
            between ``published`` and ``published + resolution``.
    """
    differences, errors = _model(members, resolution)
    return _combined(_weights(errors), differences, errors)


def moves_with(figure: Member, members: Sequence[Member], resolution: float) -> bool:
    """Whether a figure is off by what the others have in common.

    The difference between the two is then no more than three standard errors, most of its
    error being shared.

    Args:
        figure: which is none of ``members``.
        members: the others.
        resolution: as in :func:`joint_offset`.
    """
    differences, errors = _model([*members, figure], resolution)
    others = _weights(_Errors(errors.common[:-1], errors.own[:-1]))
    return not _combined(np.append(-others, 1.0), differences, errors).significant


class _Errors(NamedTuple):
    """Σ = C Cᵀ + diag(own): in parts, since what is common cancels from a difference.

    Attributes:
        common: C, a column for each source of error that all figures share.
        own: variances.
    """

    common: Float[np.ndarray, "n sources"]
    own: Float[np.ndarray, " n"]


def _weights(errors: _Errors) -> Float[np.ndarray, " n"]:
    weights = 1.0 / (np.sum(errors.common**2, axis=1) + errors.own)
    return weights / weights.sum()


def _combined(
    weights: Float[np.ndarray, " n"], differences: Float[np.ndarray, " n"], errors: _Errors
) -> Offset:
    variance = np.sum((weights @ errors.common) ** 2) + weights**2 @ errors.own
    return Offset(float(weights @ differences), float(np.sqrt(variance)))


def _model(members: Sequence[Member], resolution: float) -> tuple[Float[np.ndarray, " n"], _Errors]:
    """log(published / ours), and their errors."""
    printed = np.array([member.published for member in members]) + 0.5 * resolution
    ours = np.array([member.ours for member in members])
    monte_carlo = np.array([member.monte_carlo for member in members]) / ours
    between = np.array([member.between for member in members]) / ours
    theirs = np.array([member.published_error for member in members]) / printed
    rounding = resolution / math.sqrt(12.0) / printed
    shared = np.min(monte_carlo)
    own = 2.0 * (monte_carlo**2 - shared**2) + rounding**2
    common = np.column_stack([np.full(len(ours), shared * 2.0**0.5), between, theirs])
    return np.log(printed / ours), _Errors(common, own)
