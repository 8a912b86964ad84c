"""What distinguishes each component from the rest: standardised differences, overlap, and both in words."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from jaxtyping import Float

from vigmm.report.markup import true_minus

__all__ = ["Contrasts", "contrast", "separation"]

_GRID = 129
_REACH = 4.0
_CLEAR, _MOST_NAMED = 0.5, 3


@dataclasses.dataclass(frozen=True, eq=False)
class Contrasts:
    """Each component against all others together; NaN where there are no others.

    Args:
        difference: (mean - mean of the rest) / root mean square of both standard deviations.
        ratio: standard deviation over that of the rest.
        overlap: the integral of the smaller of the two densities of a column: 1 where it cannot tell them
            apart, 0 where it always can.
    """

    difference: Float[np.ndarray, "K D"]
    ratio: Float[np.ndarray, "K D"]
    overlap: Float[np.ndarray, "K D"]

    def words(self, k: int, columns: tuple[str, ...]) -> str:
        """The columns in which component `k` stands out, most telling first."""
        difference, ratio = self.difference[k], self.ratio[k]
        if not np.isfinite(difference).any():
            return "the only cluster"
        order = np.argsort(-np.abs(np.nan_to_num(difference)), kind="stable")[:_MOST_NAMED]
        named = [
            f"{'high' if difference[d] > 0 else 'low'} {columns[d]} ({_signed(difference[d])})"
            for d in order
            if abs(difference[d]) >= _CLEAR
        ]
        if named:
            return ", ".join(named)
        stretch = np.log2(np.where(np.isfinite(ratio) & (ratio > 0), ratio, 1.0))
        widest = int(np.argmax(np.abs(stretch)))
        if abs(stretch[widest]) >= 1:
            return (
                f"{'wide' if stretch[widest] > 0 else 'narrow'} in {columns[widest]}, near the middle of all"
            )
        return "near the middle in every column"


def contrast(
    weights: Float[np.ndarray, " K"], means: Float[np.ndarray, "K D"], sds: Float[np.ndarray, "K D"]
) -> Contrasts:
    """Compare each component with the mixture of the others, column by column.

    Args:
        weights: shares of the rows.
        means: component means.
        sds: component standard deviations.
    """
    num = len(weights)
    others = np.where(np.eye(num, dtype=bool), 0.0, weights[None, :])
    total = others.sum(axis=1, keepdims=True)
    shares = np.divide(others, total, out=np.full_like(others, np.nan), where=total > 0)
    rest = shares @ means
    apart = means[None] - rest[:, None]
    spread = np.sqrt(np.einsum("kj,kjd->kd", shares, sds[None] ** 2 + apart**2))
    both = np.sqrt((sds**2 + spread**2) / 2)
    return Contrasts(
        difference=(means - rest) / both, ratio=sds / spread, overlap=_overlap(shares, means, sds)
    )


def separation(
    weights: Float[np.ndarray, " K"], means: Float[np.ndarray, "K D"], sds: Float[np.ndarray, "K D"]
) -> Float[np.ndarray, " D"]:
    """The share of each column's variance that lies between the components."""
    share = weights / weights.sum()
    between = share @ (means - share @ means) ** 2
    total: np.ndarray = between / np.maximum(between + share @ sds**2, np.finfo(float).tiny)
    return total


def _overlap(
    shares: Float[np.ndarray, "K K"], means: Float[np.ndarray, "K D"], sds: Float[np.ndarray, "K D"]
) -> Float[np.ndarray, "K D"]:
    """Integrals over the reach of each component by the trapezoidal rule."""
    z = np.linspace(-_REACH, _REACH, _GRID)
    own = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    found = np.full(means.shape, np.nan)
    for k in range(len(means)):
        if not np.isfinite(shares[k]).all():
            continue
        x = means[k][:, None] + sds[k][:, None] * z
        rest = np.zeros_like(x)
        for j in np.flatnonzero(shares[k] > 0):
            there = (x - means[j][:, None]) / sds[j][:, None]
            # In units of the component's own standard deviation, as `own` is.
            height = shares[k, j] * (sds[k] / sds[j])[:, None] / math.sqrt(2 * math.pi)
            rest += height * np.exp(-0.5 * np.minimum(there**2, 1400.0))
        found[k] = np.trapezoid(np.minimum(own, rest), z, axis=1)
    return found


def _signed(value: float) -> str:
    return true_minus(f"{value:+.1f}")
