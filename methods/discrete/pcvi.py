"""Parallel categorical variational inference."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.errors import UnknownNameError
from dncbench.method import Method, Shard
from dncbench.methods.discrete._objects import Message, drawn, log_rewards, sites_of
from dncbench.registry import register_method

_MOST_STEPS, _STEP_SIZE = 400, 0.3  # halved where a step makes the divergence worse
_RIDGE = 1e-9  # under a law that is nearly a point the statistics hardly vary
_SETTLED, _UNSETTLED = 1e-4, 1e-2  # total variation that a whole step would move the law by


class _Descent(NamedTuple):
    """Where the descent is: parameters (P,), their law (K,) and divergence, and the next step."""

    number: Int[Array, ""]
    slope: Float[Array, ""]
    size: Float[Array, ""]
    natural: Float[Array, " P"]
    probs: Float[Array, " K"]
    least: Float[Array, ""]


@register_method("pcvi", version=1, variants=("base=each",))
class Pcvi(Method):
    """Each client's reward is approximated by a law with independent places; those multiply.

    A client minimises KL(q || R_n / Z_n) over laws of independent categorical places, by natural
    gradient steps on exact sums over all objects; da Silva et al. (2024)'s baseline, without
    its stochastic gradients. Laws are restricted to what is an object, e.g. to graphs without a
    cycle, and normalised over those. Where places have no order, the number of orders of an
    object is a measure that enters once; with ``base="each"`` it enters with every client, as
    it does where probabilities of objects are multiplied.

    Attributes:
        base: "once" or "each".
    """

    base: str = "once"

    needs = frozenset({"model", "problem"})
    spaces = frozenset({"codes"})
    cites: ClassVar = ("dasilva2024",)

    def __check_init__(self) -> None:
        if self.base not in ("once", "each"):
            raise UnknownNameError(f"pcvi: base is {self.base!r}; known: once, each")

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Message:
        """Natural parameters (P,) of the law, and how far it would still have gone."""
        sites = sites_of(shard.problem)
        statistics, base = jnp.asarray(sites.statistics(free=True)), jnp.asarray(sites.log_orders())
        aim = log_rewards(shard) - base

        def divergence(natural: Array) -> tuple[Array, Array]:
            logs = jax.nn.log_softmax(base + statistics @ natural)
            return jnp.exp(logs) @ (logs - base - aim), jnp.exp(logs)

        def step(state: _Descent) -> _Descent:
            number, _, size, natural, probs, least = state
            # Natural gradients are regressions: with s the statistics, KL's is
            # natural - Cov(s)⁻¹ Cov(s, aim) under the present law.
            centred = statistics - (probs @ statistics)[None, :]
            weighted = probs[:, None] * centred
            covariance = centred.T @ weighted + _RIDGE * jnp.eye(len(natural))
            onward = jnp.linalg.solve(covariance, weighted.T @ (aim - probs @ aim)) - natural
            tried = natural + size * onward
            found, following = divergence(tried)
            slope = 0.5 * probs @ jnp.abs(centred @ onward)  # total variation for each unit of size
            better = found < least
            old, new = (natural, probs, least), (tried, following, found)
            kept = jax.tree.map(lambda a, b: jnp.where(better, b, a), old, new)
            size = jnp.where(better, jnp.minimum(1.5 * size, 1.0), 0.5 * size)
            return _Descent(number + 1, slope, size, *kept)

        def goes_on(state: _Descent) -> Array:
            return (state.number < _MOST_STEPS) & (state.slope > _SETTLED)

        start = jnp.zeros(statistics.shape[1])
        least, probs = divergence(start)
        size, slope = jnp.asarray(_STEP_SIZE), jnp.asarray(jnp.inf)
        first = _Descent(jnp.asarray(0), slope, size, start, probs, least)
        last = jax.lax.while_loop(goes_on, step, first)
        return Message((last.natural, last.slope), shard.problem)

    def merge(
        self, messages: Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
        """The law with the sum of the natural parameters."""
        sites = sites_of(messages.problem)
        natural, slopes = messages.sent
        copies = len(natural) if self.base == "each" else 1
        statistics = jnp.asarray(sites.statistics(free=True))
        scores = statistics @ jnp.sum(natural, axis=0)
        base = jnp.asarray(sites.log_orders())
        of_clients = base[None] + natural @ statistics.T
        codes, info = drawn(copies * base + scores, of_clients, key, num_draws)
        still = {"the clients' laws had not settled": jnp.logical_not(slopes < _UNSETTLED)}
        return codes, info | {"unreliable": still}
