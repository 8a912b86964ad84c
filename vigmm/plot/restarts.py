"""Whether several fits of the same data found the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from vigmm.core.errors import SpecError
from vigmm.fitted import Fit
from vigmm.math.partitions import adjusted_rand
from vigmm.plot.style import FAINT, INK, PALETTE, panels, tidy
from vigmm.subject import rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["restarts"]

_ROWS = 2_000


def restarts(fits: Sequence[Fit], rows: Any = None, *, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """The bounds of several fits, and how far their partitions of the rows agree.

    On the left the ELBO per row of each fit, with five standard errors; on the right the adjusted Rand index
    of every two of them, 1 for the same partition and about 0 for unrelated ones. It does not depend on how
    components are numbered.

    Args:
        fits: at least two fits of the same data, say from several seeds.
        rows: N rows to compare the partitions on; by default those of the first fit, at most 2,000.
        axes: two axes to draw on; a new figure by default.
    """
    if len(fits) < 2 or not all(isinstance(fit, Fit) for fit in fits):
        raise SpecError("fits", "at least two vigmm.Fit", [type(fit).__name__ for fit in fits])
    if axes is None:
        axes = panels(columns=2, width=9.5, height=float(np.clip(1.8 + 0.35 * len(fits), 3.4, 9.0)))
    elif len(axes) != 2:
        raise SpecError("axes", "two axes", len(axes))
    _bounds(axes[0], fits)
    _partitions(axes[1], _agreement(fits, rows))
    return list(axes)


def _bounds(ax: Axes, fits: Sequence[Fit]) -> None:
    values = np.array([fit.elbo.per_row for fit in fits])
    # The standard error is that of the total; so is the number of rows that its ratio to the mean gives.
    errors = np.array([5 * fit.elbo.se * abs(fit.elbo.per_row / fit.elbo.elbo) for fit in fits])
    at, best = np.arange(len(fits)), int(np.argmax(np.nan_to_num(values, nan=-np.inf)))
    ax.errorbar(values, at, xerr=errors, fmt="none", ecolor=FAINT, elinewidth=1.5)
    ax.scatter(values, at, c=[PALETTE[1] if i == best else PALETTE[0] for i in at], s=36, zorder=3)
    ax.set_yticks(at, [str(i) for i in at])
    ax.invert_yaxis()
    tidy(ax, title="ELBO", y="fit", x="nats per row", note=f"fit {best} is best; lines: 5 standard errors")
    ax.ticklabel_format(axis="x", useOffset=False)
    ax.locator_params(axis="x", nbins=5)


def _agreement(fits: Sequence[Fit], rows: Any) -> Float[np.ndarray, "R R"]:
    x, _ = rows_of(fits[0], rows, _ROWS)
    labels = [fit.posterior.predict(x) for fit in fits]
    return np.array([[adjusted_rand(one, two) for two in labels] for one in labels])


def _partitions(ax: Axes, index: Float[np.ndarray, "R R"]) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    tint = LinearSegmentedColormap.from_list("agreement", ["#FFFFFF", PALETTE[5], PALETTE[0], "#00263D"])
    ax.imshow(index, cmap=tint, vmin=0, vmax=1, interpolation="nearest")
    count = len(index)
    if count <= 12:
        for (up, along), value in np.ndenumerate(index):
            ax.text(
                along, up, f"{value:.2f}", ha="center", va="center", fontsize=8,
                color="white" if value > 0.45 else INK,
            )  # fmt: skip
    ax.set_xticks(range(count))
    ax.set_yticks(range(count))
    others = index[~np.eye(count, dtype=bool)]
    note = f"adjusted Rand index, {others.mean():.2f} on average, {others.min():.2f} at least"
    tidy(ax, title="Agreement of partitions", y="fit", x="fit", note=note)
    ax.grid(visible=False)
