"""Pictures of a fit, by matplotlib if it is installed. No window, no global state: figures are plain objects.

Colours are given to components in order of size. They are those of Okabe and Ito (2008), extended to twenty so that
each stays apart from the others under normal and the three kinds of colour-deficient vision; components are also
numbered in the pictures, because no twenty colours can be told apart with certainty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, Num

from vigmm.core.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PALETTE", "available", "clusters", "colours", "segmentation", "trace", "weights"]

PALETTE = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#991F1F", "#B8D685", "#703D5C", "#FFB8C2"),
    *("#1F47B8", "#7A85FF", "#859952", "#990085", "#1F703D", "#E0AD52", "#ADCCEB", "#FF7A8F", "#B83D14", "#7AA3FF"),
)
INK, FAINT, SMALL = "#333333", "#9AA0A6", "#BDC1C6"

MAX_POINTS = 20_000
MAX_LABELS = 20
COVER = 0.9
"""Share of a component that its ellipse holds."""


def available() -> bool:
    """Whether matplotlib is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def colours(weights: Float[np.ndarray, " K"]) -> list[str]:
    """A colour for each component, by rank of its weight; the palette repeats after its end."""
    rank = np.argsort(np.argsort(-weights, kind="stable"), kind="stable")
    return [PALETTE[int(r) % len(PALETTE)] for r in rank]


def trace(metrics: Mapping[str, np.ndarray], *, steps_per_pass: float = 1.0, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """The ELBO per row and, where rows were held out, their mean log predictive density.

    Args:
        metrics: ``step`` and ``elbo_per_row`` for every step; ``chunk_step`` and ``holdout`` for every check.
        steps_per_pass: turns steps into passes over the data.
        axes: two axes to draw on; a new figure by default.
    """
    held = np.asarray(metrics.get("holdout", ()), np.float64)
    with_holdout = bool(np.isfinite(held).any())
    panels = list(axes) if axes is not None else _panels(2 if with_holdout else 1)
    passes = (np.asarray(metrics["step"], np.float64) + 1) / steps_per_pass
    elbo = np.asarray(metrics["elbo_per_row"], np.float64)
    top = panels[0]
    window = max(1, min(round(steps_per_pass), len(elbo) // 4))
    if window > 1:
        top.plot(passes, elbo, color=PALETTE[5], lw=0.6, alpha=0.6, label="each step")
        smooth = np.convolve(elbo, np.full(window, 1 / window), mode="valid")
        top.plot(passes[window - 1 :], smooth, color=PALETTE[0], lw=1.8, label=f"mean of {window} steps")
        top.legend(loc="lower right", frameon=False, fontsize=9)
    else:
        top.plot(passes, elbo, color=PALETTE[0], lw=1.5, marker="o" if len(elbo) < 30 else None, ms=3)
    _focus(top, elbo)
    _tidy(top, title="Evidence lower bound", y="nats per row")
    if with_holdout and len(panels) > 1:
        at = np.asarray(metrics["chunk_step"], np.float64) / steps_per_pass
        bottom = panels[1]
        bottom.plot(at, held, color=PALETTE[1], lw=1.8, marker="o" if len(at) < 60 else None, ms=3)
        last = held[np.isfinite(held)][-1]
        bottom.annotate(
            f"{last:.4f}", (at[-1], last), xytext=(0, -12), textcoords="offset points", ha="right", va="top", color=INK
        )
        _focus(bottom, held)
        _tidy(bottom, title="Log predictive density of held-out rows", y="nats per row")
    panels[-1].set_xlabel("passes over the data")
    return panels


def weights(
    component: Int[np.ndarray, " K"],
    mean: Float[np.ndarray, " K"],
    lower: Float[np.ndarray, " K"],
    upper: Float[np.ndarray, " K"],
    *,
    level: float = 0.9,
    ax: Axes | None = None,
) -> Axes:
    """Bars of the mixture weights, largest first, each with its credible interval.

    Args:
        component: numbers of the components.
        mean: posterior mean weights.
        lower: lower ends of the intervals.
        upper: upper ends of the intervals.
        level: probability in an interval.
        ax: axes to draw on; a new figure by default.
    """
    order = np.argsort(-mean, kind="stable")
    count = len(order)
    ax = _panels(1, width=min(13.0, max(6.0, 1.8 + 0.28 * count)), height=3.8)[0] if ax is None else ax
    at, high = np.arange(count), 100 * mean[order]
    reach = 100 * np.abs(np.stack([mean - lower, upper - mean])[:, order])
    tints = np.asarray(colours(mean))[order]
    ax.bar(at, high, color=tints, width=0.8)
    ax.errorbar(at, high, yerr=reach, fmt="none", ecolor=INK, elinewidth=1, capsize=2 if count <= 40 else 0)
    every = max(1, math.ceil(count / 40))
    ax.set_xticks(at[::every], [str(int(c)) for c in component[order][::every]], fontsize=9)
    ax.set_xlim(-0.7, count - 0.3)
    ax.set_ylim(0, None)
    needed = int(np.searchsorted(np.cumsum(high), 99.0) + 1)
    title = f"Weights of the {count} components" if count > 1 else "Weight of the component"
    _tidy(ax, title=title, y="share of the rows, %")
    ax.text(
        0.99, 0.97, f"{min(needed, count)} of {count} hold 99 %\nlines: {level:.0%} credible intervals",
        transform=ax.transAxes, ha="right", va="top", fontsize=9, color=INK,
    )  # fmt: skip
    ax.set_xlabel("component")
    ax.grid(visible=False, axis="x")
    return ax


def clusters(
    x: Num[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    *,
    means: Float[np.ndarray, "K D"],
    covariances: Float[np.ndarray, "K D D"],
    weights: Float[np.ndarray, " K"],
    columns: Sequence[str],
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Rows coloured by component, with each component's shape.

    One column: a histogram and the components' densities. Two: the columns themselves. More: the two leading
    principal axes of the standardised rows. At most 20,000 rows, drawn at random, are shown.

    Args:
        x: rows, in the units of the data.
        labels: component of each row.
        means: component means.
        covariances: component covariances.
        weights: mixture weights.
        columns: names of the columns.
        seed: chooses the rows that are shown.
        ax: axes to draw on; a new figure by default.
    """
    rng = np.random.default_rng(seed)
    shown = rng.permutation(len(x))[:MAX_POINTS]
    rows, labels = np.asarray(x[shown], np.float64), np.asarray(labels)[shown]
    tints = np.asarray(colours(weights))
    drawn = [int(k) for k in np.argsort(-weights, kind="stable") if weights[k] > 0.5 / max(len(x), 1)]
    if rows.shape[1] == 1:
        ax = _panels(1, width=7.5, height=4.2)[0] if ax is None else ax
        _densities(ax, rows[:, 0], means[:, 0], covariances[:, 0, 0], weights, tints, drawn)
        _tidy(ax, title="Rows and components", y="density")
        ax.set_xlabel(columns[0])
        return ax
    ax = _panels(1, width=7.5, height=6.4)[0] if ax is None else ax
    plane = _Plane(rows, columns)
    points = plane.project(rows)
    ax.scatter(
        points[:, 0], points[:, 1], c=tints[labels], s=_dot_size(len(points)), alpha=0.55, lw=0, rasterized=True
    )
    for rank, k in enumerate(drawn):
        centre, shape = plane.project(means[k][None])[0], plane.directions.T @ covariances[k] @ plane.directions
        _ellipse(ax, centre, shape, tints[k], label=str(k) if rank < MAX_LABELS else None)
    low, high = np.percentile(points, [0.1, 99.9], axis=0)
    pad = 0.08 * np.where(high > low, high - low, 1.0)
    ax.set_xlim(low[0] - pad[0], high[0] + pad[0])
    ax.set_ylim(low[1] - pad[1], high[1] + pad[1])
    note = f"ellipses hold {COVER:.0%} of a component" + (f"; {len(rows):,} rows shown" if len(rows) < len(x) else "")
    _tidy(ax, title=plane.title, y=plane.labels[1], note=note)
    ax.set_xlabel(plane.labels[0])
    return ax


def segmentation(
    image: Num[np.ndarray, "H W *C"],
    labels: Int[np.ndarray, "H W"],
    component_colours: Num[np.ndarray, "K *C"],
    *,
    axes: Sequence[Axes] | None = None,
) -> list[Axes]:
    """The picture and, beside it, every pixel in the mean colour of its component.

    Args:
        image: pixel values, grey or red, green and blue.
        labels: component of each pixel.
        component_colours: mean colour of each component, in the values of the image.
        axes: two axes to draw on; a new figure by default.
    """
    height, width = labels.shape
    if axes is None:
        wide = width >= 1.25 * height
        across = 9.0 if wide else 5.0
        tall = across * height / width
        size = (across, 2 * tall + 0.9) if wide else (2 * across + 0.3, tall + 0.5)
        axes = _figure(*size).subplots(*((2, 1) if wide else (1, 2)))
    top = 255.0 if image.dtype == np.uint8 else max(float(np.max(image)), 1e-12)
    painted = np.asarray(component_colours, np.float64)[labels]
    used = len(np.unique(labels))
    for ax, picture, title in zip(axes, (image, painted), ("Original", f"In the mean colours of {used} components"), strict=True):
        shown = np.clip(np.asarray(picture, np.float64) / top, 0, 1)
        ax.imshow(shown, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(title, loc="left", fontsize=11, color=INK)
        ax.set_axis_off()
    return list(axes)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise OutputError("drawing needs matplotlib; pip install 'vigmm[plot]'") from error
    return Figure(figsize=(width, height), layout="constrained", dpi=150)


def _panels(count: int, *, width: float = 7.5, height: float | None = None) -> list[Axes]:
    """Axes of a new figure, one above the other."""
    figure = _figure(width, 2.9 * count + 0.3 if height is None else height)
    return list(np.atleast_1d(figure.subplots(count, 1, sharex=True)))


def _tidy(ax: Axes, *, title: str, y: str, note: str = "") -> None:
    ax.set_title(title, loc="left", fontsize=12, color=INK, pad=20 if note else 8)
    if note:
        ax.text(0, 1.02, note, transform=ax.transAxes, fontsize=9, color="#5F6368", va="bottom")
    ax.set_ylabel(y)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.tick_params(color=FAINT, labelcolor=INK, labelsize=9)
    ax.grid(visible=True, color=SMALL, lw=0.5, alpha=0.5)
    ax.set_axisbelow(True)


def _focus(ax: Axes, values: Float[np.ndarray, " T"]) -> None:
    """Limit the y axis to where the run spent its time; the plunge of the first steps would flatten the rest."""
    finite = values[np.isfinite(values)]
    if finite.size < 2:
        return
    low, high = np.percentile(finite[finite.size // 20 :], [1, 100])
    pad = 0.08 * (high - low) or 1.0
    ax.set_ylim(low - 2 * pad, high + pad)


def _dot_size(count: int) -> float:
    return float(np.clip(60_000 / max(count, 1), 2.0, 24.0))


class _Plane:
    """The plane on which rows are drawn: two columns, or the leading principal axes."""

    def __init__(self, rows: Float[np.ndarray, "N D"], columns: Sequence[str]) -> None:
        dim = rows.shape[1]
        self.centre = rows.mean(axis=0) if dim > 2 else np.zeros(dim)
        if dim == 2:
            self.directions = np.eye(2)
            self.labels, self.title = tuple(columns), "Rows and components"
            return
        sd = rows.std(axis=0)
        scale = np.where(sd > 0, sd, 1.0)
        z = (rows - self.centre) / scale
        variance, axes = np.linalg.eigh(z.T @ z / len(z))
        variance, axes = variance[::-1], axes[:, ::-1]
        axes = axes * np.sign(axes[np.argmax(np.abs(axes), axis=0), np.arange(dim)])
        self.directions = axes[:, :2] / scale[:, None]
        share = variance / max(float(variance.sum()), 1e-300)
        self.labels = tuple(
            f"principal axis {i + 1}: {share[i]:.0%} of the variance, {_loadings(axes[:, i], columns)}" for i in (0, 1)
        )
        self.title = "Rows and components on the two leading principal axes"

    def project(self, rows: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N 2"]:
        return np.asarray((rows - self.centre) @ self.directions)


def _loadings(axis: Float[np.ndarray, " D"], columns: Sequence[str]) -> str:
    """The columns that an axis mostly consists of."""
    largest = np.argsort(-np.abs(axis))[:3]
    return " ".join(f"{'+' if axis[i] > 0 else '−'}{columns[i][:18]}" for i in largest)


def _ellipse(
    ax: Axes, centre: Float[np.ndarray, " 2"], cov: Float[np.ndarray, "2 2"], colour: str, *, label: str | None
) -> None:
    from matplotlib.patches import Ellipse
    from matplotlib.patheffects import withStroke

    variance, axes = np.linalg.eigh(cov)
    radius = math.sqrt(-2 * math.log1p(-COVER))  # of a two-dimensional Gaussian
    width, height = 2 * radius * np.sqrt(np.maximum(variance[::-1], 0))
    angle = math.degrees(math.atan2(axes[1, 1], axes[0, 1]))
    for lw, edge in ((2.6, "white"), (1.4, colour)):
        ax.add_patch(Ellipse((centre[0], centre[1]), width, height, angle=angle, fill=False, lw=lw, ec=edge))
    if label is not None:
        ax.text(
            centre[0], centre[1], label, ha="center", va="center", fontsize=9, weight="bold", color=colour,
            path_effects=[withStroke(linewidth=2.5, foreground="white")], clip_on=True,
        )  # fmt: skip


def _densities(
    ax: Axes,
    x: Float[np.ndarray, " N"],
    mean: Float[np.ndarray, " K"],
    variance: Float[np.ndarray, " K"],
    weight: Float[np.ndarray, " K"],
    tints: np.ndarray,
    drawn: Sequence[int],
) -> None:
    low, high = np.percentile(x, [0.1, 99.9])
    pad = 0.05 * (high - low) or 1.0
    grid = np.linspace(low - pad, high + pad, 800)
    bins = int(np.clip(2 * len(x) ** (1 / 3), 10, 120))
    ax.hist(x, bins=bins, range=(low - pad, high + pad), density=True, color=SMALL, alpha=0.6, label="rows")
    total = np.zeros_like(grid)
    for rank, k in enumerate(drawn):
        density = weight[k] * np.exp(-0.5 * (grid - mean[k]) ** 2 / variance[k]) / math.sqrt(2 * math.pi * variance[k])
        total += density
        if weight[k] >= 1e-3:
            ax.plot(grid, density, color=tints[k], lw=1.5, label=f"component {k}" if rank < 10 else None)
    ax.plot(grid, total, color=INK, lw=1.2, ls=(0, (4, 2)), label="mixture")
    ax.set_xlim(grid[0], grid[-1])
    ax.legend(frameon=False, fontsize=9)
