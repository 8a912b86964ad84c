"""Data whose true density is known: what the benchmarks and many tests are run on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

from vigmm.core.struct import require, state
from vigmm.data.protocol import CHUNK

__all__ = ["Synthetic", "gaussian_mixture"]


@state
class Synthetic:
    """A sample of a Gaussian mixture, and the mixture.

    Args:
        x: the rows.
        labels: which component each row came from.
        weights: true weights of the components.
        means: true means.
        covs: true covariances.
    """

    x: Float[np.ndarray, "N D"]
    labels: Int[np.ndarray, " N"]
    weights: Float[np.ndarray, " K"]
    means: Float[np.ndarray, "K D"]
    covs: Float[np.ndarray, "K D D"]

    def log_density(self, x: Num[Any, "n D"]) -> Float[np.ndarray, " n"]:
        """True log density of rows, in nats: log sum_k w_k N(x | m_k, C_k), in float64."""
        density: np.ndarray = np.logaddexp.reduce(self.log_joint(x), axis=1)
        return density

    def responsibilities(self, x: Num[Any, "n D"]) -> Float[np.ndarray, "n K"]:
        """True posterior probability of each component for each row."""
        joint = self.log_joint(x)
        share: np.ndarray = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))
        return share

    def log_joint(self, x: Num[Any, "n D"]) -> Float[np.ndarray, "n K"]:
        """Log weight plus log density, log w_k + log N(x | m_k, C_k), of each row and component."""
        rows = np.asarray(x)
        dim = rows.shape[1]
        out = np.empty((len(rows), len(self.weights)))
        factors = np.linalg.cholesky(self.covs)
        for k, (mean, factor) in enumerate(zip(self.means, factors, strict=True)):
            half_log_det = np.log(np.diag(factor)).sum()
            whiten = np.linalg.inv(factor).T
            constant = math.log(self.weights[k]) - half_log_det - 0.5 * dim * math.log(2 * math.pi)
            for start in range(0, len(rows), CHUNK):
                white = (rows[start : start + CHUNK].astype(np.float64) - mean) @ whiten
                out[start : start + CHUNK, k] = constant - 0.5 * np.einsum("nd,nd->n", white, white)
        return out


def gaussian_mixture(
    n: int,
    dim: int,
    num_components: int,
    *,
    separation: float | None = None,
    seed: int,
    dtype: Any = np.float32,
) -> Synthetic:
    """Rows of K overlapping full-covariance Gaussians of unequal weight.

    Means are N(0, separation^2 I). Each covariance has determinant 1, a random orientation and log-uniform
    eigenvalues with a condition number between 10 and 30. Weights are log-normal with sd 0.6, normalised. The
    mixture depends on the seed, D, K and `separation` only; `n` changes the rows alone.

    Two means are about separation * sqrt(2 D) apart, where a cluster's sd is about 1. The default makes that
    4 in any dimension. The best possible error rate of an assignment (mean over three seeds) measures the
    overlap:

    | D, K   | default | half of it | twice it |
    |--------|---------|------------|----------|
    | 2, 4   | 0.15    | 0.26       | 0.06     |
    | 8, 10  | 0.12    | 0.28       | 0.01     |
    | 16, 20 | 0.08    | 0.22       | 0.00     |

    Args:
        n: number of rows.
        dim: number of columns D.
        num_components: number of Gaussians K.
        separation: sd of every coordinate of a mean; 4 / sqrt(2 D) by default.
        seed: chooses the mixture and the rows.
        dtype: float type of the rows; everything else is float64.

    Returns:
        The rows, which component each came from, and the mixture.

    Raises:
        SpecError: if a size is below 1 or `separation` is negative.

    Example:
        >>> data = gaussian_mixture(1000, 2, 3, seed=0)
        >>> data.x.shape, data.means.shape, bool(np.isfinite(data.log_density(data.x)).all())
        ((1000, 2), (3, 2), True)
    """
    for field, size in (("n", n), ("dim", dim), ("num_components", num_components)):
        require(size >= 1, field, ">= 1", size)
    spread = 4 / math.sqrt(2 * dim) if separation is None else separation
    require(spread >= 0, "separation", ">= 0", separation)
    mixture, rows = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    weights = np.exp(0.6 * mixture.standard_normal(num_components))
    weights /= weights.sum()
    means = spread * mixture.standard_normal((num_components, dim))
    covs = np.stack([_random_cov(mixture, dim) for _ in range(num_components)])
    labels = rows.choice(num_components, size=n, p=weights)
    x = np.empty((n, dim), dtype)
    for k, factor in enumerate(np.linalg.cholesky(covs)):
        mine = np.flatnonzero(labels == k)
        x[mine] = means[k] + rows.standard_normal((len(mine), dim)) @ factor.T
    return Synthetic(x=x, labels=labels, weights=weights, means=means, covs=covs)


def _random_cov(rng: np.random.Generator, dim: int) -> Float[np.ndarray, "D D"]:
    """A covariance of determinant 1, any orientation and a condition number between 10 and 30."""
    axes, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    log_condition = rng.uniform(math.log(10), math.log(30))
    levels = rng.uniform(size=dim)
    if dim > 1:  # in one dimension there is no shape to vary
        levels = (levels - levels.min()) / (levels.max() - levels.min())
    sd = np.exp(0.5 * log_condition * (levels - levels.mean()))
    half = axes * sd
    return np.asarray(half @ half.T)
