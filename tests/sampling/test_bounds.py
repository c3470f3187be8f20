"""No density keeps a sampler for ever: walls, densities without a value, a needle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from dncbench.budget import get as get_budget
from dncbench.draws import one
from dncbench.posterior import Posterior, full_posterior
from dncbench.problem import Data, load_data
from dncbench.sampling import diagnostics
from dncbench.sampling.adaptation import _drawn_back
from dncbench.sampling.tempered import tempered
from dncbench.storage.cache import Cache
from dncbench.truth.certified import reference

FALSE_ALARM = 1e-4
WALL = -0.5  # of the first coordinate


class Walled(Posterior):
    """N(0, I) in the plane where ``inside`` says so, and ``beyond`` elsewhere."""

    num_shards: int = 1
    beyond: float = -np.inf
    needle: bool = False
    dim = 2

    def data(self, key):
        return {"y": jnp.zeros(4)}

    def log_prior(self, theta):
        inside = theta @ theta < 1e-30 if self.needle else theta[0] > WALL
        return jnp.where(inside, -0.5 * theta @ theta, self.beyond)

    def log_likelihood(self, theta, observation):
        return 0.0 * theta[0]


def density(problem: Posterior):
    return full_posterior(problem, Data({"y": jnp.zeros(4)}))


def second(problem: Posterior) -> tuple[np.ndarray, dict]:
    chains, _, told = tempered(density(problem), jax.random.key(3), 0.02, lambda what: None)
    return chains, told


@pytest.mark.parametrize("beyond", [-np.inf, np.nan])
def test_the_second_sampler_samples_what_lies_inside_a_wall(beyond: float) -> None:
    chains, told = second(Walled(beyond=beyond))
    assert told["beta"] == 1.0
    assert chains[..., 0].min() > WALL
    # A normal law cut at w: mean φ(w)/(1 - Φ(w)), variance 1 + w mean - mean².
    mean = norm.pdf(WALL) / norm.sf(WALL)
    expected = {"mean": [mean, 0.0], "sd": [np.sqrt(1 + WALL * mean - mean**2), 1.0]}
    for what, estimate in (("mean", np.mean), ("sd", np.std)):
        z = (estimate(chains, (0, 1)) - expected[what]) / diagnostics.mcse(chains, what)
        assert np.abs(z).max() < norm.isf(FALSE_ALARM / 8)


def test_the_second_sampler_says_that_it_found_nowhere_to_start() -> None:
    chains, told = second(Walled(beyond=np.inf, needle=True))
    assert told["beta"] == 0.0
    assert np.isnan(told["max_rhat"])
    assert np.isnan(chains).all()


@pytest.mark.parametrize("beyond", [-np.inf, np.nan, np.inf])
def test_starts_beyond_a_wall_are_drawn_back(beyond: float) -> None:
    points = jnp.array([[-4.0, 2.0], [-0.6, 0.0], [3.0, 1.0], [-0.4, -9.0]])
    target = one(density(Walled(beyond=beyond)))
    drawn = _drawn_back(target, jnp.zeros(2), points)
    # Halved towards the mode until they are inside; the others are not touched.
    expected = [[-0.25, 0.125], [-0.3, 0.0], [3.0, 1.0], [-0.4, -9.0]]
    np.testing.assert_array_equal(drawn, expected)


def test_a_start_that_is_never_inside_becomes_the_mode() -> None:
    target = one(density(Walled(needle=True)))
    drawn = _drawn_back(target, jnp.zeros(2), jnp.full((3, 2), 1e9))
    np.testing.assert_array_equal(drawn, np.zeros((3, 2)))


def test_a_certificate_of_a_needle_is_grade_c(tmp_path) -> None:
    problem = Walled(beyond=np.nan, needle=True)
    budget = get_budget("smoke[num_draws=200,num_chains=4,window_steps=5]")
    made = reference(
        problem,
        {"id": "needle@1"},
        load_data(problem, jax.random.key(0)),
        jax.random.key(1),
        budget,
        Cache(tmp_path),
    )
    assert made.certificate["grade"] == "C"
    said = "second sampler: inverse temperature reached 0 (tempered sequential Monte Carlo) below 1"
    assert said in made.certificate["failures"]
