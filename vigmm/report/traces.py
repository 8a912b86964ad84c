"""The run's trace, thinned to what a screen can show: mean and range in some hundred intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from vigmm.report.run import FinishedRun

__all__ = ["curve", "traces"]

_MOST = 300
_LEAST = 1e-3


def traces(run: FinishedRun) -> list[dict[str, Any]]:
    """The bound of every step and the held-out density of every check, against passes over the data."""
    passes = (run.metrics["step"] + 1.0) / run.steps_per_pass
    found = []
    for name, title, unit in (
        ("elbo_per_row", "Evidence lower bound", "nats per row"),
        ("holdout", "Log density of held-out rows", "nats per row"),
    ):
        values = run.metrics[name]
        known = np.isfinite(values)
        if known.any():
            found.append({"title": title, "unit": unit, **curve(passes[known], values[known])})
    return found


def curve(x: Float[np.ndarray, " T"], y: Float[np.ndarray, " T"], *, most: int = _MOST) -> dict[str, Any]:
    """At most `most` points: the end of each interval, and the mean, smallest and largest value in it.

    `low` and `high` frame where the run spent its time: the first steps would flatten the rest. A frame is at
    least a thousandth of a nat high: what happens below is not worth anybody's attention.
    """
    edges = np.unique(np.linspace(0, len(y), min(len(y), most) + 1).astype(int))
    start, size = edges[:-1], np.diff(edges)
    settled = y[len(y) // 20 :]
    low, high = float(np.percentile(settled, 1)), float(settled.max())
    short = max(_LEAST - (high - low), 0.0) / 2
    low, high = low - short, high + short
    pad = 0.08 * (high - low)
    return {
        "steps": len(y),
        "x": x[edges[1:] - 1],
        "mean": np.add.reduceat(y, start) / size,
        "min": np.minimum.reduceat(y, start),
        "max": np.maximum.reduceat(y, start),
        "low": low - 2 * pad,
        "high": high + pad,
    }
