"""A Gaussian process for one shard's log density: hyperparameters, conditioning, prediction.

In shard-whitened coordinates x, with h(x) = (1, x) and a flat prior on b,

    f(x) = h(x)ᵀ b - β₂ |x|² + g(x),   g ~ GP(0, k),   log p_s(x_i) = f(x_i) + N(0, noise),

k the Matérn-5/2 kernel. The model is that of Nemeth & Sherlock (2018); marginalising b follows
Rasmussen & Williams (2006), section 2.7. All of it is in float64: the noise's
standard deviation comes out near 10⁻⁴ of the log densities' range.

Mapped over shards, these functions run them one after the other: jaxlib (0.10) splits a
batch of factorisations over the very threads that it runs on and waits for them, so that on two
cores two batches at once wait for each other for good.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve, solve_triangular
from jaxtyping import Array, Bool, Float
from paramax import AbstractUnwrappable

_STEPS, _LEARNING_RATE = 60, 0.2
_PUBLISHED_STEPS, _PUBLISHED_LEARNING_RATE = 200, 1e-3
_LEAST_NOISE = 1e-6  # variance, in units of the residuals' variance
_BANDS = 4


class Observations(eqx.Module):
    """The log densities that a Gaussian process is conditioned on.

    Attributes:
        x: (n, d) shard-whitened draws.
        y: (n,) their log densities.
        distinct: (n,) False where a draw repeats an earlier one, which leaves it out: two
            equal rows make the covariance singular but for the noise, and count one
            observation twice.
        root: (d, d) what turns x into the parameters' own units; None for the Matérn-5/2
            kernel in x, a matrix R for the exponential kernel e^(-r) in R x.
    """

    x: Float[Array, "*S n d"]
    y: Float[Array, "*S n"]
    distinct: Bool[Array, "*S n"]
    root: Float[Array, "*S d d"] | None = None

    def gram(self, lengthscale: Array) -> Float[Array, "n n"]:
        """Correlations of all pairs of draws."""
        x = _placed(self.x, self.root)
        squared = jnp.sum((x[:, None] - x[None]) ** 2, axis=-1)
        return _correlation(self.root)(squared / lengthscale**2)


class Hyperparameters(eqx.Module):
    """What is fitted of one shard's Gaussian process.

    Attributes:
        lengthscale: of the kernel, the same in all directions of x.
        variance: k(x, x).
        noise: variance of the noise.
        beta2: β₂ > 0; 1/2 for a Gaussian shard.
    """

    lengthscale: Float[Array, "*S"]
    variance: Float[Array, "*S"]
    noise: Float[Array, "*S"]
    beta2: Float[Array, "*S"]


def basis(x: Float[Array, "*n d"]) -> Float[Array, "*n p"]:
    """h(x) = (1, x), of p = d + 1 entries."""
    return jnp.concatenate([jnp.ones((*x.shape[:-1], 1), x.dtype), x], axis=-1)


@jax.custom_jvp
def matern52(squared: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Matérn-5/2 correlation (1 + s + s²/3) e⁻ˢ, s² = 5 r², of r² in squared lengthscales."""
    s = jnp.sqrt(5.0 * jnp.maximum(squared, 0.0))
    return (1.0 + s + s**2 / 3.0) * jnp.exp(-s)


@matern52.defjvp
def _matern52_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # As a function of r² it has a derivative at 0, where autodiff of the root finds 0/0.
    (squared,), (tangent,) = primals, tangents
    s = jnp.sqrt(5.0 * jnp.maximum(squared, 0.0))
    decay = jnp.exp(-s)
    return (1.0 + s + s**2 / 3.0) * decay, -5.0 / 6.0 * (1.0 + s) * decay * tangent


@jax.custom_jvp
def exponential(squared: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Exponential correlation e⁻ʳ of r² in squared lengthscales; not smooth at 0."""
    return jnp.exp(-jnp.sqrt(jnp.maximum(squared, 0.0)))


@exponential.defjvp
def _exponential_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    # The slope in r² is infinite at 0, where only a draw and itself are, of tangent 0.
    (squared,), (tangent,) = primals, tangents
    r = jnp.sqrt(jnp.maximum(squared, 1e-12))
    return exponential(squared), -0.5 * jnp.exp(-r) / r * tangent


def _correlation(root: Array | None) -> Callable[[Array], Array]:
    return matern52 if root is None else exponential


def _placed(x: Float[Array, "*n d"], root: Array | None) -> Float[Array, "*n d"]:
    """x in the coordinates that the kernel sees, but for their origin."""
    return x if root is None else x @ root.T


# ---------------------------------------------------------------- likelihood


class _Factors(eqx.Module):
    """What likelihood and predictions share. K includes the noise; r = y + β₂|x|²."""

    root: Float[Array, "n n"]  # L, K = L Lᵀ; rows of the identity for what is left out
    residual: Float[Array, " n"]  # L⁻¹ r
    basis: Float[Array, "n p"]  # L⁻¹ H
    root_a: Float[Array, "p p"]  # Cholesky factor of A = Hᵀ K⁻¹ H
    weighted: Float[Array, " p"]  # w = Hᵀ K⁻¹ r


def _factors(gram: Float[Array, "n n"], noise: Array, beta2: Array, data: Observations) -> _Factors:
    # Zero rows with a one on the diagonal drop out of every sum and determinant exactly.
    kept = data.distinct.astype(gram.dtype)
    noisy = gram * kept[:, None] * kept[None, :] + jnp.diag(jnp.where(data.distinct, noise, 1.0))
    root = jnp.linalg.cholesky(noisy)
    target = (data.y + beta2 * jnp.sum(data.x**2, axis=-1)) * kept
    design = basis(data.x) * kept[:, None]
    solved = solve_triangular(root, jnp.column_stack([target, design]), lower=True)
    residual, design = solved[:, 0], solved[:, 1:]
    root_a = jnp.linalg.cholesky(design.T @ design)
    return _Factors(root, residual, design, root_a, design.T @ residual)


def restricted_log_likelihood(
    gram: Float[Array, "n n"], noise: Array, beta2: Array, data: Observations
) -> Float[Array, ""]:
    """Log marginal likelihood of y with b under its flat prior, without constants.

    -½ [rᵀ K⁻¹ r - wᵀ A⁻¹ w + log |K| + log |A|], with r = y + β₂|x|², A = Hᵀ K⁻¹ H and
    w = Hᵀ K⁻¹ r; Rasmussen & Williams (2006), equation 2.45.

    Args:
        gram: k(x_i, x_j), without noise.
        noise: variance of the noise.
        beta2: β₂.
        data: what was observed.
    """
    f = _factors(gram, noise, beta2, data)
    explained = solve_triangular(f.root_a, f.weighted, lower=True)
    log_determinants = jnp.sum(jnp.log(jnp.diag(f.root))) + jnp.sum(jnp.log(jnp.diag(f.root_a)))
    return -0.5 * (f.residual @ f.residual - explained @ explained) - log_determinants


class _Positive(AbstractUnwrappable):
    """A positive parameter of a GPJax model, fitted on the logarithmic scale.

    GPJax's own are fitted through a softplus, the identity at large values: the kernel's
    variance, which may come out as 1 or as 1000, then moves by a step of Adam at a time.
    """

    logarithm: Float[Array, ""]

    def __init__(self, value: Any) -> None:
        self.logarithm = jnp.log(value)

    def unwrap(self) -> Float[Array, ""]:
        """The parameter's value."""
        return jnp.exp(self.logarithm)


class _Model(eqx.Module):
    """What GPJax fits."""

    kernel: Any
    noise: Any
    beta2: Any


@jax.custom_batching.sequential_vmap
def fit(data: Observations) -> Hyperparameters:
    """Maximum restricted likelihood, by Adam from the residuals of least squares.

    The kernel, its parameters and the optimisation are GPJax's; the objective is not,
    as GPJax marginalises no linear mean. It starts from a smooth process with little noise: from
    much noise it takes long to find that log densities have none, and in many dimensions
    it may stay where the process is noise all through.
    """
    import gpjax  # imported here, as it takes seconds
    import optax
    from gpjax.parameters import val

    scale, stretch = _residual_scale(data), jnp.sqrt(float(data.x.shape[-1]))
    scaled = Observations(data.x / stretch, data.y / scale, data.distinct)

    def objective(model: _Model, train_data: Any) -> Float[Array, ""]:
        gram = model.kernel.gram(train_data.X).as_matrix()
        noise = val(model.noise) + _LEAST_NOISE
        return -restricted_log_likelihood(gram, noise, val(model.beta2), scaled)

    start = _Model(
        kernel=gpjax.kernels.Matern52(lengthscale=_Positive(2.0), variance=_Positive(10.0)),
        noise=_Positive(1e-4),
        beta2=_Positive(0.5 * stretch**2 / scale),
    )
    fitted, _ = gpjax.fit(
        model=start,
        objective=objective,
        train_data=gpjax.Dataset(X=scaled.x, y=scaled.y[:, None]),
        optim=optax.adam(optax.cosine_decay_schedule(_LEARNING_RATE, _STEPS)),
        num_iters=_STEPS,
        key=jax.random.key(0),  # for minibatches, of which there are none
        verbose=False,
    )
    return Hyperparameters(
        lengthscale=val(fitted.kernel.lengthscale) * stretch,
        variance=val(fitted.kernel.variance) * scale**2,
        noise=(val(fitted.noise) + _LEAST_NOISE) * scale**2,
        beta2=val(fitted.beta2) * scale / stretch**2,
    )


@jax.custom_batching.sequential_vmap
def fit_as_published(data: Observations) -> Hyperparameters:
    """What the published code of Trojan et al. (2024) calls fitted: 200 steps of Adam of 1e-3.

    From lengthscale, variance, noise and β₂ of 1, the first three through a softplus, on
    :func:`restricted_log_likelihood`: none moves by much more than 0.2, so that β₂ stays
    near 0.8, where a Gaussian shard has 1/2, and log densities without noise keep one
    of sd 0.87 or so. ``data.root`` is to be the root of the draws' covariance.
    """
    import optax

    at_one = jnp.log(jnp.expm1(1.0))
    optimizer = optax.adam(_PUBLISHED_LEARNING_RATE)

    def hyperparameters(raw: Float[Array, " 4"]) -> Hyperparameters:
        lengthscale, variance, sd = jax.nn.softplus(raw[:3])
        return Hyperparameters(lengthscale, variance, sd**2, jnp.abs(raw[3]))

    def objective(raw: Float[Array, " 4"]) -> Float[Array, ""]:
        h = hyperparameters(raw)
        gram = h.variance * data.gram(h.lengthscale)
        return -restricted_log_likelihood(gram, h.noise, h.beta2, data)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        raw, state = carry
        changes, state = optimizer.update(jax.grad(objective)(raw), state)
        return (optax.apply_updates(raw, changes), state), None

    start = jnp.array([at_one, at_one, at_one, 1.0])
    carry = (start, optimizer.init(start))
    return hyperparameters(jax.lax.scan(step, carry, length=_PUBLISHED_STEPS)[0][0])


def _residual_scale(data: Observations) -> Float[Array, ""]:
    """Root mean square of what least squares on (1, x, |x|²) leaves of y."""
    kept = data.distinct.astype(data.y.dtype)
    design = jnp.column_stack([basis(data.x), jnp.sum(data.x**2, axis=-1)]) * kept[:, None]
    target = data.y * kept
    left = target - design @ jnp.linalg.lstsq(design, target)[0]
    # With no more draws than coefficients nothing is left; some scale is needed still.
    return (jnp.linalg.norm(left) + 1e-4 * jnp.linalg.norm(target)) / jnp.sqrt(jnp.sum(kept))


# ---------------------------------------------------------------- prediction


class GaussianProcess(eqx.Module):
    """A Gaussian process given its observations.

    Attributes:
        hyperparameters: as fitted.
        x: (n, d) where it was observed.
        weights: (n,) α; the mean is h(x)ᵀ b - β₂|x|² + Σ_i α_i k(x, x_i).
        coefficients: (p,) b.
        inverse_root: (n, n) L⁻¹, the columns of what is left out zero.
        basis: (n, p) L⁻¹ H.
        root_a: (p, p) Cholesky factor of A = Hᵀ K⁻¹ H.
        root: of the kernel's coordinates, as in :class:`Observations`.
    """

    hyperparameters: Hyperparameters
    x: Float[Array, "*S n d"]
    weights: Float[Array, "*S n"]
    coefficients: Float[Array, "*S p"]
    inverse_root: Float[Array, "*S n n"]
    basis: Float[Array, "*S n p"]
    root_a: Float[Array, "*S p p"]
    root: Float[Array, "*S d d"] | None

    def mean(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """Predictive mean of f at x."""
        quadratic = basis(x) @ self.coefficients - self.hyperparameters.beta2 * (x @ x)
        return quadratic + self._kernel(x) @ self.weights

    def variance(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """Predictive variance of f at x, the uncertainty of b included.

        k(x, x) - kᵀ K⁻¹ k + Rᵀ A⁻¹ R, R = h(x) - Hᵀ K⁻¹ k; Rasmussen & Williams, equation 2.42.
        """
        kernel, num = self._kernel(x), len(self.x)
        # L⁻¹ is lower triangular; in bands, most of the multiplications by zero are left out.
        bands = [(band * num // _BANDS, (band + 1) * num // _BANDS) for band in range(_BANDS)]
        explained = jnp.concatenate(
            [self.inverse_root[start:end, :end] @ kernel[:end] for start, end in bands]
        )
        slopes = solve_triangular(self.root_a, basis(x) - explained @ self.basis, lower=True)
        return self.hyperparameters.variance - explained @ explained + slopes @ slopes

    def _kernel(self, x: Float[Array, " d"]) -> Float[Array, " n"]:
        # The square is expanded so that many x at once make it a matrix product.
        x, centres = _placed(x, self.root), _placed(self.x, self.root)
        squared = x @ x + jnp.sum(centres**2, axis=-1) - 2.0 * (centres @ x)
        h = self.hyperparameters
        return h.variance * _correlation(self.root)(squared / h.lengthscale**2)


@jax.custom_batching.sequential_vmap
def condition(hyperparameters: Hyperparameters, data: Observations) -> GaussianProcess:
    """The Gaussian process given what was observed: one Cholesky factorisation."""
    h = hyperparameters
    f = _factors(h.variance * data.gram(h.lengthscale), h.noise, h.beta2, data)
    b = cho_solve((f.root_a, True), f.weighted)
    weights = solve_triangular(f.root, f.residual - f.basis @ b, lower=True, trans=1)
    kept = jnp.diag(data.distinct.astype(data.x.dtype))
    return GaussianProcess(
        hyperparameters=h,
        x=data.x,
        weights=weights,
        coefficients=b,
        inverse_root=solve_triangular(f.root, kept, lower=True),
        basis=f.basis,
        root_a=f.root_a,
        root=data.root,
    )
