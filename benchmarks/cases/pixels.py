"""Pixels of the two photographs that scikit-learn ships: clusters that are no Gaussians."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.cases.base import CaseData
from benchmarks.cases.split import from_table, standardised

__all__ = ["PixelCase"]


@dataclass(frozen=True)
class PixelCase:
    """Columns red, green, blue and, if asked for, x and y of every pixel, each standardised.

    Args:
        picture: ``china.jpg`` or ``flower.jpg``.
        place: whether the place of a pixel is two more columns.
        k_max: components that a method may use.
        batch_size: rows of a minibatch.
    """

    picture: str
    place: bool
    k_max: int = 30
    batch_size: int = 2000

    def build(self, *, rows: int | None = None) -> CaseData:
        from sklearn.datasets import load_sample_image

        image = np.asarray(load_sample_image(self.picture), np.float64)
        x = image.reshape(-1, 3)
        if self.place:
            down, right = np.indices(image.shape[:2])
            x = np.column_stack([x, right.ravel(), down.ravel()])
        facts = {**asdict(self), "source": f"sklearn.datasets.load_sample_image({self.picture!r})"}
        return from_table(standardised(x), facts, rows=rows)
