"""A correction that any merge can take: one more round, and importance resampling.

The server broadcasts the merged draws θ_i; every shard answers with its log density at
each; Σ_s log p_s(θ_i) is the log density of the full posterior, exactly. With the log
density q(θ_i) that the draws were drawn from, Pareto-smoothed importance resampling
(Vehtari et al. 2024) moves them to the posterior, as far as they reach: a k-hat above 0.7
says that they do not, and the cell is marked unreliable.

A merge that does not know the density of its draws (consensus, SwISS) is replaced by a
multivariate Student t with five degrees of freedom, of the draws' mean and covariance,
and the draws by draws of it: only their location and spread then matter.
"""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dncbench.draws import Arrays, systematic
from dncbench.errors import DrawsError
from dncbench.merging.importance import smooth
from dncbench.method import Method, Shard
from dncbench.registry import register_correction
from dncbench.storage.ratios import UNTRUSTED

_DEGREES = 5.0


class _Points(NamedTuple):
    """The broadcast of the correction's own round: the draws (N, d) to be weighed."""

    draws: Float[np.ndarray | Array, "N d"]


class _Proposal(NamedTuple):
    """What the server remembers: draws (N, d), their log density (N,), and the merge's info."""

    draws: Float[np.ndarray | Array, "N d"]
    log_density: Float[Array, " N"]
    info: dict[str, Any]
    name: str


class _Answer(NamedTuple):
    """A shard's log density at every point (N,), and what its own draws are worth ()."""

    log_density: Float[Array, " N"]
    ess: Float[Array, ""] | None


@register_correction("psis", version=1)
class Psis(Method):
    """Pareto-smoothed importance resampling of a merge's draws, by one more round.

    Attributes:
        method: the merge that is corrected.
    """

    method: Method

    cites: ClassVar = ("vehtari2024",)

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What the merge needs, and the shards' densities."""
        return self.method.needs | {"model"}

    @property
    def spaces(self) -> frozenset[str]:  # type: ignore[override]
        """Those of the merge, where densities can be evaluated."""
        return self.method.spaces & {"real"}

    @property
    def untraced(self) -> frozenset[str]:  # type: ignore[override]
        """The smoothing is ArviZ's, on NumPy arrays; the merge then runs where messages meet."""
        inner = self.method.untraced
        return inner | {"finish"} | ({"aggregate"} if "finish" in inner else set())

    @property
    def num_rounds(self) -> int:  # type: ignore[override]
        """One more."""
        return self.method.num_rounds + 1

    def track(self) -> str:
        """That of the merge, with a round more."""
        return self.method.track() + " + a correction round"

    # ------------------------------------------------------------ the merge's own rounds

    def begin(self, shard: Shard, key: PRNGKeyArray) -> tuple[Arrays, Arrays]:
        """The merge's."""
        return self.method.begin(shard, key)

    def initial_server(self, messages: Arrays) -> Arrays:
        """The merge's."""
        return self.method.initial_server(messages)

    def aggregate(
        self, server: Arrays, messages: Arrays, key: PRNGKeyArray
    ) -> tuple[Arrays, Arrays]:
        """The merge's."""
        return self.method.aggregate(server, messages, key)

    # ------------------------------------------------------------ the further round

    def aggregate_last(
        self, server: Arrays, messages: Arrays, key: PRNGKeyArray, num_draws: int
    ) -> tuple[_Proposal, _Points]:
        """Merge, and broadcast the draws."""
        key_merge, key_proposal = jax.random.split(key)
        draws, info = self.method.finish(server, messages, key_merge, num_draws)
        info = dict(info)
        log_density, name = info.pop("log_density", None), "the merge's own density"
        if log_density is None:
            draws, log_density = _student(draws, key_proposal)
            info["ess"], name = float(num_draws), "Student t"
        return _Proposal(draws, log_density, info, name), _Points(draws)

    def answer(
        self, shard: Shard, state: Arrays, broadcast: Arrays, key: PRNGKeyArray
    ) -> tuple[Arrays, Arrays]:
        """Log densities at the points; before that, the merge's answer."""
        if not isinstance(broadcast, _Points):
            return self.method.answer(shard, state, broadcast, key)
        assert shard.density is not None
        at_points = jax.lax.map(shard.density, broadcast.draws, batch_size=64)
        return state, _Answer(at_points, shard.ess)

    def finish(
        self, server: _Proposal, messages: Any, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """Weigh and resample.

        Raises:
            DrawsError: a draw is not finite, a shard's log density is not a number at one, or
                they miss the posterior.
        """
        # A weight of zero would hide it: no density is anything else at infinity.
        bad = np.flatnonzero(~np.all(np.isfinite(np.asarray(server.draws)), axis=1))
        if len(bad):
            raise DrawsError(
                f"the merge that is corrected returned a non-finite draw (row {bad[0]})"
            )
        answers = _stacked(messages)
        log_ratios = np.sum(np.asarray(answers.log_density), axis=0) - np.asarray(
            server.log_density
        )
        weights, figures = smooth(log_ratios)
        if weights is None:
            raise DrawsError(
                "the merged draws cannot be reweighted: a shard's log density is not a number at "
                "one of them, all lie where one is -inf, or one outweighs all others; the merge "
                "misses the posterior's support"
            )
        scarcest = num_draws if answers.ess is None else float(np.min(np.asarray(answers.ess)))
        ess = float(server.info.get("ess", scarcest))
        k_hat = figures["k_hat"]
        rows = np.asarray(systematic(key, jnp.asarray(weights), num_draws))
        return jnp.asarray(server.draws)[rows], server.info | {
            "ess": max(1.0, min(ess, num_draws) * figures["ess_share"]),
            "k_hat": k_hat,
            "ess_share": figures["ess_share"],
            "proposal": server.name,
            "importance": figures,
            "unreliable": {f"Pareto k-hat of the correction {k_hat:.2f}": k_hat > UNTRUSTED},
        }


def _stacked(messages: Any) -> _Answer:
    """Stacked answers, whether they came stacked or as a list."""
    if isinstance(messages, list):
        return jax.tree.map(lambda *leaves: np.stack(leaves), *messages)
    return messages


def _student(
    draws: Float[np.ndarray | Array, "N d"], key: PRNGKeyArray
) -> tuple[Float[Array, "N d"], Float[Array, " N"]]:
    """As many draws of a Student t of the draws' moments, and its log density at them."""
    draws = jnp.asarray(draws)
    mean, spread = jnp.mean(draws, axis=0), jnp.std(draws, axis=0)
    dim = len(mean)
    standard = (draws - mean[None, :]) / spread[None, :]
    correlation = jnp.cov(standard.T).reshape(dim, dim)
    # The t's covariance is ν / (ν - 2) of its scale's.
    factor = jnp.linalg.cholesky(correlation) * jnp.sqrt((_DEGREES - 2) / _DEGREES)
    key_normal, key_scale = jax.random.split(key)
    normal = jax.random.normal(key_normal, draws.shape)
    scale = jax.random.gamma(key_scale, _DEGREES / 2, (len(draws),)) * 2 / _DEGREES
    unit = normal / jnp.sqrt(scale)[:, None]
    log_density = -0.5 * (_DEGREES + dim) * jnp.log1p(jnp.sum(unit**2, axis=1) / _DEGREES)
    return mean[None, :] + unit @ factor.T * spread[None, :], log_density
