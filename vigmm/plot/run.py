"""Pictures of the run and of the weights it found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from vigmm.plot.style import INK, PALETTE, colours, panels, tidy
from vigmm.posterior import Posterior, Summary
from vigmm.subject import posterior_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vigmm.fitted import Fit

__all__ = ["trace", "weights"]


_LEAST = 0.02
"""Nats per row that the height of a trace stands for at least."""


def trace(
    source: Fit | Mapping[str, np.ndarray],
    *,
    steps_per_pass: float | None = None,
    axes: list[Axes] | None = None,
) -> list[Axes]:
    """The ELBO per row and, where rows were held out, their mean log predictive density.

    Args:
        source: a fit, or its metrics: ``step`` and ``elbo_per_row`` for every step; ``chunk_step`` and
            ``holdout`` for every check.
        steps_per_pass: turns steps into passes over the data; by default what the fit did, of metrics 1.
        axes: one or two axes to draw on; a new figure by default.
    """
    metrics = source if isinstance(source, Mapping) else source.metrics
    if steps_per_pass is None:
        steps_per_pass = 1.0 if isinstance(source, Mapping) else _steps_per_pass(source.manifest)
    held = np.asarray(metrics.get("holdout", ()), np.float64)
    count = 2 if np.isfinite(held).any() else 1
    if axes is None:
        axes = panels(rows=count, width=7.5, height=2.9 * count + 0.3, share_x=True)
    passes = (np.asarray(metrics["step"], np.float64) + 1) / steps_per_pass
    _elbo(axes[0], passes, np.asarray(metrics["elbo_per_row"], np.float64), round(steps_per_pass))
    if count == 2 and len(axes) > 1:
        _held_out(axes[1], np.asarray(metrics["chunk_step"], np.float64) / steps_per_pass, held)
    axes[-1].set_xlabel("passes over the data")
    return axes


def _steps_per_pass(manifest: Mapping[str, Any]) -> int:
    rows: int = manifest["data"].get("train_rows", manifest["data"]["rows"])
    batch: int = manifest["train"]["batch_size"]
    return max(1, math.ceil(rows / batch))


def _elbo(ax: Axes, passes: Float[np.ndarray, " T"], elbo: Float[np.ndarray, " T"], window: int) -> None:
    window = min(window, len(elbo) // 4)
    if window > 1:
        ax.plot(passes, elbo, color=PALETTE[5], lw=0.6, alpha=0.6, label="each step")
        smooth = np.convolve(elbo, np.full(window, 1 / window), mode="valid")
        ax.plot(passes[window - 1 :], smooth, color=PALETTE[0], lw=1.8, label=f"mean of {window} steps")
        ax.legend(loc="lower right", frameon=False, fontsize=9)
    else:
        ax.plot(passes, elbo, color=PALETTE[0], lw=1.5, marker="o" if len(elbo) < 30 else None, ms=3)
    _focus(ax, elbo)
    tidy(ax, title="Evidence lower bound", y="nats per row")


def _held_out(ax: Axes, passes: Float[np.ndarray, " C"], density: Float[np.ndarray, " C"]) -> None:
    ax.plot(passes, density, color=PALETTE[1], lw=1.8, marker="o" if len(passes) < 60 else None, ms=3)
    last = density[np.isfinite(density)][-1:]
    at_the_end = f", {last[0]:.4f} at the end".replace("-", "−") if last.size else ""
    _focus(ax, density)
    tidy(ax, title=f"Log predictive density of held-out rows{at_the_end}", y="nats per row")


def _focus(ax: Axes, values: Float[np.ndarray, " T"]) -> None:
    """Limit the y axis to where the run spent its time: the first steps would flatten the rest.

    A hundredth of a nat fills at least half of the height, so that rounding does not look like a journey.
    """
    finite = values[np.isfinite(values)]
    ax.ticklabel_format(axis="y", useOffset=False)
    if finite.size < 2:
        return
    low, high = np.percentile(finite[finite.size // 20 :], [1, 100])
    lack = max(_LEAST - (high - low), 0.0) / 2
    low, high = low - lack, high + lack
    pad = 0.08 * (high - low)
    ax.set_ylim(low - 2 * pad, high + pad)


def weights(source: Fit | Posterior | Summary, *, level: float = 0.9, ax: Axes | None = None) -> Axes:
    """Bars of the mixture weights, largest first, each with its credible interval.

    Args:
        source: a fit, a posterior, or its summary.
        level: probability of an interval; a summary has its own.
        ax: axes to draw on; a new figure by default.
    """
    summary = source if isinstance(source, Summary) else posterior_of(source).summary(level=level)
    component, level = summary.component, summary.level
    mean, lower, upper = summary.weight.mean, summary.weight.low, summary.weight.high
    order = np.argsort(-mean, kind="stable")
    count = len(order)
    if ax is None:
        ax = panels(width=min(13.0, max(6.0, 1.8 + 0.28 * count)), height=3.8)[0]
    at, height = np.arange(count), 100 * mean[order]
    reach = 100 * np.maximum([mean - lower, upper - mean], 0)[:, order]
    ax.bar(at, height, color=np.asarray(colours(mean))[order], width=0.8)
    ax.errorbar(at, height, yerr=reach, fmt="none", ecolor=INK, elinewidth=1, capsize=2 if count <= 40 else 0)
    every = max(1, math.ceil(count / 40))
    ax.set_xticks(at[::every], [str(int(c)) for c in component[order][::every]])
    ax.set_xlim(-0.7, count - 0.3)
    ax.set_ylim(0, None)
    title = f"Weights of the {count} components" if count > 1 else "Weight of the component"
    tidy(ax, title=title, y="share of the rows, %", x="component")
    ax.grid(visible=False, axis="x")
    needed = min(int(np.searchsorted(np.cumsum(height), 99.0)) + 1, count)
    note = f"{needed} of {count} hold 99%\nlines: {level:.0%} credible intervals"
    ax.text(0.99, 0.97, note, transform=ax.transAxes, ha="right", va="top", fontsize=9, color=INK)
    return ax
