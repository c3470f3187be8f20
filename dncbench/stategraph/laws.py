"""Exact laws of policies on a state graph, by dynamic programming over its layers.

A policy is an array (n, A) of log probabilities of edges. Everything is in log space, traced by
JAX, and can be differentiated. Probabilities of allowed actions must be positive.
"""

import functools
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dncbench.stategraph.graph import StateGraph

Edges = Float[Array | np.ndarray, "n A"]


@eqx.filter_jit
def forward_policy(graph: StateGraph, scores: Edges) -> Float[Array, "n A"]:
    """Log probabilities of each state's allowed actions from scores: a masked log-softmax.

    Args:
        graph: of n states and A actions.
        scores: (n, A).
    """
    allowed = jnp.asarray(graph.allowed)
    # The complete states allow nothing; their row is not read, but must not be NaN.
    total = jax.nn.logsumexp(scores, axis=1, keepdims=True, where=allowed | ~_any(graph))
    return jnp.where(allowed, scores - total, 0.0)


@eqx.filter_jit
def backward_policy(graph: StateGraph, scores: Edges) -> Float[Array, "n A"]:
    """Log probabilities of the edges that lead to each state, given that state, from scores.

    Args:
        graph: of n states and A actions.
        scores: (n, A), of edges.
    """
    return jnp.where(graph.allowed, scores - _into(graph, scores)[graph.child], 0.0)


@eqx.filter_jit
def log_visits(graph: StateGraph, log_forward: Edges) -> Float[Array, " n"]:
    """Log probability that a trajectory of a policy comes through each state.

    log q(s') = log Σ_{s → s'} q(s) p_F(s' given s), layer by layer.

    Args:
        graph: of n states and A actions.
        log_forward: (n, A) log probabilities.
    """
    into, used = _padded(graph, graph.into), _padded(graph, graph.into_used)
    log_forward = jnp.asarray(log_forward)

    def layer(found: Array, start: Array) -> tuple[Array, None]:
        # A window of the widest layer's size. What it writes beyond its own layer, of states
        # whose parents are not ready, the next window overwrites.
        edges, there = (_window(graph, table, start) for table in (into, used))
        terms = found[edges // graph.num_actions] + log_forward.reshape(-1)[edges]
        values = jax.nn.logsumexp(terms, axis=1, where=there)
        return jax.lax.dynamic_update_slice(found, values, (start,)), None

    found = jnp.zeros(graph.num_states + graph.width)
    return jax.lax.scan(layer, found, jnp.array(graph.starts[1:-1]))[0][: graph.num_states]


def log_law(graph: StateGraph, log_forward: Edges) -> Float[Array, " K"]:
    """Log probability of every object under a policy.

    Args:
        graph: of n states and A actions, with K objects.
        log_forward: (n, A) log probabilities.
    """
    return log_visits(graph, log_forward)[graph.complete]


@eqx.filter_jit
def log_flows(
    graph: StateGraph, log_weights: Edges, log_rewards: Float[Array | np.ndarray, " K"]
) -> Float[Array, " n"]:
    """Logarithms of what flows through each state towards the objects.

    V(x) = reward of x; V(s) = Σ_{s → s'} weight(s → s') V(s'). With a backward policy as
    weights these are the flows of an exact GFlowNet, and V(initial state) = Σ rewards.

    Args:
        graph: of n states and A actions, with K objects.
        log_weights: (n, A), of edges.
        log_rewards: (K,), of objects.
    """
    return _towards_objects(graph, log_weights, log_rewards, jax.nn.logsumexp)


@eqx.filter_jit
def largest_sum(
    graph: StateGraph, edges: Edges, ends: Float[Array | np.ndarray, " K"]
) -> Float[Array, ""]:
    """The largest sum over a trajectory's edges and its object, of all trajectories.

    Args:
        graph: of n states and A actions, with K objects.
        edges: (n, A).
        ends: (K,), of objects.
    """
    largest = functools.partial(jnp.max, initial=-jnp.inf)
    return _towards_objects(graph, edges, ends, largest)[0]


@eqx.filter_jit
def policy_of_flows(
    graph: StateGraph, log_weights: Edges, log_flow: Float[Array, " n"]
) -> Float[Array, "n A"]:
    """The policy that follows flows: p_F(s' given s) = weight(s → s') V(s') / V(s).

    Args:
        graph: of n states and A actions.
        log_weights: (n, A), as for :func:`log_flows`.
        log_flow: (n,), from there.
    """
    onward = jnp.asarray(log_weights) + log_flow[graph.child] - log_flow[:, None]
    return jnp.where(graph.allowed, onward, 0.0)


def balanced_policy(
    graph: StateGraph,
    log_rewards: Float[Array | np.ndarray, " K"],
    log_backward: Edges | None = None,
) -> Float[Array, "n A"]:
    """The policy whose law is proportional to the rewards and that is in balance.

    p_F(τ) = p_B(τ given x) R(x) / Z for every trajectory τ.

    Args:
        graph: of n states and A actions, with K objects.
        log_rewards: (K,).
        log_backward: (n, A); the uniform backward policy where None.
    """
    weights = graph.log_backward if log_backward is None else log_backward
    return policy_of_flows(graph, weights, log_flows(graph, weights, log_rewards))


def aggregated_policy(
    graph: StateGraph,
    log_forwards: Float[Array | np.ndarray, "S n A"],
    log_backwards: Float[Array | np.ndarray, "S n A"] | None = None,
    log_backward: Edges | None = None,
) -> Float[Array, "n A"]:
    """What training a server to aggregating balance converges to, without training.

    Its law is R̂(x) ∝ E_{τ ~ p_B(. given x)} [Π_n p_F,n(τ) / p_B,n(τ given x)], the product of
    the clients' rewards where each client is in balance. So it tells the clients' errors from
    those of a server's training. One :func:`log_flows` with edge weights
    p_B Π_n p_F,n / p_B,n and rewards of one: da Silva et al. (2024), Theorem 3.1 and
    Remark 3.3; that the fixed point can be computed is this suite's.

    Args:
        graph: of n states and A actions.
        log_forwards: (S, n, A) the clients' policies.
        log_backwards: (S, n, A) their backward policies; uniform where None.
        log_backward: (n, A) the server's own; uniform where None.
    """
    own = jnp.asarray(graph.log_backward if log_backward is None else log_backward)
    clients = graph.log_backward[None] if log_backwards is None else log_backwards
    weights = own + jnp.sum(jnp.asarray(log_forwards) - jnp.asarray(clients), axis=0)
    flows = log_flows(graph, weights, jnp.zeros(graph.num_objects))
    return policy_of_flows(graph, weights, flows)


def _towards_objects(
    graph: StateGraph,
    weights: Edges,
    ends: Float[Array | np.ndarray, " K"],
    over: Callable[..., Array],
) -> Float[Array, " n"]:
    """V(x) = ends of x; V(s) = over all s' that s leads to: weight(s → s') + V(s')."""
    is_complete = ~_any(graph)[:, 0]
    all_ends = jnp.zeros(graph.num_states).at[graph.complete].set(jnp.asarray(ends))
    child, allowed = _padded(graph, graph.child), _padded(graph, graph.allowed | ~_any(graph))
    all_ends, done = (_padded(graph, table) for table in (all_ends, is_complete))
    padded = _padded(graph, jnp.where(graph.allowed, weights, 0.0))

    def layer(found: Array, start: Array) -> tuple[Array, None]:
        # Beyond its own layer a window computes again what it finds.
        parts = (child, allowed, padded, all_ends, done)
        to, there, weight, end, stop = (_window(graph, table, start) for table in parts)
        onward = over(weight + found[to], axis=1, where=there)
        values = jnp.where(stop, end, onward)
        return jax.lax.dynamic_update_slice(found, values, (start,)), None

    found = jnp.zeros(graph.num_states + graph.width)
    backwards = jnp.array(graph.starts[:-1][::-1])
    return jax.lax.scan(layer, found, backwards)[0][: graph.num_states]


# ---------------------------------------------------------------- windows


def _padded(graph: StateGraph, table: Array | np.ndarray) -> Array:
    """A table of states, with as many rows more as the widest layer has: of zeros, or true.

    True, because the sum over nothing would be zero, and its logarithm have no gradient.
    """
    table = jnp.asarray(table)
    more = jnp.full((graph.width, *table.shape[1:]), table.dtype == bool, table.dtype)
    return jnp.concatenate([table, more])


def _window(graph: StateGraph, table: Array, start: Array) -> Array:
    """As many rows as the widest layer has."""
    return jax.lax.dynamic_slice_in_dim(table, start, graph.width)


def _any(graph: StateGraph) -> Bool[Array, "n 1"]:
    """Whether a state allows any action; complete ones do not."""
    return jnp.any(jnp.asarray(graph.allowed), axis=1, keepdims=True)


def _into(graph: StateGraph, scores: Edges) -> Float[Array, " n"]:
    """(n,) log of the sum over edges that lead to each state; 0 for the initial state."""
    used = jnp.asarray(graph.into_used).at[0, 0].set(True)
    terms = jnp.asarray(scores).reshape(-1)[graph.into]
    return jax.nn.logsumexp(terms, axis=1, where=used)
