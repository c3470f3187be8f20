"""Gaussian subposteriors with a known product, and what merging them should give."""

from typing import NamedTuple

import numpy as np
from scipy.stats import chi2, norm

FALSE_ALARM = 1e-4  # of each comparison, over all of its coordinates together


class GaussianShards(NamedTuple):
    """S subposteriors N(means[s], covariances[s]) and their product N(mean, covariance)."""

    means: np.ndarray
    covariances: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray

    def pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Mean and covariance of every subposterior."""
        return list(zip(self.means, self.covariances, strict=True))

    def draws(self, rng: np.random.Generator, num_draws: int) -> np.ndarray:
        """Independent draws of every subposterior, (S, num_draws, d)."""
        return np.stack([gaussian(rng, m, c, num_draws) for m, c in self.pairs()])

    def inflated(self, rng: np.random.Generator, num_draws: int) -> np.ndarray:
        """The same of the inflated subposteriors N(means[s], covariances[s] / S)."""
        share = 1 / len(self.means)
        return np.stack([gaussian(rng, m, share * c, num_draws) for m, c in self.pairs()])

    def exact(self, rng: np.random.Generator, num_draws: int) -> np.ndarray:
        """Independent draws of the product, (num_draws, d)."""
        return gaussian(rng, self.mean, self.covariance, num_draws)

    def weight_error(self) -> np.ndarray:
        """T times the covariance that estimated precisions add to the merged mean.

        With a_s = means[s] - mean and Wishart sample covariances, to first order
        V Σ_s [(a_sᵀ P_s a_s) P_s + P_s a_s a_sᵀ P_s] V.
        """
        total = np.zeros_like(self.covariance)
        for mean, covariance in self.pairs():
            precision, shift = np.linalg.inv(covariance), mean - self.mean
            pulled = precision @ shift
            total += (shift @ pulled) * precision + np.outer(pulled, pulled)
        return self.covariance @ total @ self.covariance


def gaussian(
    rng: np.random.Generator, mean: np.ndarray, covariance: np.ndarray, num_draws: int
) -> np.ndarray:
    """Independent draws of N(mean, covariance)."""
    noise = rng.standard_normal((num_draws, len(mean)))
    return mean + noise @ np.linalg.cholesky(covariance).T


def product_of_gaussians(
    rng: np.random.Generator, values: np.ndarray, num_draws: int
) -> np.ndarray:
    """Draws of the product of the Gaussians with the moments of shards' draws (S, T, d).

    The merge that others must beat where shards are not Gaussian.
    """
    precisions = np.linalg.inv([np.atleast_2d(np.cov(shard.T)) for shard in values])
    covariance = np.linalg.inv(precisions.sum(0))
    mean = covariance @ np.einsum("sij,sj->i", precisions, values.mean(1))
    return rng.multivariate_normal(mean, covariance, num_draws)


def make_shards(rng: np.random.Generator, num_shards: int, dim: int) -> GaussianShards:
    """Different covariances, scales from 0.01 to 100, means 0.5 subposterior sds off centre."""
    scales = np.logspace(-2, 2, dim) if dim > 1 else np.array([3.0])
    covariances, means = [], []
    for _ in range(num_shards):
        root = rng.standard_normal((dim, 3 * dim + 2)) / np.sqrt(3 * dim + 2)
        covariance = rng.uniform(0.5, 2.0) * root @ root.T
        direction = rng.standard_normal(dim)
        direction *= 0.5 / np.linalg.norm(direction)
        means.append(scales * (5.0 + np.linalg.cholesky(covariance) @ direction))
        covariances.append(scales[:, None] * covariance * scales)
    precisions = [np.linalg.inv(c) for c in covariances]
    covariance = np.linalg.inv(sum(precisions))
    mean = covariance @ sum(p @ m for p, m in zip(precisions, means, strict=True))
    return GaussianShards(np.array(means), np.array(covariances), mean, covariance)


def assert_mean(draws: np.ndarray, mean: np.ndarray, error: np.ndarray) -> None:
    """The draws' mean differs from ``mean`` as an error of covariance ``error`` allows (χ²)."""
    shift = draws.mean(0) - mean
    statistic = shift @ np.linalg.solve(error, shift)
    assert statistic < chi2.isf(FALSE_ALARM, len(mean))


def assert_covariance(draws: np.ndarray, covariance: np.ndarray, variance: float) -> None:
    """Whitened by ``covariance``, the draws' covariance is I.

    Entry (i, j) has standard error sqrt((1 + [i = j]) variance), variance = 1/n for n
    independent Gaussian draws; Bonferroni over the d(d + 1)/2 entries.
    """
    dim = len(covariance)
    factor = np.linalg.cholesky(covariance)
    whitened = np.linalg.solve(factor, (draws - draws.mean(0)).T)
    excess = whitened @ whitened.T / (len(draws) - 1) - np.eye(dim)
    z = np.abs(excess) / np.sqrt((1 + np.eye(dim)) * variance)
    assert z.max() < norm.isf(FALSE_ALARM / (dim * (dim + 1)))
