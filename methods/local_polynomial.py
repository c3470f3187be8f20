"""Local polynomial merge: each shard's log density as a polynomial near the product."""

import itertools
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray
from scipy.stats import norm, qmc

from dncbench.draws import evenly
from dncbench.errors import NotApplicableError, UnknownNameError
from dncbench.method import Method, Shard
from dncbench.methods._gaussian import mean_and_covariance
from dncbench.methods._product_density import LogDensity, Space, product_space, sample
from dncbench.registry import register_method

_MAX_DIM = 5
_REWEIGHTINGS = 3  # least-squares solutions of a round; a bad row is down-weighted in between
_OUTLYING = 6.0  # residuals above so many medians count linearly (Huber)
_RIDGE = 1e-10  # on columns of unit length: below the digits that normal equations keep
_FORBIDDEN = 1e10  # the same, of a term that must vanish
_WIDENINGS = 13  # of a kernel, by sqrt(2) each: up to 64 times
_FURTHEST = 8.0  # bandwidth, in the product's standard deviations, that is local at all
_CENTRE = 1.5  # standard deviations of the product within which the misfit is judged
_POINTS = 4096  # quasi-random points that the product's moments are taken over
_SPREAD = 2.0  # their standard deviation, in those of the last round's product
_MISFIT = 0.3  # of the total score; where it is 0.3 off, so is the mean, in standard deviations
_OUTSIDE = 0.01  # share of the draws beyond the horizon
_SLOWEST = 0.5  # decay of the log density beyond the horizon, by standard deviation


class Message(NamedTuple):
    """What a shard sends: evenly thinned draws, and its moments from all of them."""

    values: Float[Array, "*S n d"]
    log_density: Float[Array, "*S n"]
    score: Float[Array, "*S n d"]
    mean: Float[Array, "*S d"]
    covariance: Float[Array, "*S d d"]


class _Design(NamedTuple):
    """One shard's regression: K polynomial terms against n log densities and scores."""

    terms: Float[Array, "*S n K"]
    slopes: Float[Array, "*S n d K"]
    log_density: Float[Array, "*S n"]
    score: Float[Array, "*S n d"]
    weight: Float[Array, "*S n"]
    central: Float[Array, "*S n"]
    ridge: Float[Array, "*S K"]
    bandwidth: Float[Array, "*S"]


class _Trust(NamedTuple):
    """Robustness weights of a shard's rows, between 0 and 1."""

    log_density: Float[Array, "*S n"]
    score: Float[Array, "*S n"]


class Basis:
    """Products of Hermite polynomials in u = z / scale, total degree 1 to ``degree``.

    Hermite, orthonormal under N(0, I), because the rows are weighted by that Gaussian
    in u: on rows spread evenly the columns would be orthogonal.
    """

    def __init__(self, dim: int, degree: int, scale: float) -> None:
        every = itertools.product(range(degree + 1), repeat=dim)
        self.exponents: Int[np.ndarray, "K d"] = np.array(
            sorted((e for e in every if 1 <= sum(e) <= degree), key=lambda e: (sum(e), e))
        )
        self.degree, self.scale = degree, scale

    def __len__(self) -> int:
        return len(self.exponents)

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " K"]:
        """All terms at one point."""
        u = z / self.scale
        hermite = [jnp.ones_like(u), u]
        for n in range(1, self.degree):
            hermite.append(u * hermite[n] - n * hermite[n - 1])
        table = jnp.stack([h / math.sqrt(math.factorial(n)) for n, h in enumerate(hermite)])
        return jnp.prod(table[self.exponents, jnp.arange(len(u))[None, :]], axis=1)


@register_method("local-polynomial", version=1, ours=True)
class LocalPolynomial(Method):
    """Iterated local regression of log densities and scores on polynomials; d <= 5.

    Every shard's log density is fitted by a polynomial in product-whitened z, by least
    squares on its values (intercept free) and its scores, row i weighted by
    exp(-|z_i|²/2τ²); the coefficients of all shards add up to the product's. The product's
    mean and covariance then define z anew, ``rounds`` times. Unweighted, a quadratic
    fitted to scores is the product of Gaussians, since E[(θ - μ) sᵀ] = -I under each
    subposterior (Stein's identity); what is gained comes of fitting where the product
    is. All rounds run on the server, so that the thinned draws cross the network. Values
    and scores are exact, hence few draws lose little: what matters is that they are near.

    A shard whose kernel weights sum to less than the number of coefficients has τ widened
    until they do; where that takes τ beyond 8 it contributes a quadratic, since higher
    degrees, extrapolated, are worse than none, and is named in a warning. Beyond |z| =
    sqrt(d) + 3 a polynomial is not believed, which need not be bounded: the log density goes
    on in a straight line, downwards. Rows whose residual is above six medians have bounded
    influence (Huber's function, on the norm of the row).

    The straight line is a compromise. A curved product with arms beyond the horizon (a banana)
    gets arms that are straight and too wide, and its chains mix badly in them: over 24 keys,
    4000 draws each, Mah was 0.004 to 0.15, and ``max_rhat`` 1.07 to 1.18 said so every
    time. With a horizon of sqrt(d) + 5 the arms were right, but the polynomials of t(3)
    shards, which turn upwards, ran away to 270 standard deviations.

    Fails where draws do not reach the product, which is the rule in many dimensions: hence
    the limit. Fails on separate modes, whose log density no polynomial of degree 4 follows:
    their weights come out some hundredths to a tenth wrong. ``misfit``, each shard's root
    mean squared score residual near the product in the product's standard deviations,
    tells; a warning is raised where the shards' sum exceeds 0.3.

    Without a published source; local polynomial regression in general: Fan & Gijbels (1996),
    Local Polynomial Modelling and Its Applications.

    Attributes:
        degree: of the polynomials, 2, 3 or 4.
        bandwidth: the smallest τ, in standard deviations of the product.
        rounds: times that the product is fitted.
        draws: draws that a shard sends, at most.
        value_weight: weight of a squared log-density residual beside that of a squared
            score residual, both in product-whitened coordinates.
    """

    degree: int = 4
    bandwidth: float = 2.0
    rounds: int = 4
    draws: int = 1000
    value_weight: float = 1.0

    cites: ClassVar = ("fan1996",)
    needs: ClassVar = frozenset({"draws", "log_density", "score", "covariance"})
    exact_for_gaussians: ClassVar = True

    def __check_init__(self) -> None:
        for name, valid, wanted in (
            ("degree", self.degree in (2, 3, 4), "2, 3 or 4"),
            ("bandwidth", self.bandwidth > 0, "a positive number"),
            ("rounds", self.rounds >= 1, "at least 1"),
            ("draws", self.draws >= 1, "at least 1"),
            ("value_weight", self.value_weight >= 0, "zero or a positive number"),
        ):
            if not valid:
                raise UnknownNameError(
                    f"local-polynomial: {name}={getattr(self, name)!r}; it must be {wanted}"
                )

    def fit(self, shard: Shard, key: PRNGKeyArray) -> Message:
        """Thin, and take the moments of all draws."""
        assert shard.values is not None
        assert shard.log_density is not None
        assert shard.score is not None
        num_draws, dim = shard.values.shape
        if dim > _MAX_DIM:
            raise NotApplicableError(
                f"local-polynomial is limited to {_MAX_DIM} dimensions and this problem has "
                f"{dim}: draws of a subposterior do not reach the product there, and a "
                "polynomial extrapolated to it is worthless; use a method of global structure "
                "(parametric, consensus, diffusion)"
            )
        rows = evenly(num_draws, min(self.draws, num_draws))
        return Message(
            shard.values[rows],
            shard.log_density[rows],
            shard.score[rows],
            *mean_and_covariance(shard.values),
        )

    def merge(
        self, messages: Message, key: PRNGKeyArray, num_draws: int
    ) -> tuple[Float[Array, "num_draws d"], dict[str, Any]]:
        """Fit and move to the fitted product, ``rounds`` times; then sample it.

        All in float64: it costs little in few dimensions, and normal equations of degree 4
        square a condition number that float32 has no digits for.
        """
        num_shards, num_rows, dim = messages.values.shape
        basis = Basis(dim, self.degree, self.bandwidth)
        trust = _Trust(*jnp.ones((2, num_shards, num_rows)))
        space = product_space(messages.mean, messages.covariance)

        def improve(carry: tuple[Space, _Trust], _: None) -> tuple[tuple[Space, _Trust], None]:
            space, trust = carry
            coefficients, trust, _diagnosis = self._fitted(basis, messages, space, trust)
            return (_moved(space, tapered(basis, coefficients, dim), dim), trust), None

        (space, trust), _ = jax.lax.scan(improve, (space, trust), length=self.rounds - 1)
        coefficients, trust, (bandwidths, misfit) = self._fitted(basis, messages, space, trust)
        z, info = sample(
            tapered(basis, coefficients, dim), key, num_draws, dim, dtype=space.root.dtype
        )
        outside = jnp.mean((jnp.linalg.norm(z, axis=1) > _horizon(dim)).astype(float))
        return space.original(z), info | {
            "bandwidths": bandwidths,
            "misfit": misfit,
            "outside": outside,
            "warnings": {
                "too few draws near the product for a local polynomial: a quadratic, fitted "
                "further away, stands in": self._too_far(bandwidths),
                "the polynomials do not follow the scores near the product (several modes, or "
                "draws too far from it); the merge is rough": jnp.sum(misfit) > _MISFIT,
                "more than 1% of the merged draws are where nothing is known of the "
                "product's density": outside > _OUTSIDE,
            },
        }

    def _fitted(
        self, basis: Basis, messages: Message, space: Space, trust: _Trust
    ) -> tuple[Float[Array, " K"], _Trust, tuple[Array, Array]]:
        """The product's coefficients, the rows' new trust; bandwidth and misfit by shard."""
        design = jax.vmap(self._design, (None, 0, None))(basis, messages, space)

        def reweight(trust: _Trust, _: None) -> tuple[_Trust, tuple[Array, Array]]:
            coefficients = jax.vmap(self._solved)(design, trust)
            trust, misfit = jax.vmap(_judged)(design, coefficients)
            return trust, (coefficients, misfit)

        trust, (coefficients, misfit) = jax.lax.scan(reweight, trust, length=_REWEIGHTINGS)
        return jnp.sum(coefficients[-1], axis=0), trust, (design.bandwidth, misfit[-1])

    def _design(self, basis: Basis, shard: Message, space: Space) -> _Design:
        """One shard's regression in the coordinates of ``space``."""
        z = space.whitened(shard.values)
        squared = jnp.sum(z**2, axis=1)
        bandwidths = self.bandwidth * 2.0 ** (0.5 * jnp.arange(_WIDENINGS))
        near = jnp.sum(jnp.exp(-0.5 * squared[None, :] / bandwidths[:, None] ** 2), axis=1)
        bandwidth = bandwidths[jnp.argmax((near >= len(basis)).at[-1].set(True))]
        extrapolated = self._too_far(bandwidth) & (np.sum(basis.exponents, axis=1) > 2)
        # Relative to the nearest draw: however far away it is, its weight does not vanish.
        further = squared - jnp.min(squared)
        return _Design(
            terms=jax.vmap(basis)(z),
            slopes=jnp.swapaxes(jax.vmap(jax.jacfwd(basis))(z), 1, 2),
            log_density=shard.log_density,
            score=shard.score @ space.root,
            weight=jnp.exp(-0.5 * further / bandwidth**2),
            central=jnp.exp(-0.5 * further / _CENTRE**2),
            ridge=jnp.where(extrapolated, _FORBIDDEN, _RIDGE),
            bandwidth=bandwidth,
        )

    def _too_far(self, bandwidth: Float[Array, "*S"]) -> Bool[Array, "*S"]:
        """Whether a kernel had to be widened beyond what is local."""
        return bandwidth > max(_FURTHEST, self.bandwidth)

    def _solved(self, design: _Design, trust: _Trust) -> Float[Array, " K"]:
        """Weighted least squares by Cholesky of the normal equations."""
        weight = design.weight * trust.log_density
        share = weight / jnp.sum(weight)
        # Centring eliminates the intercept: a shard's log density has an unknown constant.
        terms = design.terms - (share @ design.terms)[None, :]
        values = design.log_density - share @ design.log_density
        weight = self.value_weight * weight
        of_scores = jnp.repeat(design.weight * trust.score, design.score.shape[1])
        slopes, scores = design.slopes.reshape(-1, terms.shape[1]), design.score.reshape(-1)
        normal = (terms.T * weight[None, :]) @ terms + (slopes.T * of_scores[None, :]) @ slopes
        right = terms.T @ (weight * values) + slopes.T @ (of_scores * scores)
        length = jnp.sqrt(jnp.diag(normal))
        scaled = normal / jnp.outer(length, length) + jnp.diag(design.ridge)
        return cho_solve(cho_factor(scaled, lower=True), right / length) / length


def _judged(design: _Design, coefficients: Float[Array, " K"]) -> tuple[_Trust, Float[Array, ""]]:
    """How far each row is trusted (Huber), and the misfit of scores near the product."""
    values = design.log_density - design.terms @ coefficients
    values = jnp.abs(values - _median(values, design.weight))
    scores = jnp.linalg.norm(design.score - design.slopes @ coefficients, axis=1)
    trust = _Trust(_huber(values, design.weight), _huber(scores, design.weight))
    # An untrusted row counts as much as the residual that it is trusted for.
    misfit = jnp.average((trust.score * scores) ** 2, weights=design.central)
    return trust, jnp.sqrt(misfit)


def _huber(residual: Float[Array, " n"], weight: Float[Array, " n"]) -> Float[Array, " n"]:
    # The constant keeps rounding errors of an exact fit from being told apart.
    limit = _OUTLYING * _median(residual, weight) + 1e-8
    return limit / jnp.maximum(residual, limit)


def _median(values: Float[Array, " n"], weight: Float[Array, " n"]) -> Float[Array, ""]:
    order = jnp.argsort(values)
    reached = jnp.cumsum(weight[order])
    return values[order[jnp.searchsorted(reached, 0.5 * reached[-1])]]


def _horizon(dim: int) -> float:
    """The |z| up to which a polynomial is believed: a Gaussian exceeds it once in 10 000."""
    return math.sqrt(dim) + 3.0


def tapered(basis: Basis, coefficients: Float[Array, " K"], dim: int) -> LogDensity:
    """The polynomial within the horizon, and beyond it the straight line along the ray.

    The line has the polynomial's slope at the horizon, where that falls; never less than
    ``_SLOWEST``, so that the density can be normalised whatever the coefficients are.
    """
    horizon = _horizon(dim)

    def log_density(z: Float[Array, " d"]) -> Float[Array, ""]:
        distance = jnp.sqrt(jnp.maximum(jnp.sum(z**2), horizon**2))
        ray = z / distance
        value, slope = jax.jvp(lambda z: basis(z) @ coefficients, (horizon * ray,), (ray,))
        return value + jnp.minimum(slope, -_SLOWEST) * (distance - horizon)

    return log_density


def _moved(space: Space, log_density: LogDensity, dim: int) -> Space:
    """Coordinates that whiten exp(log_density), by importance-weighted quasi-random points."""
    z = _SPREAD * jnp.asarray(_quasi_normal(_POINTS, dim))
    share = jax.nn.softmax(jax.vmap(log_density)(z) + 0.5 * jnp.sum((z / _SPREAD) ** 2, axis=1))
    mean = share @ z
    centred = z - mean[None, :]
    covariance = (centred.T * share[None, :]) @ centred
    # Where few points carry the weight, the step is held back towards the old coordinates.
    doubt = (dim + 1) / (dim + 1 + 1 / jnp.sum(share**2))
    covariance = (1 - doubt) * covariance + doubt * jnp.eye(dim)
    return Space(space.original(mean), space.root @ jnp.linalg.cholesky(covariance))


def _quasi_normal(num_points: int, dim: int) -> Float[np.ndarray, "num_points d"]:
    """Evenly spread points of N(0, I), from a Sobol sequence; a power of two of them."""
    uniform = qmc.Sobol(dim, scramble=False).random(num_points)
    # Multiples of 1/num_points, 0 among them: to the middle of their cells.
    return norm.ppf(uniform + 0.5 / num_points)
