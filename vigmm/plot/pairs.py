"""Components and rows, in two columns or in all pairs of some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from vigmm.core.errors import SpecError
from vigmm.data.files import resolve_columns
from vigmm.plot.rows import COVER, MAX_POINTS, clusters, densities, ellipse, label, outlined, scatter
from vigmm.plot.style import FAINT, INK, colours, panels, tidy
from vigmm.posterior import Posterior
from vigmm.subject import posterior_of, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MAX_PAIRED", "chosen_columns", "ellipses", "pairs"]

MAX_PAIRED = 6
"""Columns in a pair plot, unless they are named."""

_POINTS = 5_000
_LABELS = 12


def ellipses(
    source: Any, rows: Any = None, *, columns: tuple[str, str] | None = None, ax: Axes | None = None
) -> Axes:
    """Rows coloured by component, each component outlined; see `clusters`, which takes arrays.

    Args:
        source: a fit or a posterior.
        rows: N rows; by default those that were fitted. At most `MAX_POINTS` of them are shown.
        columns: two columns to draw; by default, of more than two, the two leading principal axes.
        ax: axes to draw on; a new figure by default.
    """
    posterior = posterior_of(source)
    if columns is not None and len(columns) != 2:
        raise SpecError("columns", "two names", columns)
    at = list(range(posterior.dim)) if columns is None else chosen_columns(posterior, columns)
    x, total = rows_of(source, rows, MAX_POINTS)
    return clusters(
        x[:, at],
        posterior.predict(x),
        means=posterior.means[:, at],
        covariances=posterior.covariances[:, at][:, :, at],
        weights=posterior.weights,
        columns=[posterior.columns[i] for i in at],
        total=total,
        ax=ax,
    )


def pairs(
    source: Any,
    rows: Any = None,
    *,
    columns: Sequence[str] | None = None,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """Every pair of columns, and on the diagonal each column alone with the components' densities.

    Args:
        source: a fit or a posterior.
        rows: N rows; by default those that were fitted. At most 5,000 of them are shown, evenly spaced.
        columns: which columns; by default the first `MAX_PAIRED`.
        axes: one axes for every pair, row by row: as many as columns squared; a new figure by default.

    Returns:
        All axes, row by row; those above the diagonal are empty.
    """
    posterior = posterior_of(source)
    at = chosen_columns(posterior, columns, MAX_PAIRED)
    count = len(at)
    if axes is None:
        side = max(2.1 * count, 4.2)
        axes = panels(rows=count, columns=count, width=side, height=side + 0.3)
    elif len(axes) != count**2:
        raise SpecError("axes", f"{count**2} axes, for {count} columns", len(axes))
    x, total = rows_of(source, rows, _POINTS)
    drawing = _Drawing(posterior, x, posterior.predict(x))
    for place, ax in enumerate(axes):
        up, along = divmod(place, count)
        if up < along:
            ax.set_axis_off()
        else:
            drawing.draw(ax, at[along], at[up])
            _edges(ax, posterior, at[along], at[up], first=along == 0, last=up == count - 1)
    note = f"{len(x):,} of {total:,} rows" if len(x) < total else f"{total:,} rows"
    axes[0].set_title(
        f"{note}; an ellipse holds {COVER:.0%} of its component", loc="left", fontsize=9, color=INK
    )
    return list(axes)


def chosen_columns(posterior: Posterior, columns: Sequence[str] | None, most: int | None = None) -> list[int]:
    """Positions of columns by their names; by default of the first `most`.

    Raises:
        DataError: for a name that there is not, with the nearest one.
    """
    if columns is None:
        return list(range(posterior.dim))[:most]
    return list(resolve_columns(tuple(columns), posterior.columns, "the model"))


class _Drawing:
    """What all panels have in common."""

    def __init__(
        self, posterior: Posterior, x: Float[np.ndarray, "N D"], labels: Int[np.ndarray, " N"]
    ) -> None:
        self.means, self.covariances, self.weights = posterior.means, posterior.covariances, posterior.weights
        self.tints, self.drawn = np.asarray(colours(self.weights)), outlined(self.weights)
        self.labels = labels
        self.x = np.where(np.isnan(x), self.means[labels], x)
        self.size = float(np.clip(6_000 / max(len(x), 1), 1.5, 12.0))
        low, high = np.percentile(self.x, [0.1, 99.9], axis=0)
        pad = 0.08 * np.where(high > low, high - low, 1.0)
        self.low, self.high = low - pad, high + pad

    def draw(self, ax: Axes, along: int, up: int) -> None:
        if along == up:
            variances = self.covariances[:, up, up]
            means = self.means[:, up]
            densities(ax, self.x[:, up], means, variances, self.weights, self.tints, self.drawn, legend=False)
            ax.set_ylim(0, 1.15 * ax.get_ylim()[1])
            ax.set_xlim(self.low[along], self.high[along])
            return
        both = [along, up]
        scatter(ax, self.x[:, both], self.labels, self.tints, self.size)
        ax.set_xlim(self.low[along], self.high[along])
        ax.set_ylim(self.low[up], self.high[up])
        for k in reversed(self.drawn):
            ellipse(ax, self.means[k, both], self.covariances[k][np.ix_(both, both)], self.tints[k])
        named = self.drawn[:_LABELS]
        texts, tints = [str(k) for k in named], [str(tint) for tint in self.tints[named]]
        label(ax, self.means[named][:, both], texts, tints, size=6, gap=(0.12, 0.12))


def _edges(ax: Axes, posterior: Posterior, along: int, up: int, *, first: bool, last: bool) -> None:
    """Names and numbers at the rim of the grid only."""
    names = posterior.columns
    tidy(
        ax,
        title="",
        y=("density" if along == up else names[up]) if first else "",
        x=names[along] if last else "",
    )
    ax.tick_params(labelsize=7, labelbottom=last, labelleft=first and along != up)
    if along == up:
        ax.set_yticks([])
        ax.text(0.04, 0.96, names[up], transform=ax.transAxes, va="top", fontsize=9, color=INK)
    ax.xaxis.label.set_fontsize(9)
    ax.yaxis.label.set_fontsize(9)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.locator_params(axis="x", nbins=4)
    if along != up:
        ax.locator_params(axis="y", nbins=4)
