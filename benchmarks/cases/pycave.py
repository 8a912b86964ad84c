"""The two sizes that pycave's documentation reports: seconds of 100 iterations, quality aside."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.cases.base import CaseData

__all__ = ["PycaveCase"]


@dataclass(frozen=True)
class PycaveCase:
    """Rows of well-separated spherical Gaussians; every method makes the same number of passes.

    Args:
        rows: training rows.
        dim: columns.
        k_max: Gaussians, and components of a method.
        covariance: of the methods' components.
        iterations: passes.
        batch_size: rows of a minibatch, for methods that cannot do without.
    """

    rows: int
    dim: int
    k_max: int
    covariance: str
    iterations: int = 100
    batch_size: int = 10_000

    def build(self, *, rows: int | None = None) -> CaseData:
        count, heldout = rows or self.rows, 1_000
        rng = np.random.default_rng(0)
        means = rng.normal(size=(self.k_max, self.dim)).astype(np.float32) * 3
        labels = rng.integers(self.k_max, size=count + heldout)
        x = rng.standard_normal((count + heldout, self.dim), dtype=np.float32)
        x += means[labels]
        facts = {**asdict(self), "rows": count, "heldout": heldout, "source": "spherical Gaussians of sd 1"}
        return CaseData(x[:count], x[count:], {}, facts, labels[count:])
