"""Embarrassingly parallel GFlowNets: clients train alone, and a server learns their product.

da Silva et al. (2024). Each client trains a GFlowNet on its own reward and sends the network. The
server trains another one until its trajectories are balanced against what the clients' policies
say of them (aggregating balance): their rewards and data are not asked for. Three ways to get
from the clients' networks to a law, which tell apart where errors come from:

- ``ep-gflownet``, the paper's: the law of the server's trained policy;
- ``ep-gflownet-is``: its trajectories, weighted by how far each is from balance, which mends what
  the server's training left;
- ``ep-gflownet-exact``: where training would end, by dynamic programming over the state graph. What
  is wrong with it is wrong with the clients.

When it fails: the product concentrates where single clients put little mass, and a client that is
accurate in total variation may be far off there. ``failure_bound`` in a record, Theorem 3.4's
bound of the divergence in both directions, sees it; total variation of the clients does not.
"""

import dataclasses
from collections.abc import Hashable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dncbench.draws import systematic
from dncbench.errors import UnknownNameError
from dncbench.merging.importance import smooth
from dncbench.method import Shard
from dncbench.methods._learning import in_stretches, learning_curve
from dncbench.methods.gflownet import _large as large
from dncbench.methods.gflownet._clients import (
    POINTS,
    GFlowNet,
    Sent,
    edges,
    law_of,
    laws_of,
    moves_of,
    range_of,
)
from dncbench.methods.gflownet._policy import Network
from dncbench.methods.gflownet._training import last, train
from dncbench.registry import register_method
from dncbench.stategraph.laws import aggregated_policy, forward_policy, log_law
from dncbench.stategraph.moves import Tabulated
from dncbench.stategraph.trajectories import Trajectories, roll_out
from dncbench.storage.ratios import EQUAL_SHARE, UNTRUSTED

_JUDGED = 4096  # trajectories by which the server's balance is judged
_NO_TAIL = 100.0  # for a k-hat where one weight is beyond all others: no tail can be fitted
_PROPOSALS = 5  # trajectories that are weighted for each draw that is wanted

Draws = tuple[Int[Array, " num_draws"], dict[str, Any]]


class _Clients(GFlowNet):
    """The clients' part, and what is recorded of them."""

    cites: ClassVar = ("dasilva2024",)

    merges_large: ClassVar = False
    """Whether it can do without a list of all states."""

    @property
    def shared_fit(self) -> Hashable:
        """The three merge the same networks, and so differ by what the server does alone."""
        settings = (getattr(self, field.name) for field in dataclasses.fields(GFlowNet))
        return "ep-gflownet", *settings

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Any:
        """Train on the client's rewards, and send the network."""
        if self.merges_large and large.is_large(shard.problem):
            return large.client(self, shard, key)
        return self.client(shard, key)

    def told(self, messages: Sent) -> dict[str, Any]:
        """Errors of the clients, and what they cost."""
        client = messages.client
        return {
            "client_tv": client.distance,
            "failure_bound": jnp.sum(client.width),
            "client_log_probs": laws_of(client.network, messages.problem),
            "reward_evaluations": self.evaluations(len(client.distance)),
            "learning_curve": learning_curve(client.losses),
        }


def _policies(
    messages: Sent, moves: Tabulated
) -> tuple[Float[Array, "S n A"], Float[Array, "S n A"]]:
    """The clients' forward and backward log probabilities of all edges."""
    return jax.lax.map(lambda network: edges(network, moves), messages.client.network)


@register_method("ep-gflownet-exact", version=1, ours=True, small="steps=40,batch=16,width=16")
class EpGflownetExact(_Clients):
    """What a server that learns the product of the clients' GFlowNets would end at, computed.

    Exact aggregating balance by dynamic programming over all states: its error is the clients'
    alone. Only where the states can be listed. See the module's docstring.

    Attributes:
        broken: standard deviation of independent normal noise that is added to the first client's
            scores of all actions where its network arrives: one client that fails, on purpose.
            ``failure_bound`` then is a bound of Theorem 3.4's: the server, which does not know
            the client's rewards, adds to its range that of what the noise changed.
            ``client_tv`` is of what was sent.
    """

    broken: float = 0.0

    def __check_init__(self) -> None:
        if not 0.0 <= self.broken < float("inf"):
            raise UnknownNameError(
                f"ep-gflownet-exact: broken={self.broken}; "
                "a standard deviation is finite and at least 0"
            )

    def merge(self, messages: Sent, key: PRNGKeyArray, num_draws: int) -> Draws:
        """Draws of the law of the aggregated policy."""
        moves = moves_of(messages.problem)
        graph = messages.problem.graph
        forwards, backwards = _policies(messages, moves)
        told = self.told(messages)
        if self.broken:
            sent = forwards[0]
            noise = jax.random.normal(jax.random.fold_in(key, 1), sent.shape, sent.dtype)
            first = forward_policy(graph, sent + self.broken * noise)
            # The range of a sum of two is at most the sum of their ranges.
            told["failure_bound"] += range_of(graph, first - sent, jnp.zeros(graph.num_objects))
            forwards = forwards.at[0].set(first)
        policy = aggregated_policy(graph, forwards, backwards)
        codes, info = law_of(log_law(graph, policy), key, num_draws)
        return codes, info | told


class _Trained(NamedTuple):
    """A server's network, what is recorded of it, and (n, A) log ratios Σ_n log p_F,n / p_B,n."""

    network: Network
    info: dict[str, Any]
    log_ratios: Float[Array, "n A"]


class _Server(_Clients):
    """The server's part.

    Attributes:
        server_steps: how many times ``steps`` the server is updated; an update costs about as
            much as one of one client.
    """

    server_steps: float = 2.0

    def server(self, messages: Sent, key: PRNGKeyArray) -> _Trained:
        """Train to aggregating balance with what the clients sent."""
        moves = moves_of(messages.problem)
        forwards, backwards = _policies(messages, moves)
        log_ratios = jnp.sum(forwards - backwards, axis=0)
        narrow = log_ratios.astype(jnp.float32)
        key_start, key_training = jax.random.split(key)
        networks, losses = train(
            self.network(moves, key_start),
            moves,
            self.plan("contrastive", round(self.server_steps * self.steps)),
            key_training,
            lambda path: path.along(narrow),
            points=POINTS,
        )
        info = self.told(messages) | {
            "server_curve": in_stretches(losses),
            "laws": jnp.exp(laws_of(networks, messages.problem)),
        }
        return _Trained(last(networks), info, log_ratios)


def _rolled_out(
    forward: Float[Array, "n A"], moves: Tabulated, key: PRNGKeyArray, num: int
) -> Trajectories:
    policy = jnp.exp(forward).astype(jnp.float32)
    return roll_out(moves, lambda states: policy[states], key, num)


@register_method("ep-gflownet", version=1, small="steps=40,batch=16,width=16")
class EpGflownet(_Server):
    """Clients train GFlowNets alone; a server learns their product by aggregating balance.

    One message of each client, its network: the server evaluates no reward. The law of its
    policy is computed exactly; where the objects are too many to be listed it is rolled out. The
    module's docstring gives the source and says when it fails.
    """

    merges_large: ClassVar = True

    def merge(self, messages: Any, key: PRNGKeyArray, num_draws: int) -> Draws:
        """Train the server; draws of the law of its policy."""
        if large.is_large(messages.problem):
            steps = round(self.server_steps * self.steps)
            return large.merged(self, messages, steps, key, num_draws)
        key_train, key_draw, key_judge = jax.random.split(key, 3)
        network, info, log_ratios = self.server(messages, key_train)
        moves = moves_of(messages.problem)
        forward, backward = edges(network, moves)
        codes, law = law_of(log_law(messages.problem.graph, forward), key_draw, num_draws)
        path = _rolled_out(forward, moves, key_judge, _JUDGED)
        balance = {"aggregating_balance": jnp.std(path.along(forward - backward - log_ratios))}
        return codes, info | law | balance


@register_method("ep-gflownet-is", version=1, ours=True, small="steps=40,batch=16,width=16")
class EpGflownetIs(_Server):
    """``ep-gflownet`` whose trajectories are weighted by how far they are from balance.

    Weights Π_n (p_F,n / p_B,n) p_B / p_F of the server's own trajectories, Pareto-smoothed, move
    its draws to the product of the clients' laws, where its policy reaches: nothing more is asked
    of the clients. ``weights_k_hat`` says whether it does. What is wrong with the clients stays.
    """

    def merge(self, messages: Sent, key: PRNGKeyArray, num_draws: int) -> Draws:
        """Train the server, weigh its trajectories, and resample their objects."""
        key_train, key_roll, key_resample = jax.random.split(key, 3)
        network, info, log_ratios = self.server(messages, key_train)
        moves = moves_of(messages.problem)
        forward, backward = edges(network, moves)
        path = _rolled_out(forward, moves, key_roll, _PROPOSALS * num_draws)
        log_weights = path.along(log_ratios + backward - forward)
        weights, k_hat, share = _smoothed(log_weights)
        # Where the weights hardly vary, k-hat says nothing.
        misses = (k_hat > UNTRUSTED) & (share <= EQUAL_SHARE)
        rows = systematic(key_resample, weights, num_draws)
        return moves.codes(jnp.asarray(path.last))[rows], info | {
            "ess": jnp.minimum(num_draws, share * len(log_weights)),
            "weights_k_hat": k_hat,
            "weights_share": share,
            "unreliable": {"the server's policy misses what the clients' product needs": misses},
        }


def _smoothed(
    log_weights: Float[Array, " N"],
) -> tuple[Float[Array, " N"], Float[Array, ""], Float[Array, ""]]:
    """Pareto-smoothed weights that sum to one, their k-hat, and what share they are worth."""

    def smoothed(given: Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        found = np.asarray(given)
        weights, told = smooth(found)
        if weights is None:  # no tail can be fitted to them
            weights = np.exp(found - found.max())
            weights /= weights.sum()
        share = 1.0 / (len(found) * np.sum(weights**2))
        k_hat = _NO_TAIL if told["k_hat"] is None else min(told["k_hat"], _NO_TAIL)
        return weights.astype(float), np.asarray(k_hat, float), np.asarray(share, float)

    number = jax.ShapeDtypeStruct((), float)
    shapes = (jax.ShapeDtypeStruct(log_weights.shape, float), number, number)
    return jax.pure_callback(smoothed, shapes, log_weights)
