"""The normalising-flow merge: one invertible network per shard, multiplied and sampled.

Mesquita, Blomstedt & Kaski (2020), "Embarrassingly parallel MCMC using deep invertible
transformations". A shard fits a flow q_s to its draws by maximum likelihood and sends the
weights; the server samples Π_s q_s. The flows are flowjax's masked autoregressive flows
(Papamakarios et al. 2017) in place of the paper's real NVP: one forward pass for a log
density, which is all that training and Hamiltonian Monte Carlo ask for.

When it fails: the likelihood rewards q_s where the shard's draws are, and the product may lie
elsewhere, where no draw has anything to say (a warning names such shards). A flow is one
connected piece: between separate modes it leaves a bridge of mass, and the product's
modes get wrong weights. In high dimensions small errors of many flows add up.
"""

from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from flowjax.bijections import (
    Affine,
    Chain,
    Flip,
    Invert,
    MaskedAutoregressive,
    RationalQuadraticSpline,
    Scan,
)
from flowjax.distributions import StandardNormal, Transformed
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key, PRNGKeyArray, PyTree
from paramax import Parameterize
from paramax.utils import inv_softplus

from dncbench.draws import systematic
from dncbench.errors import UnknownNameError, nearest
from dncbench.method import Method, Shard
from dncbench.methods._gaussian import Whitening, whitening
from dncbench.methods._learning import learning_curve
from dncbench.methods._product_density import Space, sample, whitened_product
from dncbench.precision import third_party
from dncbench.registry import register_method

_TRANSFORMERS = ("affine", "spline")
_SAMPLERS = ("hmc", "importance")
_SMALLEST_SCALE = 0.01  # of an affine layer: bounds how far a layer can stretch a tail
_KNOTS, _INTERVAL = 8, 5.0  # of a spline, the identity outside ± 5 standard deviations
_HELD_OUT = 10  # one draw in so many is kept from training, to judge it by
_CHECKS = 50
_FORGETTING = 0.02  # of the running mean of the parameters, about the last fifty steps
_PROPOSALS = 5  # importance sampling: proposals for each draw that is wanted


class _Message(NamedTuple):
    """One shard's flow and what the server needs besides.

    Attributes:
        shard: the whitening of the shard's draws, float64.
        parameters: the flow's trained arrays, float32; its structure is the settings'.
        radius: () largest |x| of the shard's draws, in whitened coordinates.
        ess: () how many independent draws the shard's are worth.
        losses: of the held-out draws in the course of training.
    """

    shard: Whitening
    parameters: PyTree[Array]
    radius: Float[Array, "*S"]
    ess: Float[Array, "*S"]
    losses: Float[Array, "*S points"]


@register_method(
    "flow", version=1, variants=("score_weight=0.3",), small="steps=50", accurate="steps=600"
)
class Flow(Method):
    """Product of one normalising flow per shard, fitted by maximum likelihood.

    Each flow lives in its shard's whitened coordinates and starts as the identity, so that
    an untrained product is the product of Gaussians; a tenth of the draws are held out to
    stop the training where it gets no better. The module's docstring gives the source and
    says when it fails.

    Attributes:
        transformer: "affine"; or "spline", rational-quadratic (Durkan et al. 2019), more
            flexible and several times slower. In one dimension an affine flow is a Gaussian.
        score_weight: w >= 0 of E|∇log q_s - g|² beside the negative log likelihood, with
            the stored scores g; both in whitened coordinates.
        sampler: "hmc" on Σ_s log q_s from the product of Gaussians; or "importance", the
            paper's way of sampling: here with proposals from the equal mixture of the
            flows, weighted by Π_s q_s over the mixture, and resampled. The weights collapse
            onto a few proposals, and ``ess`` with them, where the shards do not overlap.
        steps: updates of the parameters, rounded up to whole fiftieths; the learning rate
            falls to zero along a cosine.
        layers: autoregressive layers; the coordinates' order is turned round between them.
        width: hidden units of a layer's network, 2 d if that is more.
        batch: draws in an update.
        learning_rate: of Adam at the start.
    """

    transformer: str = "affine"
    score_weight: float = 0.0
    sampler: str = "hmc"
    steps: int = 3000
    layers: int = 6
    width: int = 32
    batch: int = 128
    learning_rate: float = 5e-3

    cites: ClassVar = ("mesquita2020",)
    exact_for_gaussians: ClassVar = True

    def __check_init__(self) -> None:
        for setting, known in (("transformer", _TRANSFORMERS), ("sampler", _SAMPLERS)):
            value = getattr(self, setting)
            if value not in known:
                raise UnknownNameError(
                    f"flow: {setting}={value!r}{nearest(str(value), known)}; "
                    f"known: {', '.join(known)}"
                )
        for setting in ("steps", "layers", "width", "batch"):
            if getattr(self, setting) < 1:
                raise UnknownNameError(f"flow: {setting}={getattr(self, setting)}; at least 1")
        if self.score_weight < 0 or self.learning_rate <= 0:
            raise UnknownNameError(
                f"flow: score_weight={self.score_weight}, learning_rate={self.learning_rate}; "
                "the first must not be negative, the second positive"
            )

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """Scores only where they have a weight."""
        return frozenset({"draws", "covariance"} | ({"score"} if self.score_weight else set()))

    def fit(self, shard: Shard, key: PRNGKeyArray) -> _Message:
        """Train the flow of one shard."""
        assert shard.values is not None
        assert shard.ess is not None
        # Moments in float64, where a mean far from zero costs digits; what is whitened is
        # of order one, and float32 halves the cost of training.
        coordinates = whitening(shard.values)
        x = coordinates.positions(shard.values)
        scores = None
        if self.score_weight:
            assert shard.score is not None
            scores = coordinates.scores(shard.score).astype(jnp.float32)
        parameters, losses = self._train(x.astype(jnp.float32), scores, key)
        radius = jnp.max(jnp.linalg.norm(x, axis=1))
        return _Message(coordinates, parameters, radius, shard.ess, losses)

    def merge(
        self, messages: _Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """Sample the product of the flows.

        ``ess`` counts the sampler's draws and, as for any density estimated from them,
        the scarcest shard's.
        """
        product = _Product(self, messages)
        if self.sampler == "importance":
            z, info = product.resampled(key, num_draws)
        else:
            z, info = sample(
                lambda z: jnp.sum(product.log_densities(z)), key, num_draws, product.dim
            )
        outside = jax.vmap(product.distances)(z) > messages.radius[None, :]
        return product.space.original(z), {
            **info,
            "ess": 1.0 / (1.0 / info["ess"] + 1.0 / jnp.min(messages.ess)),
            "learning_curve": learning_curve(messages.losses),
            "warnings": {
                "most merged draws lie further out than any of the shard's own, where its "
                "flow is extrapolated": jnp.mean(outside, axis=0) > 0.5,
                "affine layers fit a Gaussian in one dimension: set transformer=spline": (
                    jnp.asarray(product.dim == 1 and self.transformer == "affine")
                ),
            },
        }

    # ------------------------------------------------------------ one flow

    def untrained(self, key: PRNGKeyArray, dim: int) -> Transformed:
        """The flow before training: the identity on N(0, I), in float32."""
        transformer = _spline() if self.transformer == "spline" else _affine()

        def layer(key: PRNGKeyArray) -> Chain:
            with third_party():
                autoregressive = MaskedAutoregressive(
                    key,
                    # It is closed over, not a leaf: float64 here would spread to everything.
                    transformer=_single_precision(transformer),
                    dim=dim,
                    # Unit k sees coordinates 0 to k mod (d - 1): fewer than d - 1 units would
                    # leave the last coordinates blind to those just before them.
                    nn_width=max(self.width, 2 * dim),
                    nn_depth=1,
                    nn_activation=jax.nn.silu,  # smooth: its gradient is followed and matched
                )
            # The network's output is added to the identity's parameters.
            autoregressive = eqx.tree_at(_last_layer, autoregressive, replace_fn=_zeros)
            return Chain([_single_precision(autoregressive), Flip(shape=(dim,))])  # type: ignore[call-arg]

        layers = eqx.filter_vmap(layer)(jax.random.split(key, self.layers))
        # Inverted, a log density is one forward pass and only a draw is sequential.
        base = StandardNormal(shape=(dim,))  # type: ignore[call-arg]
        return Transformed(base, Invert(Scan(layers)))

    def trained(self, parameters: PyTree[Array], dim: int) -> Transformed:
        """The flow that a shard's arrays belong to."""
        structure = self.untrained(jax.random.key(0), dim)
        return eqx.combine(parameters, eqx.filter(structure, eqx.is_inexact_array, inverse=True))

    def loss(
        self,
        flow: Transformed,
        x: Float[Array, "n d"],
        scores: Float[Array, "n d"] | None = None,
    ) -> Float[Array, ""]:
        """Mean negative log likelihood, plus score_weight times the mean |∇log q - g|²."""
        if scores is None:
            return -jnp.mean(flow.log_prob(x))
        values, slopes = jax.vmap(jax.value_and_grad(flow.log_prob))(x)
        misfits = jnp.sum((slopes - scores) ** 2, axis=1)
        return jnp.mean(self.score_weight * misfits - values)

    def _train(
        self,
        x: Float[Array, "T d"],
        scores: Float[Array, "T d"] | None,
        key: PRNGKeyArray,
    ) -> tuple[PyTree[Array], Float[Array, " points"]]:
        """The running means of the parameters that a tenth of the draws, held out, like best.

        Tens of thousands of weights learn ten thousand draws in 58 dimensions by heart, and
        the flow is then further off than the Gaussian that it started from.
        """
        key_start, key_rows, key_steps = jax.random.split(key, 3)
        flow = self.untrained(key_start, x.shape[1])
        start, structure = eqx.partition(flow, eqx.is_inexact_array)
        shuffled = jax.random.permutation(key_rows, len(x))
        held_out, rest = jnp.split(shuffled, [max(1, len(x) // _HELD_OUT)])
        checks = min(_CHECKS, self.steps)
        optimiser = optax.adam(optax.cosine_decay_schedule(self.learning_rate, self.steps))

        def loss(parameters: PyTree[Array], rows: Array) -> Float[Array, ""]:
            flow = eqx.combine(parameters, structure)
            return self.loss(flow, x[rows], None if scores is None else scores[rows])

        def step(carry: tuple, key: PRNGKeyArray) -> tuple:
            parameters, mean, state = carry
            rows = jax.random.choice(key, rest, (self.batch,))
            updates, state = optimiser.update(jax.grad(loss)(parameters, rows), state)
            parameters = optax.apply_updates(parameters, updates)
            mean = optax.incremental_update(parameters, mean, _FORGETTING)
            return (parameters, mean, state), None

        def check(carry: tuple, keys: Key[Array, " n"]) -> tuple:
            training, best, smallest = carry
            _, mean, _ = training
            value = loss(mean, held_out)
            better = value < smallest
            best = jax.tree.map(lambda new, old: jnp.where(better, new, old), mean, best)
            training, _ = jax.lax.scan(step, training, keys)
            return (training, best, jnp.where(better, value, smallest)), value

        # The first check is of the start. The last is of the end: one more round, whose
        # steps have no length, is cheaper to compile than a check by itself.
        keys = jax.random.split(key_steps, (checks + 1, -(-self.steps // checks)))
        training = start, start, optimiser.init(start)
        losses: Array
        (_, best, _), losses = jax.lax.scan(check, (training, start, jnp.inf), keys)
        return best, losses


class _Product:
    """All shards' flows as functions of z, the product-whitened coordinates.

    Attributes:
        space: the coordinates.
        dim: d.
    """

    def __init__(self, method: Flow, messages: _Message) -> None:
        self._method, self._messages = method, messages
        self.space: Space = whitened_product(messages.shard)
        self.dim = messages.shard.mean.shape[1]
        maps, shifts = jax.vmap(self.space.into)(messages.shard)
        self._log_volumes = jnp.linalg.slogdet(maps)[1]
        self._maps, self._shifts = maps.astype(jnp.float32), shifts.astype(jnp.float32)

    def _whitened(self, z: Float[Array, " d"]) -> Float[Array, "S d"]:
        return self._maps @ z.astype(jnp.float32) + self._shifts

    def distances(self, z: Float[Array, " d"]) -> Float[Array, " S"]:
        """|x_s| of a point: how far out it is for each shard."""
        return jnp.linalg.norm(self._whitened(z), axis=1)

    def log_densities(self, z: Float[Array, " d"]) -> Float[Array, " S"]:
        """log q_s as a normalised density of z, for each shard."""

        def one(parameters: PyTree[Array], x: Float[Array, " d"]) -> Float[Array, ""]:
            return self._method.trained(parameters, self.dim).log_prob(x)

        values = jax.vmap(one)(self._messages.parameters, self._whitened(z))
        return values + self._log_volumes

    def resampled(
        self, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Array]]:
        """Importance resampling from the equal mixture of the flows."""
        key_noise, key_ticks = jax.random.split(key)
        messages = self._messages
        each = -(-_PROPOSALS * num_draws // len(self._shifts))

        def propose(
            parameters: PyTree[Array], shard: Whitening, noise: Float[Array, "n d"]
        ) -> Float[Array, "n d"]:
            flow = self._method.trained(parameters, self.dim)
            return shard.original(jax.vmap(flow.bijection.transform)(noise).astype(float))

        shape = (len(self._shifts), each, self.dim)
        noise = jax.random.normal(key_noise, shape, jnp.float32)
        proposals = jax.vmap(propose)(messages.parameters, messages.shard, noise)
        z = self.space.whitened(proposals.reshape(-1, self.dim))
        # One shard's worth of proposals at a time: all at once need not fit in memory.
        by_shard = jax.lax.map(jax.vmap(self.log_densities), z.reshape(shape))
        log_densities = by_shard.reshape(len(z), -1)
        log_product = jnp.sum(log_densities, axis=1)
        weights = jax.nn.softmax(log_product - logsumexp(log_densities, axis=1))
        weight_ess = 1.0 / jnp.sum(weights**2)
        rows = systematic(key_ticks, weights, num_draws)
        return z[rows], {
            "ess": 1.0 / (1.0 / num_draws + 1.0 / weight_ess),
            "weight_ess": weight_ess,
            "log_density": log_product[rows],
        }


# ---------------------------------------------------------------- pieces of a layer


def _spline() -> RationalQuadraticSpline:
    """Monotone and piecewise rational; it starts at the identity."""
    spline = RationalQuadraticSpline(knots=_KNOTS, interval=_INTERVAL)
    # Its knots are put between Python floats, which under x64 makes them float64.
    return eqx.tree_at(
        lambda spline: (spline.x_pos, spline.y_pos),
        spline,
        replace_fn=lambda knots: Parameterize(_as_single, knots),
    )


def _as_single(value: Array) -> Array:
    return value.astype(jnp.float32)


def _affine() -> Affine:
    """x to scale x + shift with scale = softplus(·) + 0.01; it starts at the identity."""
    scale: Any = Parameterize(_positive, inv_softplus(1.0 - _SMALLEST_SCALE))
    return eqx.tree_at(lambda affine: affine.scale, Affine(), scale)


def _positive(value: Array) -> Array:
    return jax.nn.softplus(value) + _SMALLEST_SCALE


def _last_layer(layer: MaskedAutoregressive) -> Any:
    return layer.masked_autoregressive_mlp.layers[-1]


def _zeros(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: 0 * leaf if eqx.is_inexact_array(leaf) else leaf, tree)


def _single_precision(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: _as_single(leaf) if eqx.is_inexact_array(leaf) else leaf, tree)
