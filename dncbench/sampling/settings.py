"""How a stack of densities is sampled."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SamplerSettings:
    """How to sample a stack of densities.

    Attributes:
        num_draws: T, draws kept of each density; a multiple of ``num_chains``.
        num_chains: C, chains of each density.
        min_ess: sampling goes on, and is thinned, until the kept draws of every
            density have this bulk ESS in every coordinate.
        num_windows: adaptation windows; the last adapts the step size alone.
        window_steps: steps of each window.
        target_acceptance: mean acceptance that the step size aims at; 0.9 costs up to a
            third more gradients than the usual 0.8 and diverges several times less.
        most_rounds: give up on ``min_ess`` after so many times ``num_draws``.
    """

    num_draws: int
    num_chains: int = 16
    min_ess: float = 0.0
    num_windows: int = 7
    window_steps: int = 75
    target_acceptance: float = 0.9
    most_rounds: int = 6
