"""Handwritten digits on 30 principal components: more parameters than rows allow."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.cases.base import CaseData
from benchmarks.cases.split import from_table, standardised

__all__ = ["DigitsCase"]


@dataclass(frozen=True)
class DigitsCase:
    """Standardised pixels, projected and divided by one overall standard deviation.

    Args:
        dim: principal components.
        k_max: components that a method may use.
        batch_size: rows of a minibatch.
    """

    dim: int = 30
    k_max: int = 30
    batch_size: int = 256

    def build(self, *, rows: int | None = None) -> CaseData:
        from sklearn.datasets import load_digits

        digits = load_digits()
        z = standardised(np.asarray(digits.data, np.float64))
        axes = np.linalg.svd(z, full_matrices=False)[2][: self.dim]
        x = z @ axes.T
        facts = {**asdict(self), "source": "sklearn.datasets.load_digits"}
        return from_table(x / x.std(), facts, rows=rows, labels=np.asarray(digits.target))
