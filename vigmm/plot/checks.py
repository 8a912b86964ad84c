"""The data beside data sets as the model would make them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vigmm.core import rng
from vigmm.core.errors import SpecError
from vigmm.core.struct import require
from vigmm.plot.pairs import chosen_columns
from vigmm.plot.style import INK, PALETTE, panels, tidy
from vigmm.posterior.replicates import replicated
from vigmm.subject import posterior_of, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MAX_CHECKED", "predictive_check"]

MAX_CHECKED = 12
"""Columns in a check, unless they are named."""

_ROWS = 2_000


def predictive_check(
    source: Any,
    rows: Any = None,
    *,
    columns: Sequence[str] | None = None,
    replicates: int = 200,
    level: float = 0.9,
    seed: int = 0,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Posterior predictive check: each column's histogram, and the band in which replicated data have theirs.

    Each replicate is a data set of as many rows from a draw of the parameters. Where the line leaves the band
    in more places than one in ten, the model does not make data like these.

    Args:
        source: a fit or a posterior.
        rows: N rows; by default those that were fitted. At most 2,000 of them are compared, evenly spaced.
        columns: which columns; by default the first `MAX_CHECKED`.
        replicates: how many data sets.
        level: share of the replicates within the band, bin by bin.
        seed: fixes the replicates.
        axes: one axes for each column; a new figure by default.
    """
    require(replicates >= 2, "replicates", ">= 2", replicates)
    require(0 < level < 1, "level", "between 0 and 1", level)
    posterior = posterior_of(source)
    at = chosen_columns(posterior, columns, MAX_CHECKED)
    if axes is None:
        wide = min(len(at), 3)
        tall = math.ceil(len(at) / wide)
        made = panels(rows=tall, columns=wide, width=max(3.4 * wide, 5.0), height=2.7 * tall + 0.4)
        for spare in made[len(at) :]:
            spare.set_axis_off()
        axes = made[: len(at)]
    elif len(axes) != len(at):
        raise SpecError("axes", f"{len(at)} axes, one for each column", len(axes))
    x, _ = rows_of(source, rows, _ROWS)
    key = rng.stream(rng.root_key(seed), "check")
    draws = posterior.draw(key, replicates)
    generator = rng.on_host(rng.stream(key, "rows"))
    edges = [_edges(x[:, i]) for i in at]
    counts: list[list[np.ndarray]] = [[] for _ in at]
    for again in replicated(posterior, draws, len(x), generator):
        for found, i, edge in zip(counts, at, edges, strict=True):
            found.append(_density(again[:, i], edge))
    tail = 50 * (1 - level)
    for ax, i, edge, found in zip(axes, at, edges, counts, strict=True):
        low, middle, high = np.percentile(np.stack(found), [tail, 50, 100 - tail], axis=0)
        # A step begins at each edge: the last height is drawn once more.
        low, high = np.append(low, low[-1]), np.append(high, high[-1])
        told = f"{level:.0%} of {replicates} replicates"
        ax.fill_between(edge, low, high, step="post", color=PALETTE[5], alpha=0.45, lw=0, label=told)
        ax.stairs(middle, edge, color=PALETTE[0], lw=1.2, ls=(0, (4, 2)), label="their median")
        ax.stairs(_density(x[:, i], edge), edge, color=INK, lw=1.4, label="data")
        ax.set_ylim(0, None)
        ax.set_yticks([])
        tidy(ax, title="", y="", x=posterior.columns[i])
    axes[0].set_ylim(0, 1.4 * axes[0].get_ylim()[1])  # room for the legend
    axes[0].legend(frameon=False, fontsize=8, loc="upper right")
    axes[0].set_title("Posterior predictive check", loc="left", fontsize=12, color=INK)
    return list(axes)


def _edges(values: np.ndarray) -> np.ndarray:
    """Bins that hold all values, a little beyond them on both sides."""
    values = values[~np.isnan(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    pad = 0.1 * (high - low) or 1.0
    bins = int(np.clip(2 * len(values) ** (1 / 3), 10, 40))
    return np.linspace(low - pad, high + pad, bins + 1)


def _density(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of the values in each bin, by its width; values outside count in the whole."""
    values = values[~np.isnan(values)]
    counts = np.histogram(values, edges)[0]
    return np.asarray(counts / (max(len(values), 1) * np.diff(edges)))
