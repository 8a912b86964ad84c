"""What a person wants to know of a posterior: sizes, means and spreads of the components, with intervals."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from vigmm.core import rng
from vigmm.core.struct import require
from vigmm.posterior.draws import draw_blocks
from vigmm.posterior.tables import summary_table

if TYPE_CHECKING:
    import pyarrow as pa

    from vigmm.posterior.posterior import Posterior

__all__ = ["Spread", "Summary", "plus_minus", "summarise", "to_digit"]

# What a printed table shows; `to_dict` has it all.
_COLUMNS = 6
_SMALL = 1e-3

# Beyond these a number is written with a power of ten.
_FEWEST_DECIMALS, _MOST_DECIMALS = -6, 8


@dataclasses.dataclass(frozen=True, eq=False)
class Spread:
    """Posterior mean, standard deviation and central credible interval of many quantities."""

    mean: Float[np.ndarray, "*shape"]
    sd: Float[np.ndarray, "*shape"]
    low: Float[np.ndarray, "*shape"]
    high: Float[np.ndarray, "*shape"]

    @staticmethod
    def of(draws: Float[np.ndarray, "S *shape"], level: float) -> Spread:
        """The spread of draws along their first axis."""
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return Spread(mean=draws.mean(axis=0), sd=draws.std(axis=0, ddof=1), low=low, high=high)

    def at(self, *index: int) -> dict[str, float]:
        """One of the quantities, JSON-ready."""
        return {field.name: float(getattr(self, field.name)[index]) for field in dataclasses.fields(self)}


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """Components in order of their weight, in the units of the data.

    Args:
        component: number of each component in the model.
        weight: share of the rows.
        mean: of each column in each component.
        sd: of each column in each component: how wide the component is, not how uncertain its mean.
        columns: names of the D columns.
        level: probability in each interval.
        num_draws: posterior draws behind all numbers.
        rows: number of rows that weights are turned into counts with, if given.
    """

    component: Int[np.ndarray, " K"]
    weight: Spread
    mean: Spread
    sd: Spread
    columns: tuple[str, ...]
    level: float
    num_draws: int
    rows: int | None

    @property
    def expected_rows(self) -> Float[np.ndarray, " K"] | None:
        """Expected number of rows of each component, if `rows` was given."""
        return None if self.rows is None else self.weight.mean * self.rows

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        counts = self.expected_rows
        return {
            "level": self.level,
            "num_draws": self.num_draws,
            "rows": self.rows,
            "columns": list(self.columns),
            "components": [
                {
                    "component": int(number),
                    "weight": self.weight.at(k),
                    "expected_rows": None if counts is None else float(counts[k]),
                    "features": [
                        {"column": name, "mean": self.mean.at(k, d), "sd": self.sd.at(k, d)}
                        for d, name in enumerate(self.columns)
                    ],
                }
                for k, number in enumerate(self.component)
            ],
        }

    def to_arrow(self) -> pa.Table:
        """A row for each component and column: weight, mean and sd, each with its credible interval.

        ``.to_pandas()`` makes a pandas frame of it, ``polars.from_arrow`` a polars one.
        """
        return summary_table(self.to_dict())

    def __str__(self) -> str:
        shown = [k for k in range(len(self.component)) if k == 0 or self.weight.mean[k] >= _SMALL]
        counts = self.expected_rows
        names = self.columns[:_COLUMNS]
        header = [
            "component",
            "weight",
            f"{self.level:.0%} interval",
            *([] if counts is None else ["rows"]),
            *names,
        ]
        table = [header]
        for k in shown:
            interval = f"[{self.weight.low[k]:.4f}, {self.weight.high[k]:.4f}]"
            cells = [str(self.component[k]), f"{self.weight.mean[k]:.4f}", interval]
            cells += [] if counts is None else [f"{counts[k]:,.0f}"]
            cells += [plus_minus(self.mean.mean[k, d], self.sd.mean[k, d]) for d in range(len(names))]
            table.append(cells)
        widths = [max(len(row[i]) for row in table) for i in range(len(header))]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table
        ]
        return "\n".join([*lines, "", *self._notes(len(shown))])

    def _notes(self, shown: int) -> list[str]:
        notes = [
            "Each column: mean of the component ± its standard deviation (its width, not an error). "
            f"{self.num_draws} posterior draws."
        ]
        hidden = len(self.component) - shown
        if hidden:
            share = float(self.weight.mean[shown:].sum())
            one = hidden == 1
            notes.append(
                f"{hidden} more component{' has' if one else 's have'} a weight below {_SMALL:.1%}"
                f"{'' if one else ' each'}, {share:.2%} {'' if one else 'together '}".rstrip()
                + "."
            )
        if len(self.columns) > _COLUMNS:
            notes.append(f"{len(self.columns) - _COLUMNS} more columns are not shown.")
        return notes


def plus_minus(mean: float, sd: float) -> str:
    """Both to the third digit of the second, so that a mean far from zero keeps what matters.

    Example:
        >>> plus_minus(1000.071234, 0.010234), plus_minus(81234.5, 1234.5)
        ('1000.0712 ± 0.0102', '81230 ± 1230')
    """
    return f"{to_digit(mean, sd)} ± {to_digit(sd, sd)}"


def to_digit(value: float, sd: float) -> str:
    """A value to the third digit of `sd`; with a power of ten where zeros would hide the digits.

    Example:
        >>> to_digit(1000.071234, 0.010234), to_digit(81234.5, 1234.5), to_digit(-0.0004, 1.0)
        ('1000.0712', '81230', '0.00')
        >>> to_digit(-2.00339e15, 1.08e14), to_digit(2.4e-13, 3.06e-9)
        ('-2.003e+15', '0')
    """
    decimals = 2 - math.floor(math.log10(sd)) if 0 < sd < math.inf else 3
    if _FEWEST_DECIMALS <= decimals <= _MOST_DECIMALS:
        # Minus zero plus zero is zero.
        return f"{round(float(value), decimals) + 0.0:.{max(decimals, 0)}f}"
    digits = decimals + math.floor(math.log10(abs(value))) if value else -1
    return f"{value:.{min(digits, 15)}e}" if digits >= 0 else "0"


def summarise(posterior: Posterior, *, level: float, num_draws: int, rows: int | None) -> Summary:
    """The summary; see `Posterior.summary`."""
    require(0 < level < 1, "level", "between 0 and 1", level)
    require(num_draws >= 2, "num_draws", ">= 2", num_draws)
    require(rows is None or rows >= 0, "rows", ">= 0", rows)
    key = rng.stream(rng.root_key(posterior.seed), "summary")
    parts = []
    for _, block in draw_blocks(posterior, key, num_draws):
        # Only the diagonals are kept: all covariances of all draws would not fit into memory.
        variances = np.diagonal(block.covariances, axis1=-2, axis2=-1)
        parts.append((block.weights, block.means, np.sqrt(variances)))
    weights, means, sds = (np.concatenate(kind) for kind in zip(*parts, strict=True))
    order = np.argsort(-weights.mean(axis=0), kind="stable")
    return Summary(
        component=order,
        weight=Spread.of(weights[:, order], level),
        mean=Spread.of(posterior.center + posterior.scale * means[:, order], level),
        sd=Spread.of(posterior.scale * sds[:, order], level),
        columns=posterior.columns,
        level=level,
        num_draws=num_draws,
        rows=rows,
    )
