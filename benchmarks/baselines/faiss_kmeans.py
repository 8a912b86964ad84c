"""faiss k-means on all rows: no mixture, but a lower bound of the time that looking at the rows takes.

Its density, for the curious, is that of Gaussians with the moments of its cells, computed off the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from benchmarks.gaussians import Gaussians, dense
from benchmarks.protocol import Clock, Fitted, Problem

__all__ = ["FaissKmeans"]


@dataclass(frozen=True)
class FaissKmeans:
    """`faiss.Kmeans` without subsampling.

    Args:
        max_iter: Lloyd iterations; it has no stopping rule.
    """

    max_iter: int = 25

    environment: ClassVar[str | None] = "faiss"
    reruns: ClassVar[bool] = False
    costly: ClassVar[bool] = False

    @property
    def budgets(self) -> tuple[float, ...]:
        return (float(self.max_iter),)

    def load(self) -> None:
        import faiss  # type: ignore[import-not-found,unused-ignore]  # noqa: F401

    def tune(self, problem: Problem) -> FaissKmeans:
        return self

    def fit(self, problem: Problem, passes: float, clock: Clock) -> Fitted:
        import faiss

        x = np.ascontiguousarray(problem.x)
        kmeans = faiss.Kmeans(
            x.shape[1], problem.k_max, niter=int(passes), seed=problem.seed,
            max_points_per_centroid=len(x), min_points_per_centroid=1,
        )  # fmt: skip
        kmeans.train(x)

        @lru_cache(maxsize=1)
        def model() -> Gaussians:
            labels = kmeans.index.search(x, 1)[1].ravel()
            return _moments(x, labels, problem.k_max, diag=problem.covariance == "diag")

        return Fitted(
            lambda rows: model().log_density(rows),
            lambda: model().weights,
            passes,
            notes={"model": "Gaussians with the moments of the cells"},
            predict=lambda rows: kmeans.index.search(np.ascontiguousarray(rows), 1)[1].ravel(),
        )


def _moments(x: np.ndarray, labels: np.ndarray, count: int, *, diag: bool) -> Gaussians:
    dim = x.shape[1]
    means, covs, weights = np.zeros((count, dim)), np.tile(np.eye(dim), (count, 1, 1)), np.zeros(count)
    for k in range(count):
        mine = np.asarray(x[labels == k], np.float64)
        if len(mine) > dim:
            means[k], weights[k] = mine.mean(0), len(mine) / len(x)
            cov = np.cov(mine.T).reshape(dim, dim) + 1e-6 * np.eye(dim)
            covs[k] = dense(np.diag(cov)[None])[0] if diag else cov
    return Gaussians(weights / weights.sum(), means, covs)
