"""Diffusion merging: energies of noised subposteriors, added up and sampled."""

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.errors import UnknownNameError, nearest
from dncbench.method import Method, Shard
from dncbench.methods._diffusion_model import (
    OBJECTIVES,
    SHORTENED,
    TRAININGS,
    Energy,
    bounded_scores,
    noise,
    train,
)
from dncbench.methods._gaussian import Whitening, whitening
from dncbench.methods._learning import learning_curve
from dncbench.methods._product_density import (
    Schedule,
    sample,
    sample_annealed,
    whitened_product,
)
from dncbench.registry import register_method

_SAMPLERS = ("fixed", "annealed", "annealed-smc", "annealed-published")
_PUBLISHED_LEVELS, _PUBLISHED_STEP_SIZE = 300, 0.025


class FittedShard(eqx.Module):
    """What one shard sends.

    Attributes:
        energy: its network.
        whitening: mean and covariance root of its draws.
        shortened: share of its scores that :func:`bounded_scores` shortened.
        losses: in the course of training.
    """

    energy: Energy
    whitening: Whitening
    shortened: Float[Array, "*S"]
    losses: Float[Array, "*S points"]


@register_method("diffusion", version=1, small="training=brief")
class Diffusion(Method):
    """Diffusion merge: networks of the noised shards' log densities, added up and sampled.

    Trojan, Fearnhead & Nemeth (2024), Algorithm 1. Every shard's draws are whitened and
    noised by the variance-preserving SDE; a network's gradient is fitted to the scores at
    all noise levels. At noise 0 the energies of all shards add up to the log density of
    their product, which Hamiltonian Monte Carlo samples. Exact for Gaussian shards.

    Where the product lies in the tails of the shards there are few draws to learn from,
    and the errors of S networks add up. Without the stored scores the fit at noise 0, the
    only one that matters, is poor. In many dimensions skewness is smoothed away.

    Attributes:
        training: "fast": 20 000 updates, with a cosine-decayed rate and averaged
            parameters; "paper": 156 250 at a constant rate, as published.
        objective: what the gradients are fitted to, equations 5, 11 and 12: "dsm", the
            noise that was added (denoising score matching); "tsm", the stored scores
            (target score matching); "combined", whichever is less noisy at the time.
        stored_scores: whether the shards' stored scores are used; without them
            "combined" is all denoising.
        normalise: whether the draws are whitened by mean and covariance. Without it the
            network sees them as they are, in float32, and has location and scale to learn
            too; whitened coordinates then serve the sampler only.
        sampler: "fixed", many chains at noise 0; "annealed", particles from the product
            of Gaussians along decreasing noise (Algorithm 2), for separate modes;
            "annealed-smc", the same with the weights of sequential Monte Carlo, exact for
            the fitted densities. Those know the shape of each mode, but scores do not
            see how high separate modes are: on the six symmetric modes of
            ``gaussian-mixture`` exactness makes the weights of the modes worse;
            "annealed-published", Algorithm 2 as it was run on the published mixture
            (appendix A.4): 300 steps of three leapfrogs of 0.025 in the parameters' own units.
        until: time at which the annealing stops, 0 at no noise. Above 0 it is for looking
            at the sequence, not for merging.
    """

    training: str = "fast"
    objective: str = "combined"
    stored_scores: bool = True
    normalise: bool = True
    sampler: str = "fixed"
    until: float = 0.0

    cites: ClassVar = ("trojan2024",)
    exact_for_gaussians: ClassVar = True

    def __check_init__(self) -> None:
        for setting, known in (
            ("training", TRAININGS),
            ("objective", OBJECTIVES),
            ("sampler", _SAMPLERS),
        ):
            value = str(getattr(self, setting))
            if value not in known:
                raise UnknownNameError(
                    f"diffusion: {setting}={value!r}{nearest(value, known)}; "
                    f"known: {', '.join(known)}"
                )
        if not 0 <= self.until < 1 or (self.until and self.sampler == "fixed"):
            raise UnknownNameError(
                f"diffusion: until={self.until:g} must be at least 0, below 1, and 0 unless "
                "sampler=annealed"
            )
        if self.objective == "tsm" and not self.stored_scores:
            raise UnknownNameError(
                "diffusion: objective='tsm' fits nothing but stored scores; "
                "leave stored_scores on, or use objective=dsm"
            )

    @property
    def _objective(self) -> str:
        return self.objective if self.stored_scores else "dsm"

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """Scores only where they are fitted to."""
        always = frozenset({"draws", "covariance"})
        return always if self._objective == "dsm" else always | {"score"}

    def fit(self, shard: Shard, key: PRNGKeyArray) -> FittedShard:
        """Train the shard's network."""
        assert shard.values is not None
        values, score, shortened = shard.values, shard.score, jnp.zeros(())
        coordinates = whitening(values)
        if self._objective == "dsm":
            score = None
        if self.normalise:
            values = coordinates.positions(values)
            score = None if score is None else coordinates.scores(score)
        if score is not None:
            score, shortened = bounded_scores(score)
        energy, losses = train(values, score, key, TRAININGS[self.training], self._objective)
        return FittedShard(energy, coordinates, shortened, losses)

    def merge(
        self, messages: FittedShard, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """Sample from the exponential of the sum of the energies."""
        space = whitened_product(messages.whitening)
        dim = messages.whitening.mean.shape[1]
        maps, shifts = jax.vmap(space.into)(messages.whitening)
        if not self.normalise:
            maps = jnp.broadcast_to(space.root, maps.shape)
            shifts = jnp.broadcast_to(space.mean, shifts.shape)
        # Composed in float64 above; the networks need no more than float32.
        maps, shifts = maps.astype(jnp.float32), shifts.astype(jnp.float32)

        def log_density(z: Float[Array, " d"], t: Float[Array, ""]) -> Float[Array, ""]:
            def shard(energy: Energy, map_: Array, shift: Array) -> Array:
                return energy.log_density(map_ @ z + shift, noise(t))

            return jnp.sum(jax.vmap(shard)(messages.energy, maps, shifts))

        def path(z: Float[Array, " d"], t: Float[Array, ""]) -> Float[Array, ""]:
            t = self.until + (1 - self.until) * t
            if self.normalise:
                return log_density(z, t)
            # The raw coordinates' noise prior may lie anywhere, seen from z.
            return (1 - t) * log_density(z, t) - 0.5 * t * jnp.sum(z**2)

        if self.sampler != "fixed":
            schedule = Schedule()
            if self.sampler == "annealed-published":
                step = _PUBLISHED_STEP_SIZE
                schedule = Schedule(_PUBLISHED_LEVELS, 1, 0, step, space.root)
            z, info = sample_annealed(
                path,
                key,
                num_draws,
                dim,
                reweight=self.sampler == "annealed-smc",
                schedule=schedule,
            )
        else:
            z, info = sample(lambda z: log_density(z, jnp.float32(0)), key, num_draws, dim)
        return space.original(z), {
            **info,
            "learning_curve": learning_curve(messages.losses),
            "warnings": {SHORTENED: messages.shortened > 0},
        }
