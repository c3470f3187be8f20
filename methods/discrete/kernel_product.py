"""The semiparametric product of discrete densities."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.errors import UnknownNameError
from dncbench.method import Method, Shard
from dncbench.methods.discrete._objects import Message, counts, drawn, num_objects, sites_of
from dncbench.registry import register_method
from dncbench.stategraph.sites import Sites

_BANDWIDTHS = tuple(0.5**power for power in range(1, 11))
_CHUNK = 256


@register_method("kernel-product", version=1, variants=("start=flat",))
class KernelProduct(Method):
    """Multiplies kernel density estimates of the clients, made from a law of independent places.

    The discrete twin of Neiswanger, Wang & Xing (2014)'s semiparametric product, with
    Hjort & Glad's estimate q(x) Σ_t k(x, x_t) / q(x_t), where q has independent places, and with
    the kernel of Aitchison & Aitken: (1 - h) where two objects agree at a place, h / (V - 1)
    where they do not. Every client chooses its h by leave-one-out likelihood. The product is
    summed over all objects, and so needs no sampler of indices.

    Attributes:
        start: "sites", or "flat" for a plain kernel density estimate.
        pseudo_count: of every value at a place, in q.
    """

    start: str = "sites"
    pseudo_count: float = 0.5

    needs = frozenset({"draws", "problem"})
    spaces = frozenset({"codes"})
    cites: ClassVar = ("neiswanger2014",)

    def __check_init__(self) -> None:
        if self.start not in ("sites", "flat"):
            raise UnknownNameError(f"kernel-product: start is {self.start!r}; known: sites, flat")

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Message:
        """The draws."""
        assert shard.values is not None
        return Message(shard.values.astype(jnp.int32), shard.problem)

    def merge(
        self, messages: Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
        """The sum of the clients' log densities, normalised."""
        sites, size = sites_of(messages.problem), num_objects(messages.problem)
        estimate = lambda codes: self._log_density(sites, counts(codes, size))  # noqa: E731
        logs, bandwidths = jax.lax.map(estimate, messages.sent)
        codes, info = drawn(jnp.sum(logs, axis=0), key, num_draws)
        return codes, info | {"bandwidths": bandwidths}

    def _log_density(
        self, sites: Sites, often: Float[Array, " K"]
    ) -> tuple[Float[Array, " K"], Float[Array, ""]]:
        """A client's estimate at every object, from how often each was drawn, and its h."""
        length = sites.values.shape[1]
        log_start = self._log_start(sites, often)
        weights = often * jnp.exp(-log_start)
        near = _by_distance(sites, weights)
        bandwidths = jnp.array(_BANDWIDTHS)
        apart = jnp.arange(length + 1)[None, :]
        odds = bandwidths / jnp.maximum(sites.num_values - 1, 1)
        kernels = (length - apart) * jnp.log1p(-bandwidths)[:, None] + apart * jnp.log(odds)[
            :, None
        ]
        kernels = jnp.exp(kernels)
        # Without one of the draws that lie on an object itself.
        itself = kernels[:, 0][None, :] * jnp.exp(-log_start)[:, None]
        others = jnp.maximum(near @ kernels.T - itself, 0.0)
        likelihood = often @ jnp.where(often[:, None] > 0, jnp.log(others), 0.0)
        best = jnp.argmax(likelihood)
        # Where no kernel reaches, an estimate that is zero would rule an object out for all.
        tiny = jnp.finfo(near.dtype).tiny
        return log_start + jnp.log(near @ kernels[best] + tiny), bandwidths[best]

    def _log_start(self, sites: Sites, often: Float[Array, " K"]) -> Float[Array, " K"]:
        if self.start == "flat":
            return jnp.zeros(len(sites.values))
        hot = jnp.asarray(sites.statistics())
        if sites.exchangeable:
            found = often @ hot + self.pseudo_count
            shares = jnp.log(found) - jnp.log(jnp.sum(found))
        else:
            found = (often @ hot).reshape(-1, sites.num_values) + self.pseudo_count
            shares = (jnp.log(found) - jnp.log(jnp.sum(found, axis=1, keepdims=True))).reshape(-1)
        return hot @ shares + jnp.asarray(sites.log_orders())


def _by_distance(sites: Sites, weights: Float[Array, " K"]) -> Float[Array, "K distances"]:
    """Total weight of the objects at each distance, 0 to L places, from every object."""
    overlaps = jnp.asarray(sites.overlaps(), jnp.float32)
    length, size = sites.values.shape[1], len(weights)
    padded = jnp.pad(overlaps, ((0, -size % _CHUNK), (0, 0)))

    def some(rows: Array) -> Array:
        agree = jnp.round(rows @ overlaps.T)
        return jnp.stack([(agree == length - d) @ weights for d in range(length + 1)], axis=1)

    chunks = padded.reshape(-1, _CHUNK, overlaps.shape[1])
    return jax.lax.map(some, chunks).reshape(-1, length + 1)[:size]
