"""Score regression: fit each shard's log density to the stored scores, add up, sample.

Every gradient-based sampler evaluates the score g_t = ∇log p_s(θ_t) at each draw and throws
it away. Kept, T draws of one shard hold T·d exact numbers about its log density,
at the places where the shard has mass. Regression of g on θ is unbiased wherever there are
draws, needs no normalisation and no density estimate; least squares with a
linear model of g returns exactly the shard's Gaussian approximation (Stein's
identity, Cov(θ, g) = -I), so whatever else the family can express improves on the
Gaussian product.

What remains is extrapolation: in high dimensions the product lies 5 to 10 subposterior
standard deviations from every shard's draws. No weighting can bring information there,
only structure can: here sums of ridge functions with a log-concave sign, see
:mod:`dncbench.methods._ridge_energy`.

It fails where a subposterior is not log-concave (a banana, a mixture, Student-t
regression): the training loss then stays high, and a warning says so; "free" or
"mlp" fit such shapes near the draws and may run off elsewhere. In high dimensions it was
tested on generalised linear models, which are sums of ridges; nothing else is promised. It
also says nothing about directions that a shard's observations do not inform: a second
round (``rounds=2``) asks the shards for their scores at 2000 merged draws and fits one
surrogate to the sum, in which that missing information is.
"""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.errors import UnknownNameError, nearest
from dncbench.method import Method, Shard
from dncbench.methods._gaussian import Whitening, whitening
from dncbench.methods._learning import learning_curve
from dncbench.methods._product_density import Space, sample, whitened_product
from dncbench.methods._ridge_energy import FAMILIES, Energy, initial, train
from dncbench.registry import register_method
from dncbench.storage.ratios import LOW_SHARE

_POINTS = 2_000  # merged draws at which the shards answer in the second round
_LARGE_LOSS = 0.05  # of 1: log-concave shards reach 0.01, a banana stays above 1
_NO_FIT = 1.0  # as much as a Gaussian's scores hold themselves
_FAR = 12.0  # whitened units beyond the sqrt(d) of a Gaussian: the surrogate runs off


class _Message(NamedTuple):
    """One shard's fitted energy in its own whitened coordinates, float32, and its misfits."""

    energy: Any
    shard: Whitening
    loss: Float[Array, "*S"]
    losses: Float[Array, "*S points"]


class _Answer(NamedTuple):
    """A shard's log densities (P,) and scores (P, d) at the broadcast points."""

    log_density: Float[Array, " P"]
    score: Float[Array, "P d"]


class _Server(NamedTuple):
    """What the server keeps of the first round: the messages, and the points it broadcast."""

    first: _Message
    points: Float[Array, "P d"]


@register_method(
    "score-regression",
    version=1,
    variants=("rounds=2",),
    small="steps=50",
    ours=True,
    developed_on=("spambase",),
)
class ScoreRegression(Method):
    """Ridge-function log densities fitted to the stored scores, summed and sampled.

    For each shard, in its whitened coordinates: minimise Σ_t |∇f_s(x_t) - g_t|² (Huber in the
    row norm) over f_s = b·x - |Lᵀx|²/2 - Σ_k a_k softplus(w_k·x + c_k) with a_k >= 0; then
    Hamiltonian Monte Carlo on Σ_s f_s. The merge is this project's own; the module's
    docstring derives it and says when it fails.

    Attributes:
        family: "concave"; "free" (signs free) or "mlp" for shapes that are not
            log-concave.
        rounds: 1; or 2, where the shards then return their scores at 2000 merged draws, and
            one surrogate is fitted to the sums.
        ridges: K; 0 chooses 64 to 512 by dimension.
        steps: updates of 128 draws in the first round.
        learning_rate: of Adam at the start; a cosine takes it to zero.
    """

    family: str = "concave"
    rounds: int = 1
    ridges: int = 0
    steps: int = 10_000
    learning_rate: float = 0.03

    exact_for_gaussians: ClassVar = True

    def __check_init__(self) -> None:
        if self.family not in FAMILIES:
            raise UnknownNameError(
                f"score-regression: family={self.family!r}{nearest(str(self.family), FAMILIES)}; "
                f"known: {', '.join(FAMILIES)}"
            )
        if self.rounds not in (1, 2):
            raise UnknownNameError(f"score-regression: rounds={self.rounds} must be 1 or 2")
        if self.ridges < 0 or self.steps < 1 or not self.learning_rate > 0:
            raise UnknownNameError(
                "score-regression: ridges must be 0 or more, steps and learning_rate positive"
            )

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """Draws and scores; the shards' densities too where there is a second round."""
        always = {"draws", "score", "covariance"}
        return frozenset(always | {"model"} if self.rounds > 1 else always)

    @property
    def num_rounds(self) -> int:  # type: ignore[override]
        """As set."""
        return self.rounds

    def fit(self, shard: Shard, key: PRNGKeyArray) -> _Message:
        """The shard's energy, fitted to its scores."""
        assert shard.values is not None
        assert shard.score is not None
        own = whitening(shard.values)
        # Whitened, everything is of order one: float32 halves the time.
        x = own.positions(shard.values).astype(jnp.float32)
        scores = own.scores(shard.score).astype(jnp.float32)
        energy, loss, losses = self._trained(key, x, scores, self.steps, self.learning_rate)
        return _Message(eqx.filter(energy, eqx.is_inexact_array), own, loss, losses)

    def _skeleton(self, key: PRNGKeyArray, dim: int) -> Energy:
        chosen = min(512, max(64, 1 << (8 * dim - 1).bit_length()))
        return initial(key, dim, self.ridges or chosen, self.family)

    def _trained(
        self, key: PRNGKeyArray, x: Array, scores: Array, steps: int, learning_rate: float
    ) -> tuple[Energy, Float[Array, ""], Float[Array, " points"]]:
        key_start, key_train = jax.random.split(key)
        energy = self._skeleton(key_start, x.shape[1])
        return train(energy, key_train, x, scores, steps=steps, learning_rate=learning_rate)

    # ------------------------------------------------------------ the first round's product

    def _summed(self, messages: _Message) -> tuple[Space, "_Sum | _Networks"]:
        """Coordinates z, and Σ_s f_s as a function of them."""
        space = whitened_product(messages.shard)
        maps = jax.vmap(space.into)(messages.shard)
        dim = len(space.mean)
        static = eqx.filter(
            eqx.filter_eval_shape(self._skeleton, jax.random.key(0), dim),
            lambda leaf: not isinstance(leaf, jax.ShapeDtypeStruct),
        )
        energies = eqx.combine(messages.energy, static)
        if self.family == "mlp":
            single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), maps)
            return space, _Networks(energies, *single)
        return space, eqx.filter_vmap(_ridges_of)(energies, *maps).total()

    def aggregate(
        self, server: None, messages: _Message, key: PRNGKeyArray
    ) -> tuple[_Server, Float[Array, "P d"]]:
        """2000 draws of the first round's product."""
        space, energy = self._summed(messages)
        z, _ = sample(energy, key, _POINTS, len(space.mean))
        points = space.original(z)
        return _Server(messages, points), points

    def answer(
        self, shard: Shard, state: None, broadcast: Float[Array, "P d"], key: PRNGKeyArray
    ) -> tuple[None, _Answer]:
        """The shard's log densities and scores at the points."""
        assert shard.density is not None
        evaluated = jax.lax.map(jax.value_and_grad(shard.density), broadcast, batch_size=100)
        return None, _Answer(*evaluated)

    # ------------------------------------------------------------ merging

    def merge(
        self, messages: _Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """Hamiltonian Monte Carlo on the sum."""
        space, energy = self._summed(messages)
        z, sampled = sample(energy, key, num_draws, len(space.mean))
        return space.original(z), _told(messages, sampled, {}, len(space.mean))

    def finish(
        self, server: _Server | None, messages: Any, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """The merge of one round; of two, sampling the surrogate of the second."""
        if server is None:
            return self.merge(messages, key, num_draws)
        space, energy = self._summed(server.first)
        key_fit, key_sample = jax.random.split(key)
        draws, sampled, second = self._second(
            server.points, messages, space, energy, key_fit, key_sample, num_draws
        )
        return draws, _told(server.first, sampled, second, len(space.mean))

    def _second(
        self,
        points: Float[Array, "P d"],
        answers: _Answer,
        space: Space,
        energy: "_Sum | _Networks",
        key_fit: PRNGKeyArray,
        key_sample: PRNGKeyArray,
        num_draws: int,
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Array], dict[str, Array]]:
        """One surrogate of the summed score, fitted at the points and sampled.

        The importance ratios of the first round's surrogate at its own draws show how good it
        was; a nearly exact one is kept, for a refit from 2000 points would only add noise.
        """
        own = whitening(points)
        dim = points.shape[1]
        x = own.positions(points).astype(jnp.float32)
        scores = own.scores(jnp.sum(answers.score, axis=0)).astype(jnp.float32)
        steps, learning_rate = self.steps * 2 // 5, self.learning_rate / 3
        total, loss, _ = self._trained(key_fit, x, scores, steps, learning_rate)
        at_points = jax.vmap(energy)(space.whitened(points))
        ratios = jnp.sum(answers.log_density, axis=0) - at_points
        weights = jax.nn.softmax(ratios)
        share = 1.0 / (len(weights) * jnp.sum(weights**2))

        def first() -> tuple:
            z, info = sample(energy, key_sample, num_draws, dim)
            return space.original(z), info

        def second() -> tuple:
            z, info = sample(total, key_sample, num_draws, dim)
            return own.original(z.astype(float)), info

        draws, info = jax.lax.cond(share > LOW_SHARE, first, second)
        return draws, info, {"first_round_ess_share": share, "second_loss": loss}


def _told(
    first: _Message, sampled: dict[str, Array], second: dict[str, Array], dim: int
) -> dict[str, Any]:
    """What the merge reports of its training and of its sampling."""
    unexplained = second.get("second_loss", jnp.max(first.loss))
    return {
        "loss": jnp.max(first.loss),
        "learning_curve": learning_curve(first.losses),
        **second,
        **sampled,
        "unreliable": {
            "training loss above 1, twenty times what a fit of the right family leaves": (
                unexplained > _NO_FIT
            )
        },
        "warnings": {
            "training loss above 0.05: the subposterior is not of this family; rounds=2 asks the "
            "shards again where the merged draws are, and another family alone does not help "
            "where none of them has draws": first.loss > _LARGE_LOSS,
            "merged draws run off to where no shard has draws": (
                sampled["furthest"] > dim**0.5 + _FAR
            ),
        },
    }


# ---------------------------------------------------------------- sums over shards


class _Sum(eqx.Module):
    """All shards' quadratics in one, and all their ridges side by side, as functions of z."""

    linear: Float[Array, "*S d"]
    curvature: Float[Array, "*S d d"]
    weights: Float[Array, "*S K d"]
    offsets: Float[Array, "*S K"]
    amplitudes: Float[Array, "*S K"]

    def total(self) -> "_Sum":
        """The sum over a leading axis of S, in float32."""
        parts = (
            jnp.sum(self.linear, axis=0),
            jnp.sum(self.curvature, axis=0),
            self.weights.reshape(-1, self.weights.shape[-1]),
            self.offsets.reshape(-1),
            self.amplitudes.reshape(-1),
        )
        return _Sum(*(part.astype(jnp.float32) for part in parts))

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """Σ_s f_s at z."""
        ridges = jax.nn.softplus(self.weights @ z + self.offsets)
        return self.linear @ z - 0.5 * z @ self.curvature @ z - self.amplitudes @ ridges


def _ridges_of(energy: Energy, matrix: Float[Array, "d d"], shift: Float[Array, " d"]) -> _Sum:
    """One shard's f at x = matrix z + shift as a function of z.

    In float64: the shift may be ten standard deviations, and is squared.
    """
    curvature, weights = energy.curvature().astype(float), energy.weights.astype(float)
    return _Sum(
        matrix.T @ (energy.linear - curvature @ shift),
        matrix.T @ curvature @ matrix,
        weights @ matrix,
        weights @ shift + energy.offsets,
        energy.amplitudes().astype(float),
    )


class _Networks(eqx.Module):
    """Σ_s f_s(B_s z + b_s) of stacked energies."""

    energies: Energy
    matrices: Float[Array, "S d d"]
    shifts: Float[Array, "S d"]

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """Σ_s f_s at z."""
        each = eqx.filter_vmap(lambda energy, matrix, shift: energy(matrix @ z + shift))
        return jnp.sum(each(self.energies, self.matrices, self.shifts))
