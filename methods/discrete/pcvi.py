"""Parallel categorical variational inference."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.errors import UnknownNameError
from dncbench.method import Method, Shard
from dncbench.methods.discrete._objects import Message, drawn, log_rewards, sites_of
from dncbench.registry import register_method

_STEPS, _STEP_SIZE = 400, 0.3
_RIDGE = 1e-9  # one-hot statistics are collinear; what it hides no law depends on
_CONVERGED = 1e-4  # total variation between one step's law and the last's, over the step size


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
        """Natural parameters (P,) of the law, and how far the last step went."""
        sites = sites_of(shard.problem)
        statistics, base = jnp.asarray(sites.statistics()), jnp.asarray(sites.log_orders())
        aim = log_rewards(shard) - base

        def step(natural: Array, _: None) -> tuple[Array, Array]:
            # Natural gradients are regressions: with s the statistics, KL's is
            # natural - Cov(s)⁻¹ Cov(s, aim) under the present law.
            probs = jax.nn.softmax(base + statistics @ natural)
            centred = statistics - (probs @ statistics)[None, :]
            weighted = probs[:, None] * centred
            covariance = centred.T @ weighted + _RIDGE * jnp.eye(len(natural))
            target = jnp.linalg.solve(covariance, weighted.T @ (aim - probs @ aim))
            following = natural + _STEP_SIZE * (target - natural)
            moved = jax.nn.softmax(base + statistics @ following) - probs
            return following, 0.5 * jnp.sum(jnp.abs(moved))

        start = jnp.zeros(statistics.shape[1])
        natural, moved = jax.lax.scan(step, start, length=_STEPS)
        return Message((natural, moved[-1] / _STEP_SIZE), shard.problem)

    def merge(
        self, messages: Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Int[Array, " num_draws"], dict[str, Any]]:
        """The law with the sum of the natural parameters."""
        sites = sites_of(messages.problem)
        natural, moved = messages.sent
        copies = len(natural) if self.base == "each" else 1
        scores: Float[Array, " K"] = jnp.asarray(sites.statistics()) @ jnp.sum(natural, axis=0)
        codes, info = drawn(copies * jnp.asarray(sites.log_orders()) + scores, key, num_draws)
        still = {"the clients' laws had not settled": jnp.logical_not(moved < _CONVERGED)}
        return codes, info | {"unreliable": still}
