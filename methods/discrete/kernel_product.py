"""The semiparametric product of discrete densities."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.draws import evenly
from dncbench.errors import UnknownNameError
from dncbench.method import Method, Shard
from dncbench.methods.discrete._objects import (
    Message,
    counts,
    drawn,
    num_objects,
    own_draws,
    sites_of,
)
from dncbench.registry import register_method
from dncbench.stategraph.sites import Sites

_BANDWIDTHS = tuple(0.5**power for power in range(1, 11))
_NUM_LEFT_OUT = 500  # draws that the likelihood is summed over
_NOWHERE = -80.0
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
        return own_draws(shard)

    def merge(
        self, messages: Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
        """The sum of the clients' log densities, normalised."""
        sites, size = sites_of(messages.problem), num_objects(messages.problem)
        estimate = lambda codes: self._log_density(sites, codes, size)  # noqa: E731
        logs, bandwidths = jax.lax.map(estimate, messages.sent)
        codes, info = drawn(jnp.sum(logs, axis=0), logs, key, num_draws)
        return codes, info | {"bandwidths": bandwidths}

    def _log_density(
        self, sites: Sites, codes: Int[Array, " T"], size: int
    ) -> tuple[Float[Array, " K"], Float[Array, ""]]:
        """A client's estimate at every object, from its draws, and its h."""
        log_start = self._log_start(sites, counts(codes, size))
        seen, often = jnp.unique(
            codes, return_counts=True, size=min(len(codes), size), fill_value=0
        )
        # A place that is left over holds object 0, no times.
        log_weights = jnp.where(often > 0, jnp.log(often) - log_start[seen], -jnp.inf)
        sums = lambda at, h: _log_sums(sites, at, seen, log_weights, h)  # noqa: E731

        some = codes[evenly(len(codes), min(len(codes), _NUM_LEFT_OUT))]
        at_itself = -log_start[some]  # one draw of the object itself, times its kernel

        def left_out(h: Array) -> Array:
            own = _log_kernel(sites, h)[0] + at_itself
            others = jnp.log1p(-jnp.minimum(jnp.exp(own - sums(some, h)), 1.0))
            return jnp.sum(jnp.maximum(sums(some, h) + others, _NOWHERE))

        bandwidths = jnp.array(_BANDWIDTHS)
        chosen = bandwidths[jnp.argmax(jax.lax.map(left_out, bandwidths))]
        everywhere = sums(jnp.arange(size), chosen)
        # Where no kernel reaches, an estimate that is zero would rule an object out for all.
        return log_start + jnp.maximum(everywhere, _NOWHERE), chosen

    def _log_start(self, sites: Sites, often: Float[Array, " K"]) -> Float[Array, " K"]:
        """Log probabilities of q."""
        if self.start == "flat":
            return jnp.zeros(len(sites.values))
        hot = jnp.asarray(sites.statistics())
        found = often @ hot + self.pseudo_count
        by_place = found.reshape(1 if sites.exchangeable else -1, sites.num_values)
        shares = jnp.log(by_place) - jnp.log(jnp.sum(by_place, axis=1, keepdims=True))
        return hot @ shares.reshape(-1) + jnp.asarray(sites.log_orders())


def _log_kernel(sites: Sites, h: Array) -> tuple[Array, Array]:
    """Log kernel of an object with itself, and what it loses for each place that differs."""
    agree = jnp.log1p(-h)
    return sites.values.shape[1] * agree, agree - jnp.log(h / max(sites.num_values - 1, 1))


def _log_sums(
    sites: Sites,
    at: Int[Array, " M"],
    seen: Int[Array, " T"],
    log_weights: Float[Array, " T"],
    h: Array,
) -> Float[Array, " M"]:
    """Log Σ_t w_t k(x, x_t) at each of M objects, in single precision but for the weights' size."""
    overlaps = jnp.asarray(sites.overlaps(), jnp.float32)
    whole, loss = _log_kernel(sites, h)
    largest = jnp.max(log_weights)
    weights = jnp.exp(log_weights - largest).astype(jnp.float32)
    known = overlaps[seen].T
    loss32, length = loss.astype(jnp.float32), sites.values.shape[1]

    def some(rows: Array) -> Array:
        return jnp.exp(loss32 * (overlaps[rows] @ known - length)) @ weights

    padded = jnp.pad(at, (0, -len(at) % _CHUNK)).reshape(-1, _CHUNK)
    sums = jax.lax.map(some, padded).reshape(-1)[: len(at)]
    return whole + largest + jnp.log(sums.astype(float))
