"""Mean and covariance of any source in one pass, and the centring and scaling that follow from them."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Num

from vigmm.core.errors import DataError
from vigmm.core.processes import ALONE, Group
from vigmm.core.struct import state
from vigmm.data.protocol import CHUNK, Source, blocks, check_finite, check_rows, check_weight

__all__ = ["Moments", "Standardizer", "compute_moments"]

# Quartiles are read from about so many rows: their error is then below 1 % of a standard deviation.
_QUARTILE_ROWS = 20_000
# Between the quartiles of a Gaussian lie so many standard deviations.
_QUARTILES_APART = 1.349
# Standard deviations larger than the quartiles say by this factor are made by few rows; for an exponential
# distribution, or two clusters far apart, the factor is below 2.
_GROSS = 10.0


@state
class Moments:
    """What one pass over the rows tells, in float64 and in the user's units.

    Args:
        count: sum of the sample weights; the number of rows without them.
        rows: number of rows N.
        mean: weighted mean.
        cov: weighted population covariance (divided by `count`).
        minimum: smallest value of each column, over rows of positive weight.
        maximum: largest value of each column, over rows of positive weight.
        quartiles: of each column, over evenly spaced rows; empty where they were not looked at.
        one_unit: whether all columns are measured in one unit, so that they must be scaled alike.
        ruled: whether gross outliers ruled a column, of which these are the moments without them.
    """

    count: float
    rows: int
    mean: Float[np.ndarray, " D"]
    cov: Float[np.ndarray, "D D"]
    minimum: Float[np.ndarray, " D"]
    maximum: Float[np.ndarray, " D"]
    quartiles: Float[np.ndarray, "Q D"]
    one_unit: bool = False
    ruled: bool = False

    def typical(self, dtype: Any) -> Moments:
        """The same, but of what most rows are like in columns that gross outliers rule.

        One value of 1e6 among a thousand of size 1 makes a standard deviation of 3e4, and a prior that
        follows it expects components that cover all else. So a column whose standard deviation is ten times
        what its quartiles say gets the median as its mean, (q3 - q1)/1.349 as its standard deviation, and no
        covariances. The digits of `dtype` set a limit: squares of distances and of scales are added, so that
        the deviation is at least 3 sqrt(eps) of the range, a thousandth in float32. A column of which half is
        one value has no quartiles to go by, and stays.

        Args:
            dtype: float type of the computation.
        """
        if len(self.quartiles) == 0:
            return self
        low, median, high = self.quartiles
        sd = np.sqrt(np.diag(self.cov))
        spread = (high - low) / _QUARTILES_APART
        gross = (spread > 0) & (sd > _GROSS * spread)
        if not gross.any():
            return self
        least = 3.0 * float(np.sqrt(np.finfo(dtype).eps))
        spread = np.minimum(np.maximum(spread, least * (self.maximum - self.minimum)), sd)
        cov = np.where(gross[:, None] | gross[None, :], 0.0, self.cov)
        cov[np.diag_indices_from(cov)] = np.where(gross, spread**2, np.diag(self.cov))
        return dataclasses.replace(self, mean=np.where(gross, median, self.mean), cov=cov, ruled=True)


@dataclass(frozen=True)
class _Part:
    """Moments of some rows: sum of weights, mean less a fixed shift, centred scatter, range."""

    count: float
    mean: Float[np.ndarray, " D"]
    scatter: Float[np.ndarray, "D D"]
    minimum: Float[np.ndarray, " D"]
    maximum: Float[np.ndarray, " D"]

    @staticmethod
    def empty(dim: int) -> _Part:
        """Of no rows."""
        nothing, most = np.zeros(dim), np.full(dim, np.inf)
        return _Part(0.0, nothing, np.zeros((dim, dim)), most, -most)

    def merge(self, other: _Part) -> _Part:
        """Chan, Golub and LeVeque's update: nothing is ever squared before it is centred."""
        count = self.count + other.count
        shift = other.mean - self.mean
        between = np.outer(shift, shift) * (self.count * other.count / count)
        return _Part(
            count,
            self.mean + shift * (other.count / count),
            self.scatter + other.scatter + between,
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
        )

    def of_all(self, group: Group) -> _Part:
        """The parts of all processes, merged in order."""
        names = [field.name for field in dataclasses.fields(self)]
        gathered = [group.gather(np.asarray(getattr(self, name), np.float64)[None]) for name in names]
        parts = [
            _Part(float(one[0][0]), *(array[0] for array in one[1:])) for one in zip(*gathered, strict=True)
        ]
        return functools.reduce(_Part.merge, [part for part in parts if part.count > 0])


def compute_moments(
    source: Source,
    *,
    weight: Float[np.ndarray, " N"] | None = None,
    chunk: int = CHUNK,
    group: Group = ALONE,
) -> Moments:
    """Weighted moments of a source in one pass of `chunk` rows at a time, in float64.

    E[x^2] - E[x]^2 loses every digit where the mean is far from zero. Here rows are first shifted by one of
    them (so that a constant column has a variance of exactly 0), then centred per chunk, and the chunks are
    merged about their means.

    Args:
        source: the rows; one with a true attribute `one_unit` has columns that must be scaled alike.
        weight: sample weights of these rows; ones by default.
        chunk: rows per step of the pass; the result does not depend on it beyond rounding.
        group: processes that each have a share of the rows; the moments are of all of them.

    Returns:
        The moments in the units of the source.

    Raises:
        DataError: for a NaN or infinite value (naming row and column), a bad weight, no rows, or values so
            large that their square is not finite.

    Example:
        >>> from vigmm.data.arrays import ArraySource
        >>> float(compute_moments(ArraySource([1e9 - 1, 1e9, 1e9 + 1, 1e9])).cov[0, 0])
        0.5
    """
    check_rows(source, 1)
    weights = None if weight is None else check_weight(weight, len(source), source.name, group=group)
    counts = group.counts(len(source))
    before = sum(counts[: group.index])
    shift: Float[np.ndarray, " D"] | None = None
    total: _Part | None = None
    stride = -(-sum(counts) // _QUARTILE_ROWS)
    sample: list[np.ndarray] = []
    masses: list[np.ndarray] = []
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow is reported below, by column
        for start, block in blocks(source, size=chunk):
            check_finite(block, source, start=start)
            rows = block.astype(np.float64)
            heavy = None if weights is None else weights[start : start + len(rows)]
            some = slice(-(before + start) % stride, None, stride)
            sample.append(rows[some].copy())
            masses.append(np.ones(len(sample[-1])) if heavy is None else heavy[some])
            if heavy is not None and not heavy.all():
                rows, heavy = rows[heavy > 0], heavy[heavy > 0]
            if len(rows) == 0:
                continue
            if shift is None:
                # The same row in all processes, so that their parts can be merged.
                shift = group.joined(rows[:1].copy())[0]
            part = _part_of(rows, heavy, shift)
            total = part if total is None else total.merge(part)
        if shift is None:  # no row of this process has a weight, and those of others wait for its answer
            shift = group.joined(np.empty((0, source.dim)))[0]
        total = (total or _Part.empty(source.dim)).of_all(group)
        cov = total.scatter / total.count
    if not np.isfinite(cov).all():
        column = source.columns[int(np.argmin(np.isfinite(np.diag(cov))))]
        raise DataError(
            f"{source.name}: column {column!r} spans values too large to square in float64; "
            f"rescale it or take its log"
        )
    return Moments(
        count=total.count,
        rows=sum(counts),
        mean=total.mean + shift,
        cov=(cov + cov.T) / 2,
        minimum=total.minimum,
        maximum=total.maximum,
        quartiles=_quartiles(group.joined(np.concatenate(sample)), group.joined(np.concatenate(masses))),
        one_unit=bool(getattr(source, "one_unit", False)),
    )


def _quartiles(rows: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"]) -> Float[np.ndarray, "Q D"]:
    """Weighted quartiles of each column; none where all rows have weight 0."""
    if not weight.any():
        return np.empty((0, rows.shape[1]))
    found: np.ndarray = np.quantile(rows, (0.25, 0.5, 0.75), axis=0, weights=weight, method="inverted_cdf")
    return found


def _part_of(
    rows: Float[np.ndarray, "B D"], weight: Float[np.ndarray, " B"] | None, shift: Float[np.ndarray, " D"]
) -> _Part:
    """Moments of one block, which is overwritten."""
    minimum, maximum = rows.min(axis=0), rows.max(axis=0)
    rows -= shift
    count = float(len(rows)) if weight is None else float(weight.sum())
    mean = rows.mean(axis=0) if weight is None else weight @ rows / count
    rows -= mean
    scatter = rows.T @ rows if weight is None else (rows * weight[:, None]).T @ rows
    return _Part(count, mean, scatter, minimum, maximum)


@state
class Standardizer:
    """Centring and scaling per column, z = (x - center) / scale, and its undoing; always in float64.

    Training happens in z; what leaves is put back: points by `inverse`, covariances by `inverse_cov`, and log
    densities by log p(x) = log p(z) - `log_scale_sum`.

    Args:
        center: subtracted, in the user's units.
        scale: divided by, in the user's units; positive.
    """

    center: Float[np.ndarray, " D"]
    scale: Float[np.ndarray, " D"]

    @staticmethod
    def from_moments(moments: Moments) -> Standardizer:
        """Zero mean and unit (population) standard deviation; a constant column is only centred.

        Columns of one unit have a standard deviation of one on average: a ball in z is one in x.
        """
        sd = np.sqrt(np.diag(moments.cov))
        varies = (moments.maximum > moments.minimum) & (sd > 0)
        if moments.one_unit and varies.any():
            sd, varies = np.full_like(sd, np.sqrt(np.mean(sd[varies] ** 2))), np.ones_like(varies)
        return Standardizer(center=moments.mean.copy(), scale=np.where(varies, sd, 1.0))

    @staticmethod
    def identity(dim: int) -> Standardizer:
        """The one that changes nothing."""
        return Standardizer(center=np.zeros(dim), scale=np.ones(dim))

    @property
    def dim(self) -> int:
        """Number of columns D."""
        return int(self.center.shape[0])

    @property
    def log_scale_sum(self) -> float:
        """Log volume of a unit of z in units of x, in nats: what to subtract from a log density of z."""
        return float(np.log(self.scale).sum())

    def forward(self, x: Num[Any, "*rows D"]) -> Float[np.ndarray, "*rows D"]:
        """From the user's units to standardised ones.

        Example:
            >>> Standardizer(center=np.array([10.0]), scale=np.array([2.0])).forward([[14.0]]).tolist()
            [[2.0]]
        """
        z: np.ndarray = (np.asarray(x, dtype=np.float64) - self.center) / self.scale
        return z

    def inverse(self, z: Num[Any, "*rows D"]) -> Float[np.ndarray, "*rows D"]:
        """From standardised units back to the user's."""
        x: np.ndarray = np.asarray(z, dtype=np.float64) * self.scale + self.center
        return x

    def inverse_cov(self, cov: Num[Any, "*batch D D"]) -> Float[np.ndarray, "*batch D D"]:
        """A covariance (or any scatter) from standardised units back to the user's."""
        return np.asarray(cov, dtype=np.float64) * np.outer(self.scale, self.scale)
