"""Figures of a run in the units of the data: progress, metrics, held-out density and timings."""

from __future__ import annotations

import time

import numpy as np
from jaxtyping import Float

from vigmm.posterior import Posterior
from vigmm.train import Progress

__all__ = ["Clock", "InDataUnits", "holdout_density", "in_data_units"]


class Clock:
    """Wall seconds of each phase."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """The phase `name` ends here."""
        now = time.perf_counter()
        self.laps[name] = now - self._last
        self._last = now


def holdout_density(
    posterior: Posterior, raw: Float[np.ndarray, "n D"], weight: Float[np.ndarray, " n"] | None
) -> tuple[float, float] | None:
    """Weighted mean log predictive density of the held-out rows, and its standard error over rows.

    None where no row is held out, or none that has a weight.
    """
    heavy = np.ones(len(raw)) if weight is None else weight
    if not heavy.any():
        return None
    values = np.asarray(posterior.log_predictive(raw), np.float64)
    mean = float(np.average(values, weights=heavy))
    spread = float(np.average((values - mean) ** 2, weights=heavy))
    effective = float(heavy.sum() ** 2 / np.sum(heavy**2))
    return mean, float(np.sqrt(spread / max(effective - 1.0, 1.0)))


def in_data_units(
    metrics: dict[str, np.ndarray], total_weight: float, log_scale: float
) -> dict[str, np.ndarray]:
    """Undo the standardisation: log p(x) = log p(z) - sum(log scale)."""
    elbo = metrics["elbo"].astype(np.float64) - total_weight * log_scale
    return {
        **metrics,
        "elbo": elbo,
        "elbo_per_row": elbo / total_weight,
        "holdout": metrics["holdout"] - log_scale,
    }


class InDataUnits:
    """Passes progress on with its values in the units of the data."""

    def __init__(self, inner: Progress, total_weight: float, log_scale: float) -> None:
        self._inner, self._weight, self._log_scale = inner, total_weight, log_scale

    def start(self, total_steps: int, phase: str) -> None:
        """Passed on."""
        self._inner.start(total_steps, phase)

    def update(self, step: int, values: dict[str, float]) -> None:
        """Passed on in the units of the data."""
        elbo = values["elbo"] - self._weight * self._log_scale
        shown = {**values, "elbo": elbo, "elbo_per_row": elbo / self._weight}
        if "holdout" in values:
            shown["holdout"] = values["holdout"] - self._log_scale
        self._inner.update(step, shown)

    def finish(self) -> None:
        """Passed on."""
        self._inner.finish()
