"""What all pictures share: colours, plain figures and their looks.

Colours go to components in order of size. They are those of Okabe and Ito (2008), extended to twenty so that
each stays apart from the others under normal and the three kinds of colour-deficient vision. No twenty
colours can be told apart with certainty, so components are also numbered in the pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from vigmm.core.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FAINT", "INK", "PALE", "PALETTE", "available", "colours", "panels", "save", "tidy"]

PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"),
    *("#56B4E9", "#991F1F", "#B8D685", "#703D5C", "#FFB8C2"),
    *("#1F47B8", "#7A85FF", "#859952", "#990085", "#1F703D"),
    *("#E0AD52", "#ADCCEB", "#FF7A8F", "#B83D14", "#7AA3FF"),
)
INK, FAINT, PALE = "#333333", "#9AA0A6", "#BDC1C6"


def available() -> bool:
    """Whether matplotlib is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def colours(weights: Float[np.ndarray, " K"]) -> list[str]:
    """A colour for each component, by the rank of its weight; after its end the palette begins anew."""
    rank = np.argsort(np.argsort(-weights, kind="stable"), kind="stable")
    return [PALETTE[int(r) % len(PALETTE)] for r in rank]


def panels(
    *, rows: int = 1, columns: int = 1, width: float, height: float, share_x: bool = False
) -> list[Axes]:
    """The axes of a new figure of so many inches.

    Raises:
        OutputError: if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OutputError("drawing needs matplotlib; pip install 'vigmm[plot]'") from error
    figure = Figure(figsize=(width, height), layout="constrained", dpi=150)
    grid: np.ndarray = figure.subplots(rows, columns, sharex=share_x, squeeze=False)
    return list(grid.ravel())


def save(axes: Axes | list[Axes], path: Path) -> None:
    """Write the figure that the axes belong to, as PNG, under a name of any suffix."""
    figure: Any = (axes[0] if isinstance(axes, list) else axes).figure
    figure.savefig(path, format="png")


def tidy(ax: Axes, *, title: str, y: str, x: str = "", note: str = "") -> None:
    """Title on the left, a smaller note under it, light grid, no box."""
    ax.set_title(title, loc="left", fontsize=12, color=INK, pad=20 if note else 8)
    if note:
        ax.text(0, 1.02, note, transform=ax.transAxes, fontsize=9, color="#5F6368", va="bottom")
    ax.set_ylabel(y)
    if x:
        ax.set_xlabel(x)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(color=FAINT, labelcolor=INK, labelsize=9)
    # What all numbers of the axis have in common stands over them, and not over the note.
    ax.yaxis.get_offset_text().set(x=-0.01, ha="right", fontsize=8)
    ax.xaxis.get_offset_text().set(fontsize=8)
    ax.grid(visible=True, color=PALE, lw=0.5, alpha=0.5)
    ax.set_axisbelow(True)
