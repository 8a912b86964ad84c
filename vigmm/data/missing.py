"""Moments and missingness patterns of data with missing values, which are NaN.

References:
    Little and Rubin (2019), Statistical Analysis with Missing Data, 3rd edition.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from vigmm.core.errors import DataError
from vigmm.core.processes import ALONE, Group
from vigmm.data.moments import Moments
from vigmm.data.protocol import CHUNK, Source, blocks, check_finite, check_rows, check_weight

__all__ = ["MOST_PATTERNS", "observed_moments", "patterns_of"]

# Each pattern costs a factorisation per component and step; data with more of them are better imputed first.
MOST_PATTERNS = 1024


def patterns_of(x: Float[np.ndarray, "n D"]) -> Bool[np.ndarray, "M D"]:
    """Which columns are observed, once for every combination that occurs."""
    found: np.ndarray = np.unique(~np.isnan(x), axis=0)
    return found


def observed_moments(
    source: Source,
    *,
    weight: Float[np.ndarray, " N"] | None = None,
    chunk: int = CHUNK,
    group: Group = ALONE,
) -> tuple[Moments, Bool[np.ndarray, "M D"]]:
    """Moments of what is observed, and the missingness patterns, in two passes in float64.

    Means, variances and ranges are each column's own, over the rows that have it. Correlations are those of
    the centred data with zeros for what is missing: a little too small, but always those of a covariance
    matrix.

    Args:
        source: the rows; NaN is a missing value.
        weight: sample weights of these rows; ones by default.
        chunk: rows at a time.
        group: processes that each have a share of the rows; moments and patterns are of all of them.

    Raises:
        DataError: for an infinite value, a column without any value, or more than 1,024 patterns.
    """
    check_rows(source, 1)
    if weight is None:
        heavy = np.ones(len(source))
    else:
        heavy = check_weight(weight, len(source), source.name, group=group)
    dim = source.dim
    low, high = np.full(dim, np.inf), np.full(dim, -np.inf)
    count, total = np.zeros(dim), np.zeros(dim)
    shift = np.full(dim, np.nan)
    patterns: set[bytes] = set()
    for start, block in blocks(source, size=chunk):
        check_finite(block, source, start=start, missing=True)
        rows = block.astype(np.float64)
        w = heavy[start : start + len(rows), None]
        seen = ~np.isnan(rows) & (w > 0)
        # About the first value of each column: sums of squares far from zero would lose every digit.
        first = rows[np.argmax(seen, axis=0), np.arange(dim)]
        shift = np.where(np.isnan(shift) & seen.any(axis=0), first, shift)
        count += np.sum(w * seen, axis=0)
        total += np.sum(np.where(seen, w * (rows - shift), 0.0), axis=0)
        low = np.minimum(low, np.where(seen, rows, np.inf).min(axis=0))
        high = np.maximum(high, np.where(seen, rows, -np.inf).max(axis=0))
        patterns |= {pattern.tobytes() for pattern in patterns_of(rows)}
        _check_number(patterns, source)
    for other in group.gather_facts([pattern.hex() for pattern in patterns]):
        patterns |= {bytes.fromhex(pattern) for pattern in other}
    _check_number(patterns, source)
    count, mean = _means(count, total, shift, group)
    if not (count > 0).all():
        column = source.columns[int(np.argmin(count > 0))]
        raise DataError(f"{source.name}: column {column!r} has no value in any row; leave it out")
    scatter = np.zeros((dim, dim))
    for start, block in blocks(source, size=chunk):
        rows = block.astype(np.float64)
        centred = np.where(np.isnan(rows), 0.0, rows - mean)
        scatter += (centred * heavy[start : start + len(rows), None]).T @ centred
    scatter = group.total(scatter)
    variance = np.diag(scatter) / count
    scale = np.sqrt(np.diag(scatter))
    correlation = scatter / np.outer(np.where(scale > 0, scale, 1.0), np.where(scale > 0, scale, 1.0))
    cov = correlation * np.sqrt(np.outer(variance, variance))
    moments = Moments(
        count=float(group.total(heavy.sum())),
        rows=sum(group.counts(len(source))),
        mean=mean,
        cov=(cov + cov.T) / 2,
        minimum=np.min(group.gather(low[None]), axis=0)[0],
        maximum=np.max(group.gather(high[None]), axis=0)[0],
        quartiles=np.empty((0, dim)),
    )
    return moments, np.array([np.frombuffer(pattern, np.bool_) for pattern in sorted(patterns)])


def _check_number(patterns: set[bytes], source: Source) -> None:
    if len(patterns) > MOST_PATTERNS:
        raise DataError(
            f"{source.name} has more than {MOST_PATTERNS} different combinations of missing columns: "
            f"leave out or impute the columns that are missing most often"
        )


def _means(
    count: Float[np.ndarray, " D"],
    total: Float[np.ndarray, " D"],
    shift: Float[np.ndarray, " D"],
    group: Group,
) -> tuple[Float[np.ndarray, " D"], Float[np.ndarray, " D"]]:
    """Weight and mean of each column over all processes, from sums about a value of each."""
    counts = np.concatenate(group.gather(count[None]))
    with np.errstate(invalid="ignore"):  # 0 / 0, of a column that a process has nothing of
        means = np.concatenate(group.gather((shift + total / count)[None]))
    # About the mean of the first process that has one.
    first = means[np.argmax(counts > 0, axis=0), np.arange(len(count))]
    apart = np.where(counts > 0, counts * (means - first), 0.0).sum(axis=0)
    count = counts.sum(axis=0)
    return count, first + apart / np.where(count > 0, count, 1.0)
