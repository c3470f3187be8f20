"""A method of several rounds that can be followed with pencil and paper."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from dncbench.method import STEPS, Method

NUM_SHARDS, NUM_DRAWS, DIM = 3, 50, 2


class Rumour(Method):
    """Every shard keeps half of what it knew and adds what it hears; so does the server.

    Attributes:
        rounds: how many.
    """

    rounds: int = 3

    finishes_any_round: ClassVar = True

    @property
    def num_rounds(self) -> int:
        return self.rounds

    def begin(self, shard, key):
        own = shard.values.mean(axis=0)
        return own, own

    def initial_server(self, messages):
        return jnp.zeros(DIM)

    def aggregate(self, server, messages, key):
        heard = server / 2 + sum(messages) / len(messages)
        return heard, 1.5 * heard

    def answer(self, shard, state, broadcast, key):
        known = state / 2 + broadcast * shard.values.mean(axis=0)
        return known, known

    def finish(self, server, messages, key, num_draws):
        known = server + sum(messages) / len(messages)
        return known[None] + jnp.arange(float(num_draws))[:, None], {"server": server}


class SlowRumour(Rumour):
    """The same, not compiled."""

    untraced: ClassVar = frozenset(STEPS)


def followed(values: np.ndarray, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """What `Rumour` finishes with after every round, (rounds, DIM), and its server then."""
    own = values.mean(1)
    states, server, known = own, np.zeros(DIM), []
    for number in range(rounds):
        if number:
            server = server / 2 + states.mean(0)
            states = states / 2 + 1.5 * server * own
        known.append(server + states.mean(0))
    return np.array(known), server


def given(seed: int = 0) -> np.ndarray:
    """Draws of shards that differ."""
    centres = np.arange(1.0, NUM_SHARDS + 1)[:, None, None]
    noise = np.random.default_rng(seed).standard_normal((NUM_SHARDS, NUM_DRAWS, DIM))
    return centres + noise
