"""One picture per case: how far a method's density is below the best, against warm seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["draw"]

# Differences below this are noise, and a logarithmic axis has no zero.
_FLOOR = 1e-3
_OURS = ("#08306b", "#2171b5", "#6baed6", "#9ecae1")
_PEERS = ("#d1495b", "#edae49", "#8f5d2b", "#6a994e", "#7b2d8b", "#e07a5f", "#606c38", "#3d3d3d")
# One less than there are colours, so that no two methods look the same.
_MARKERS = "os^Dv<>"


def draw(result: Mapping[str, Any], folder: Path) -> Path | None:
    """Write ``CASE.svg``; None without matplotlib, or where nothing can be drawn.

    Fields that would differ from run to run (date, random identifiers) are fixed, so that the picture changes
    only with its figures.
    """
    lines = _lines(result["summary"])
    if not lines:
        return None
    try:
        import matplotlib
    except ImportError:
        return None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with matplotlib.rc_context({"svg.hashsalt": "vigmm", "font.size": 9}):
        figure, axes = plt.subplots(figsize=(7.2, 4.2), layout="constrained")
        seen = {True: 0, False: 0}
        for name, points in lines.items():
            seconds, gaps = zip(*points, strict=True)
            ours = name.startswith("vigmm")
            colours, place = _OURS if ours else _PEERS, seen[ours]
            seen[ours] += 1
            axes.plot(
                seconds,
                [max(gap, _FLOOR) for gap in gaps],
                color=colours[place % len(colours)],
                linestyle="-" if ours else "--",
                linewidth=2.0 if ours else 1.2,
                marker=_MARKERS[place % len(_MARKERS)],
                markersize=4 if ours else 3,
                label=name,
            )
        axes.set_xscale("log")
        axes.set_yscale("log")
        for limit in (0.05, 0.01):
            axes.axhline(limit, color="0.8", linewidth=0.8, zorder=0)
        axes.set_xlabel("seconds, without compilation")
        axes.set_ylabel(f"held-out nats below the best (at least {_FLOOR:g})")
        axes.set_title(result["case"])
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        path = folder / f"{result['case']}.svg"
        # Without a block of metadata, which names hosts and the day.
        figure.savefig(path, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        plt.close(figure)
    return path


def _lines(summary: Mapping[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """(seconds, gap) of each method, by time."""
    done = {name: row["budgets"] for name, row in summary.items() if row["repeats"]}
    every = [
        at["heldout"]["median"]
        for rows in done.values()
        for at in rows
        if at["heldout"]["median"] is not None
    ]
    if not every:
        return {}
    top = max(every)
    return {
        name: sorted((at["seconds"]["median"], top - at["heldout"]["median"]) for at in rows)
        for name, rows in done.items()
    }
