"""How sure the model is of the component of each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from vigmm.plot.style import INK, PALETTE, panels, tidy
from vigmm.posterior import Posterior
from vigmm.subject import posterior_of, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["responsibilities"]

_ROWS = 2_000
_COMPONENTS = 40


def responsibilities(source: Any, rows: Any = None, *, ax: Axes | None = None) -> Axes:
    """The probability of every component for every row: a picture with a line for each component.

    Rows are in the order of their components, the largest first, and within one from the surest to the least
    sure. A sharp staircase is a clear partition; a smear says which components compete for which rows. At
    most the 40 largest components are shown.

    Args:
        source: a fit or a posterior.
        rows: N rows; by default those that were fitted. At most 2,000 of them are shown, evenly spaced.
        ax: axes to draw on; a new figure by default.
    """
    posterior = posterior_of(source)
    x, total = rows_of(source, rows, _ROWS)
    shares = posterior.responsibilities(x)
    component, order = _order(posterior, shares)
    if ax is None:
        ax = panels(width=8.0, height=float(np.clip(1.6 + 0.28 * len(component), 2.8, 9.0)))[0]
    from matplotlib.colors import LinearSegmentedColormap

    shown = shares[order][:, component].T
    tint = LinearSegmentedColormap.from_list("shares", ["#FFFFFF", PALETTE[5], PALETTE[0], "#00263D"])
    picture = ax.imshow(
        shown, cmap=tint, vmin=0, vmax=1, aspect="auto", interpolation="nearest", rasterized=True
    )
    names = ["noise" if k == posterior.num_components else str(k) for k in component.tolist()]
    ax.set_yticks(range(len(names)), names)
    doubtful = float(np.mean(shares.max(axis=1) < 0.8))
    note = f"{len(x):,} of {total:,} rows" if len(x) < total else f"{total:,} rows"
    note += f", {doubtful:.1%} of them doubtful (no component has 80%)"
    tidy(ax, title="Responsibilities", y="component", x="rows, by their component", note=note)
    ax.grid(visible=False)
    bar = ax.figure.colorbar(picture, ax=ax, pad=0.01, ticks=[0, 0.5, 1])
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, labelcolor=INK)
    bar.set_label("probability", size=9)
    return ax


def _order(
    posterior: Posterior, shares: Float[np.ndarray, "N K"]
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " N"]]:
    """Components by weight, the noise last, and the rows sorted by them."""
    by_size = np.argsort(-posterior.weights, kind="stable")
    every = np.concatenate([by_size, np.arange(posterior.num_components, shares.shape[1])])
    rank = np.argsort(every)
    best = shares.argmax(axis=1)
    order = np.lexsort((-shares.max(axis=1), rank[best]))
    return every[:_COMPONENTS], order
