"""A second mode is found, or the certificate fails: y ~ N(θ1² + θ2, 1), mirrored in θ1."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from dncbench import budget
from dncbench.posterior import Posterior, full_posterior, subposteriors
from dncbench.problem import Data, Split, load_data
from dncbench.sampling import nuts
from dncbench.sampling.settings import SamplerSettings
from dncbench.sampling.starts import find_starts
from dncbench.storage.cache import Cache
from dncbench.truth import two_samplers
from dncbench.truth.certified import Reference, reference

FALSE_ALARM = 1e-4
SMOKE = budget.get("smoke")
KEY = jax.random.key(0)


class Mirrored(Posterior):
    """y ~ N(θ1² + θ2, 1), 20 times; modes at ± ``apart``, of sd about 0.27 / apart."""

    num_shards: int = 1
    apart: float = 3.0
    dim: ClassVar[int] = 2
    parameter_names: ClassVar = ("first", "second")

    @property
    def start(self):
        return np.array([1.0, 0.0])  # zero is a saddle, from which chains would go either way

    def data(self, key):
        return {"y": self.apart**2 + jax.random.normal(key, (20,))}

    def log_prior(self, theta):
        return -0.5 * ((theta[0] / 5.0) ** 2 + (theta[1] / 0.5) ** 2)

    def log_likelihood(self, theta, observation):
        return -0.5 * (observation["y"] - theta[0] ** 2 - theta[1]) ** 2


def certified(problem: Posterior, folder) -> Reference:
    data = load_data(problem, KEY)
    return reference(problem, {"id": "mirrored"}, data, KEY, SMOKE, Cache(folder))


def failing(made: Reference) -> set[str]:
    return {check.name for check in made.checks if check.failed}


def share_above_zero(made: Reference) -> float:
    return float(np.mean(made.blocks[..., 0] > 0))


def test_modes_that_nuts_crosses_are_in_a_passing_reference(tmp_path) -> None:
    made = certified(Mirrored(apart=0.8), tmp_path)
    assert made.certificate["failures"] == []
    assert made.certificate["grade"] == "B"
    # The share's standard error, at the ESS of the certificate.
    error = 0.5 / np.sqrt(made.ess * len(made.blocks))
    assert abs(share_above_zero(made) - 0.5) < norm.isf(FALSE_ALARM / 2) * error


@pytest.mark.parametrize("apart", [3.0, 8.0])
def test_modes_that_nuts_does_not_cross_are_found_and_grade_c(tmp_path, apart: float) -> None:
    made = certified(Mirrored(apart=apart), tmp_path)
    checks = {check.name: check for check in made.checks}
    assert checks["NUTS: modes found"].value == 2
    assert share_above_zero(made) == 0.5  # of equally many chains
    assert made.certificate["grade"] == "C"
    assert "NUTS: R-hat" in failing(made)
    assert "chains stay in the 2 modes they started in" in checks["NUTS: R-hat"].sentence()


@pytest.mark.parametrize("apart", [3.0, 8.0])
def test_a_mode_that_nuts_missed_is_missed_by_the_agreement(
    tmp_path, monkeypatch: pytest.MonkeyPatch, apart: float
) -> None:
    # Chains from one start alone: nothing that NUTS says of itself is amiss.
    monkeypatch.setattr(nuts, "find_starts", lambda *arguments: (None, [1], 0.0, 0.0))
    made = certified(Mirrored(apart=apart), tmp_path)
    assert share_above_zero(made) in (0.0, 1.0)
    assert made.certificate["grade"] == "C"
    assert not any(name.startswith("NUTS") for name in failing(made))
    assert "agreement: largest difference in standard errors" in failing(made)


def test_a_second_sampler_that_lost_a_mode_makes_the_certificate_fail(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = two_samplers.tempered

    def folded(*arguments):
        chains, values, told = right(*arguments)
        return np.abs(chains) * [1.0, 0.0] + chains * [0.0, 1.0], values, told

    monkeypatch.setattr(two_samplers, "tempered", folded)
    made = certified(Mirrored(apart=0.8), tmp_path)
    assert made.certificate["grade"] == "C"
    assert "agreement: largest difference in standard errors" in failing(made)


# ---------------------------------------------------------------- starts


def data_of(problem: Posterior) -> Data:
    return load_data(problem, KEY)


def test_chains_are_dealt_over_the_modes() -> None:
    problem = Mirrored(apart=3.0)
    starts, counts, *_ = find_starts(full_posterior(problem, data_of(problem)), KEY, 8)
    assert counts == [2]
    first = np.asarray(starts.centre)[0, :, 0]
    assert sorted(np.sign(first)) == [-1.0] * 4 + [1.0] * 4
    y = np.asarray(data_of(problem).train["y"])
    # Newton stops within a hundredth of an sd of a mode, where θ1² + θ2 is near the mean of y.
    np.testing.assert_allclose(np.abs(first), np.sqrt(y.mean()), atol=0.02)


def test_one_mode_leaves_the_draws_as_they_were() -> None:
    problem = Mirrored()
    density = full_posterior(problem, Data({"y": jnp.full(20, -4.0)}))
    settings = SamplerSettings(num_draws=64, num_chains=4, num_windows=2, window_steps=10)
    found = nuts.sample(density, KEY, settings, problem.parameter_names, all_modes=True)
    assert found.info["modes"] == [1]
    plain = nuts.sample(density, KEY, settings, problem.parameter_names)
    np.testing.assert_array_equal(found.values, plain.values)


def test_modes_of_next_to_no_mass_get_no_chains() -> None:
    class Lopsided(Mirrored):
        def log_prior(self, theta):
            return super().log_prior(theta) - 10.0 * theta[0]  # e^-60 where the start leads

    problem = Lopsided()
    starts, counts, *_ = find_starts(full_posterior(problem, data_of(problem)), KEY, 8)
    assert counts == [1]
    assert np.all(np.asarray(starts.centre)[..., 0] < 0)


def test_each_shard_has_modes_of_its_own() -> None:
    # In the second shard all observations lie where the mirror image is no other mode.
    problem = Mirrored(num_shards=2)
    shard_of = np.repeat([0, 1], 10)
    y = np.where(shard_of == 0, 9.0, -4.0)
    stack = subposteriors(problem, Data({"y": jnp.asarray(y)}), Split(shard_of, 2))
    starts, counts, *_ = find_starts(stack, KEY, 6)
    assert counts == [2, 1]
    assert starts.centre.shape == (2, 6, 2)
    np.testing.assert_allclose(np.ptp(np.asarray(starts.centre[1]), axis=0), 0.0)
