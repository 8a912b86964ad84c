"""Where an EM without a start of its own begins: k-means++ seeds and the moments of their cells."""

from __future__ import annotations

import numpy as np

from benchmarks.gaussians import Gaussians
from benchmarks.protocol import Array

__all__ = ["kmeans_plus_plus", "seeded"]


def kmeans_plus_plus(x: Array, count: int, rng: np.random.Generator) -> Array:
    """Rows drawn one after another, each in proportion to its squared distance from those drawn before.

    Arthur and Vassilvitskii (2007), SODA; the plain form, one candidate at a time.
    """
    chosen = [int(rng.integers(len(x)))]
    nearest = ((x - x[chosen[0]]) ** 2).sum(1)
    for _ in range(count - 1):
        # All rows may be drawn already where many are equal.
        share = nearest / nearest.sum() if nearest.sum() > 0 else None
        chosen.append(int(rng.choice(len(x), p=share)))
        np.minimum(nearest, ((x - x[chosen[-1]]) ** 2).sum(1), out=nearest)
    return np.asarray(x[chosen])


def seeded(x: Array, count: int, seed: int, *, rows: int = 20_000) -> Gaussians:
    """Weights and covariances of the cells of k-means++ seeds, on a subsample.

    A cell's covariance is drawn towards that of all rows by as many rows as there are columns, so that small
    cells have one.
    """
    rng = np.random.default_rng(seed)
    part = np.asarray(x[rng.choice(len(x), min(rows, len(x)), replace=False)], np.float64)
    means = kmeans_plus_plus(part, count, rng)
    squares = (part**2).sum(1)[:, None] - 2 * part @ means.T + (means**2).sum(1)
    labels = squares.argmin(1)
    dim = x.shape[1]
    whole = np.cov(part.T).reshape(dim, dim) / count ** (2 / dim)
    whole += 1e-6 * np.trace(whole) / dim * np.eye(dim)  # columns may depend on one another
    covs, weights = np.empty((count, dim, dim)), np.empty(count)
    for k in range(count):
        mine = part[labels == k]
        away = mine - means[k]
        covs[k] = (away.T @ away + dim * whole) / (len(mine) + dim)
        weights[k] = (len(mine) + 1) / (len(part) + count)
    return Gaussians(weights, means, covs)
