"""Local polynomials against closed forms, and what becomes of draws that they cannot follow."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dncbench
from dncbench.contracts.gaussian_shards import make_shards
from dncbench.errors import DrawsError, UnknownNameError
from dncbench.methods._product_density import product_space
from dncbench.methods.local_polynomial import (
    Basis,
    LocalPolynomial,
    Message,
    _quasi_normal,
    _Trust,
    tapered,
)
from dncbench.metrics.discrepancy import integrated_absolute_distance, mahalanobis
from dncbench.metrics.sample import Sample
from dncbench.running.status import status

NUM_SHARDS, NUM_DRAWS = 4, 4000
ROUGH = "do not follow the scores near the product"
FAR = "too few draws near the product"


def given(log_density: Callable, values: np.ndarray) -> dict[str, np.ndarray]:
    """Draws with their log densities and scores; ``log_density(shard number, θ)``."""
    at = jax.vmap(jax.value_and_grad(log_density, argnums=1), (None, 0))
    value, score = jax.jit(jax.vmap(at))(np.arange(len(values)), values)
    # Every shard's constant is its own: nothing may depend on it.
    shift = 1000.0 * np.arange(len(values))[:, None]
    return {"values": values, "log_density": np.asarray(value) + shift, "score": np.array(score)}


def merged(shards: dict[str, np.ndarray], num_draws: int = NUM_DRAWS, **settings):
    """All are of one shape where they can be, so that they are compiled once."""
    return dncbench.merge(**shards, method="local-polynomial", num_draws=num_draws, **settings)


def raised(result, text: str) -> bool:
    return any(text in warning for warning in result.info["warnings"])


def log_gammas(rng: np.random.Generator, dim: int) -> tuple[dict, np.ndarray]:
    """Rotated logarithms of Gamma variates: skewed, on all of R^d, and closed under products.

    log density Σ_j a_sj u_j - b_sj exp(u_j) with u = Rᵀθ; in the product a and b add up.
    """
    a, b = rng.uniform(1.0, 2.0, (2, NUM_SHARDS, dim))
    turn = np.linalg.qr(rng.standard_normal((dim, dim)))[0]

    def log_density(s, theta):
        u = turn.T @ theta
        return jnp.asarray(a)[s] @ u - jnp.asarray(b)[s] @ jnp.exp(u)

    u = np.log(rng.gamma(a[:, None], size=(NUM_SHARDS, NUM_DRAWS, dim)) / b[:, None])
    exact = np.log(rng.gamma(a.sum(0), size=(NUM_DRAWS, dim)) / b.sum(0)) @ turn.T
    return given(log_density, u @ turn.T), exact


@pytest.fixture(scope="module")
def skewed() -> tuple[dict, np.ndarray]:
    return log_gammas(np.random.default_rng(3), 2)


def samples(*draws: np.ndarray) -> list[Sample]:
    """Independent draws."""
    return [Sample(each, float(len(each))) for each in draws]


def assert_near_the_floor(draws: np.ndarray, exact: np.ndarray) -> None:
    """Within what two sets of n independent draws differ by, and a bias of 0.03.

    Under equality n/2 Mah² is χ² with d = 2: Mah < sqrt(2 · 18.4 / 4000) = 0.096 but once
    in 10 000. IAD of two such sets is 0.022 on average with a standard deviation of 0.004.
    """
    first, second = samples(draws, exact)
    assert mahalanobis(first, second).value < 0.096 + 0.03
    assert integrated_absolute_distance(first, second).value < 0.022 + 4 * 0.004 + 0.01


def test_terms_are_all_monomials_and_orthonormal() -> None:
    basis = Basis(3, 4, scale=2.0)
    assert len(basis) == 35 - 1  # binomial(3 + 4, 4), less the constant
    # Gauss-Hermite with 6 nodes is exact to degree 11; 8 is the largest here.
    nodes, weights = np.polynomial.hermite_e.hermegauss(6)
    grid = np.stack(np.meshgrid(nodes, nodes, nodes), -1).reshape(-1, 3)
    weight = np.prod(np.stack(np.meshgrid(weights, weights, weights), -1).reshape(-1, 3), 1)
    terms = np.asarray(jax.jit(jax.vmap(basis))(2.0 * grid))
    gram = (terms.T * weight / weight.sum()) @ terms
    np.testing.assert_allclose(gram, np.eye(34), atol=1e-12)


def test_quasi_random_points_have_gaussian_moments() -> None:
    points = _quasi_normal(4096, 5)
    # Random points have standard errors of 0.016 and, on the diagonal, 0.022.
    np.testing.assert_allclose(points.mean(0), 0, atol=0.002)
    np.testing.assert_allclose(np.cov(points.T), np.eye(5), atol=0.01)


@pytest.mark.parametrize("dim", [1, 3])
def test_degree_four_is_recovered_exactly(dim: int) -> None:
    rng = np.random.default_rng(dim)
    basis = Basis(dim, 4, scale=1.0)
    truth = jnp.asarray(0.3 * rng.standard_normal((NUM_SHARDS, len(basis))))
    values = 2.0 + rng.standard_normal((NUM_SHARDS, 400, dim)) * np.logspace(0, 2, dim)
    scale = jnp.asarray(np.logspace(0, 2, dim))
    shards = given(lambda s, theta: truth[s] @ basis(theta / scale), values)
    # Wrong rows have no influence at all where the others are fitted exactly.
    shards["score"][1, 7] = 1e3
    shards["log_density"][2, 11] += 1e3
    method = LocalPolynomial(bandwidth=3.0)
    covariances = np.stack([np.atleast_2d(np.cov(shard.T)) for shard in values])

    @jax.jit
    def evaluated(messages: Message, z: jax.Array) -> tuple[jax.Array, jax.Array, _Trust]:
        coefficients, space, trust = _fit_once(method, messages, dim)
        own = jax.vmap(Basis(dim, 4, 3.0))(z) @ coefficients
        exact = jax.vmap(basis)(space.original(z) / scale[None]) @ jnp.sum(truth, axis=0)
        return own - own[0], exact - exact[0], trust

    own, exact, trust = evaluated(
        Message(*shards.values(), values.mean(1), covariances), rng.standard_normal((50, dim))
    )
    np.testing.assert_allclose(own, exact, rtol=1e-6, atol=1e-6)
    assert trust.score[1, 7] < 1e-6
    assert trust.log_density[2, 11] < 1e-6


def _fit_once(method: LocalPolynomial, messages: Message, dim: int):
    space = product_space(messages.mean, messages.covariance)
    trust = _Trust(*jnp.ones((2, *messages.log_density.shape)))
    basis = Basis(dim, method.degree, method.bandwidth)

    def again(trust: _Trust, _: None) -> tuple[_Trust, jax.Array]:
        coefficients, trust, _diagnosis = method._fitted(basis, messages, space, trust)
        return trust, coefficients

    # The fit itself reweighs three times; outliers need a few.
    trust, coefficients = jax.lax.scan(again, trust, length=4)
    return coefficients[-1], space, trust


def test_the_taper_is_continuous_and_falls_everywhere() -> None:
    basis = Basis(2, 4, scale=2.0)
    horizon = np.sqrt(2) + 3
    growing = jnp.asarray(np.abs(np.random.default_rng(0).standard_normal(len(basis))))
    angles = np.linspace(0, 2 * np.pi, 40)
    rays = np.stack([np.cos(angles), np.sin(angles)], 1)
    at = jax.jit(jax.vmap(jax.value_and_grad(tapered(basis, growing, 2))))
    along = lambda r: np.asarray(at(r * rays)[0])  # noqa: E731
    np.testing.assert_allclose(along(horizon * 1.000001), along(horizon * 0.999999), atol=1e-2)
    assert np.all(along(20.0) < along(horizon) - 0.49 * (20.0 - horizon))
    slope = np.sum(np.asarray(at(20.0 * rays)[1]) * rays, 1)
    assert np.all(np.isfinite(slope))
    assert np.all(slope <= -0.49)
    assert np.all(np.isfinite(at(0.0 * rays)[1]))


def test_skewed_shards_merge_near_the_floor(skewed) -> None:
    shards, exact = skewed
    result = merged(shards)
    assert_near_the_floor(result.draws, exact)
    assert not raised(result, ROUGH)
    assert not raised(result, FAR)
    # One corrupted score and one corrupted log density in a shard, among the rows that are kept.
    spoilt = {name: array.copy() for name, array in shards.items()}
    spoilt["score"][:, 400] = 1e3 / np.sqrt(2)
    spoilt["log_density"][:, 800] += 1e3
    assert_near_the_floor(merged(spoilt).draws, exact)
    # A Metropolis sampler's repeated draws, and a tenth of them.
    repeated = {name: np.repeat(array[:, :400], 10, axis=1) for name, array in shards.items()}
    assert_near_the_floor(merged(repeated).draws, exact)


def test_a_quadratic_is_not_enough_for_skewed_shards(skewed) -> None:
    shards, exact = skewed
    draws = merged(shards, degree=2).draws
    # Equal laws reach 0.096 once in 10 000 (see above).
    assert mahalanobis(*samples(draws, exact)).value > 0.096


def test_a_banana_is_a_polynomial() -> None:
    """x ~ N(m_s, S), y given x ~ N(x²/2 + e_s, S/4), with Σ m_s = Σ e_s = 0: degree 4 exactly."""
    rng = np.random.default_rng(8)
    m, e = rng.standard_normal((2, NUM_SHARDS))
    m, e = m - m.mean(), 0.5 * (e - e.mean())

    def log_density(s, theta):
        x, y = theta
        quadratic = (x - jnp.asarray(m)[s]) ** 2 + 4 * (y - 0.5 * x**2 - jnp.asarray(e)[s]) ** 2
        return -0.5 * quadratic / NUM_SHARDS

    noise = np.sqrt(NUM_SHARDS) * rng.standard_normal((2, NUM_SHARDS, NUM_DRAWS))
    x = m[:, None] + noise[0]
    values = np.stack([x, 0.5 * x**2 + e[:, None] + 0.5 * noise[1]], -1)
    result = merged(given(log_density, values))
    assert np.all(np.asarray(result.info["misfit"]) < 1e-6)
    # The fit is exact, its draws are not: beyond the horizon the arms are straight, and
    # chains mix badly in them. Over 24 keys Mah was 0.004 to 0.148, IAD 0.020 to 0.042 and
    # max_rhat 1.07 to 1.18. The bounds are those of a rough merge, not of the noise floor;
    # what must not happen is a rough merge that nobody is told of.
    x = rng.standard_normal(NUM_DRAWS)
    exact = np.stack([x, 0.5 * x**2 + 0.5 * rng.standard_normal(NUM_DRAWS)], 1)
    assert status(result.info)["status"] == "unreliable"
    assert "R-hat of the merge's own sampling" in status(result.info)["reason"]
    first, second = samples(result.draws, exact)
    assert mahalanobis(first, second).value < 0.25
    assert integrated_absolute_distance(first, second).value < 0.06


def test_polynomials_that_turn_upwards_do_not_run_away() -> None:
    """Shards of t(3): a quartic fitted to -log(1 + r²) grows beyond the draws."""
    rng = np.random.default_rng(12)
    centres = 0.3 * rng.standard_normal((NUM_SHARDS, 2))
    chi = np.sqrt(rng.chisquare(3, (NUM_SHARDS, NUM_DRAWS, 1)) / 3)
    values = centres[:, None] + rng.standard_normal((NUM_SHARDS, NUM_DRAWS, 2)) / chi

    def log_density(s, theta):
        return -2.5 * jnp.log1p(jnp.sum((theta - jnp.asarray(centres)[s]) ** 2) / 3)

    # The product by rejection from a wider t(3) in each coordinate.
    proposals = rng.standard_t(3, (400_000, 2))
    squared = (np.sum((proposals - centre) ** 2, 1) for centre in centres)
    log_weight = sum(-2.5 * np.log1p(each / 3) for each in squared)
    log_weight += 2 * np.sum(np.log1p(proposals**2 / 3), 1)
    kept = rng.uniform(size=len(log_weight)) < np.exp(log_weight - log_weight.max())
    result = merged(given(log_density, values))
    assert result.info["outside"] < 0.01
    assert_near_the_floor(result.draws, proposals[kept][:NUM_DRAWS])


def test_separate_modes_are_flagged() -> None:
    """0.7 N(3, 1) + 0.3 N(-3, 1) to the power 1/S in every shard: no polynomial follows it."""
    rng = np.random.default_rng(9)

    def log_density(s, theta):
        x, y = theta
        left, right = jnp.log(0.3) - 0.5 * (x + 3) ** 2, jnp.log(0.7) - 0.5 * (x - 3) ** 2
        return (jnp.logaddexp(left, right) - 0.5 * y**2) / NUM_SHARDS + 0.0 * s

    proposals = 5.0 * rng.standard_normal((NUM_SHARDS, 40_000, 2))
    at = jax.jit(jax.vmap(jax.vmap(lambda theta: log_density(0, theta))))
    log_weight = np.asarray(at(proposals)) + 0.5 * np.sum(proposals**2, -1) / 25
    kept = rng.uniform(size=log_weight.shape) < np.exp(log_weight - log_weight.max())
    values = np.stack([p[k][:NUM_DRAWS] for p, k in zip(proposals, kept, strict=True)])
    result = merged(given(log_density, values))
    assert raised(result, ROUGH)
    # Rough, not lost: 0.645 to 0.691 on the right over six seeds, where the product has 0.7.
    # A shard has 0.7^(1/4) : 0.3^(1/4), 0.55, and a merge that loses a mode 0 or 1.
    assert 0.6 < np.mean(result.draws[:, 0] > 0) < 0.8


def test_shards_far_from_their_product_are_named() -> None:
    """Four shards 20 of their standard deviations off: none has a draw near the product."""
    rng = np.random.default_rng(10)
    centres = jnp.asarray([[-20.0, 0.0], [20.0, 0.0], [0.0, -20.0], [0.0, 20.0]])
    values = np.asarray(centres)[:, None] + rng.standard_normal((NUM_SHARDS, NUM_DRAWS, 2))
    shards = given(lambda s, theta: -0.5 * jnp.sum((theta - centres[s]) ** 2), values)
    result = merged(shards)
    assert raised(result, FAR)
    # Quadratics, and they are right: N(0, I/4). Four standard errors.
    assert np.all(np.abs(result.draws.mean(0)) < 4 * np.sqrt(0.25 / NUM_DRAWS))


def test_too_many_dimensions_are_refused() -> None:
    rng = np.random.default_rng(11)
    shards = make_shards(rng, 2, 6)
    values = shards.draws(rng, 50)
    with pytest.raises(DrawsError, match=r"limited to 5 dimensions .* has 6: .* use a"):
        merged({"values": values, "log_density": values[..., 0], "score": values}, 50)


@pytest.mark.parametrize(
    "settings",
    [{"degree": 5}, {"bandwidth": 0.0}, {"rounds": 0}, {"draws": 0}, {"value_weight": -1.0}],
)
def test_a_wrong_setting_is_named(settings: dict) -> None:
    (name,) = settings
    with pytest.raises(UnknownNameError, match=f"local-polynomial: {name}="):
        LocalPolynomial(**settings)
