"""The importance correction: exact where the merge covers the posterior, loud where it does not."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

import dncbench
from dncbench.configure import configure
from dncbench.errors import DrawsError, NotApplicableError, UnknownNameError
from dncbench.merging.run import MergeResult, run_method
from dncbench.method import STEPS, Method, Shard
from dncbench.methods.psis import Psis
from dncbench.posterior import Posterior, subposteriors
from dncbench.problem import Split, load_data
from dncbench.running.status import status

NUM_SHARDS, NUM_DRAWS = 3, 4000
KEY = jax.random.key(3)


class Rates(Posterior):
    """Known mean (sum of y + 0) and precision 1 + n: the posterior is Gaussian."""

    num_shards: int = NUM_SHARDS
    dim = 2

    def data(self, key: Array) -> dict[str, Array]:
        return {"y": 1.0 + jax.random.normal(key, (30, 2))}

    def log_prior(self, theta: Array) -> Array:
        return -0.5 * jnp.sum(theta**2)

    def log_likelihood(self, theta: Array, observation: dict[str, Array]) -> Array:
        return -0.5 * jnp.sum((observation["y"] - theta) ** 2)


PROBLEM = Rates()
DATA = load_data(PROBLEM, jax.random.key(0))
DENSITIES = subposteriors(PROBLEM, DATA, Split(np.arange(30) % NUM_SHARDS, NUM_SHARDS))
SD = 1 / np.sqrt(31)
MEAN = np.asarray(DATA.train["y"]).sum(0) / 31
NOISE = np.random.default_rng(1).standard_normal((NUM_DRAWS, 2))


class Proposed(Method):
    """Draws of N(mean + shift sds, (scale sd)²), whatever the shards send."""

    shift: float = 0.0
    scale: float = 1.0
    density: bool = True
    infinite: bool = False

    def fit(self, shard: Shard, key: Array) -> Any:
        return shard.values[0]

    def merge(self, messages: Any, key: Array, num_draws: int) -> tuple[Array, dict]:
        draws = jnp.asarray(MEAN + SD * (self.shift + self.scale * NOISE))
        if self.infinite:
            draws = draws.at[7].set(jnp.inf)
        info = {"ess": float(num_draws)}
        if self.density:
            info["log_density"] = jnp.asarray(-0.5 * np.sum(NOISE**2, 1))
        return draws, info


class Twice(Proposed):
    """The same, after a round that the shards answer with what they heard and kept."""

    num_rounds: ClassVar = 2

    def begin(self, shard: Shard, key: Array) -> Any:
        return shard.values[1], shard.values[0]

    def initial_server(self, messages: Any) -> Array:
        return jnp.zeros(2)

    def aggregate(self, server: Array, messages: Any, key: Array) -> tuple[Array, Array]:
        return server + sum(messages), sum(messages)

    def answer(self, shard: Shard, state: Array, broadcast: Array, key: Array) -> Any:
        return state, state + broadcast

    def finish(self, server: Array, messages: Any, key: Array, num_draws: int) -> Any:
        draws, info = self.merge(messages, key, num_draws)
        return draws, info | {"server": server, "heard": sum(messages)}


def corrected(method: Method, key: Array = KEY) -> MergeResult:
    values = jnp.asarray(np.random.default_rng(2).standard_normal((NUM_SHARDS, 50, 2)))
    shards = Shard(values=values, density=DENSITIES)
    return run_method(Psis(method), "proposed", shards, key, NUM_DRAWS, PROBLEM.space)


@pytest.mark.parametrize("density", [True, False])
def test_moves_the_draws_to_the_posterior(density: bool) -> None:
    result = corrected(Proposed(0.5, 1.3, density))
    assert result.info["k_hat"] < 0.7
    assert result.draws.shape == (NUM_DRAWS, 2)
    # Four standard errors of a mean and of a standard deviation, by the ESS that is reported.
    error = SD / np.sqrt(result.info["ess"])
    assert np.abs(result.draws.mean(0) - MEAN).max() < 4 * error
    assert np.abs(result.draws.std(0) - SD).max() < 4 * error / np.sqrt(2)
    assert result.info["proposal"] == ("the merge's own density" if density else "Student t")
    assert result.log_density is None  # the density of the draws is not the proposal's any more


def test_weights_of_a_perfect_merge_are_equal() -> None:
    result = corrected(Proposed())
    assert result.info["importance"]["ess_share"] == pytest.approx(1.0, abs=1e-6)
    assert result.info["ess"] == pytest.approx(NUM_DRAWS, rel=1e-6)
    # Equal weights take every draw once.
    np.testing.assert_allclose(np.sort(result.draws, 0), np.sort(MEAN + SD * NOISE, 0), rtol=1e-12)
    assert status(result.info) == {"status": "ok"}


def test_a_merge_too_far_away_is_unreliable() -> None:
    result = corrected(Proposed(6.0, 0.5))
    assert result.info["k_hat"] > 0.7
    found = status(result.info)
    assert found["status"] == "unreliable"
    assert "k-hat of the correction" in found["reason"]


def test_the_further_round_is_paid_for() -> None:
    result = corrected(Proposed(0.0, 1.2))
    first, second = result.rounds
    assert first.bytes_up == 8 * NUM_SHARDS * 2
    # Every draw goes to every shard; a log density for each comes back, and what the
    # shard's own draws are worth.
    assert second.bytes_down == 8 * NUM_SHARDS * NUM_DRAWS * 2
    assert second.bytes_up == 8 * NUM_SHARDS * (NUM_DRAWS + 1)
    assert result.bytes_communicated == first.bytes_up + second.bytes_down + second.bytes_up
    assert min(*second.by_shard, second.fit_total) > 0


def test_the_draws_are_worth_no_more_than_the_scarcest_shards() -> None:
    """A merge that says nothing of its ESS is worth what the scarcest shard's draws are."""

    class Silent(Proposed):
        def merge(self, messages: Any, key: Array, num_draws: int) -> tuple[Array, dict]:
            draws, info = super().merge(messages, key, num_draws)
            return draws, {"log_density": info["log_density"]}

    result = corrected(Silent())
    assert result.info["ess"] == pytest.approx(50, rel=1e-6)


def test_a_draw_that_is_not_finite_is_refused() -> None:
    with pytest.raises(DrawsError, match=r"returned a non-finite draw \(row 7\)"):
        corrected(Proposed(infinite=True))


def test_the_same_key_gives_the_same_draws() -> None:
    method = Proposed(0.3, 1.2, density=False)
    first, second, other = (corrected(method, key).draws for key in (KEY, KEY, jax.random.key(4)))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


# ---------------------------------------------------------------- whatever is corrected


@pytest.mark.parametrize("untraced", [(), ("begin",), ("aggregate",), ("finish",), STEPS])
def test_rounds_of_the_merge_come_first(untraced: tuple[str, ...]) -> None:
    """And whichever of the merge's steps cannot be compiled."""
    kind = type("Twice", (Twice,), {"untraced": frozenset(untraced), "__doc__": Twice.__doc__})
    result = corrected(kind(0.5, 1.3))
    assert len(result.rounds) == Psis(kind()).num_rounds == 3
    values = np.random.default_rng(2).standard_normal((NUM_SHARDS, 50, 2))
    heard = values[:, 0].sum(0)
    np.testing.assert_allclose(result.info["server"], heard, rtol=1e-12)
    # Each shard kept its own second draw.
    told = values[:, 1].sum(0) + NUM_SHARDS * heard
    np.testing.assert_allclose(result.info["heard"], told, rtol=1e-12)
    once = corrected(Proposed(0.5, 1.3))
    np.testing.assert_allclose(result.info["ess"], once.info["ess"], rtol=1e-9)


def test_a_corrected_method_says_what_it_needs() -> None:
    method = configure("method", "swiss + psis")[1]
    assert method.needs == configure("method", "swiss")[1].needs | {"model"}
    assert method.num_rounds == 2
    assert method.track() == "inflated draws + a correction round"
    codes = configure("method", "pooled + psis")[1]
    assert codes.spaces == {"real"}  # densities are of points
    shards = Shard(values=jnp.zeros((NUM_SHARDS, 50, 2)))
    with pytest.raises(NotApplicableError, match="needs density"):
        run_method(Psis(Proposed()), "proposed", shards, KEY, 50, PROBLEM.space)


def test_anybodys_draws_can_be_corrected() -> None:
    rng = np.random.default_rng(5)
    # Subposteriors N(mean of y, 1 / (1/3 + 10)), shifted by half an sd of theirs.
    y = np.asarray(DATA.train["y"]).reshape(-1, NUM_SHARDS, 2)
    precision = 1 / NUM_SHARDS + len(y)
    noise = 0.5 + rng.standard_normal((NUM_SHARDS, NUM_DRAWS, 2))
    values = (y.sum(0) / precision)[:, None] + noise / np.sqrt(precision)
    plain = dncbench.merge(values, "consensus", num_draws=NUM_DRAWS)
    result = dncbench.merge(values, "consensus + psis", density=DENSITIES, num_draws=NUM_DRAWS)
    assert result.info["method"] == "consensus + psis"
    assert np.abs(plain.draws.mean(0) - MEAN).min() > 0.5 * SD
    error = SD / np.sqrt(result.info["ess"])
    assert np.abs(result.draws.mean(0) - MEAN).max() < 4 * error


def test_an_unknown_correction_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"no correction is called 'psi'.*psis"):
        configure("method", "consensus + psi")
