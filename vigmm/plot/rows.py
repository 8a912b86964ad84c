"""Pictures of the rows and of the components they belong to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, Num

from vigmm.plot.style import FAINT, INK, PALE, colours, panels, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MAX_POINTS", "clusters", "segmentation"]

MAX_POINTS = 20_000
"""Rows in a picture: more would only be ink on ink."""

MAX_LABELS = 40
COVER = 0.9
"""Share of a component that its ellipse holds."""

_CORNERS = 120

DRAWN = 0.999
"""Share of the rows whose components are outlined: what holds the last per mille would be noise."""


def clusters(
    x: Num[np.ndarray, "N D"],
    labels: Int[np.ndarray, " N"],
    *,
    means: Float[np.ndarray, "K D"],
    covariances: Float[np.ndarray, "K D D"],
    weights: Float[np.ndarray, " K"],
    columns: Sequence[str],
    total: int | None = None,
    seed: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Rows coloured by component, with each component's shape.

    One column: a histogram and the components' densities. Two: the columns themselves. More: the two leading
    principal axes of the standardised rows. At most `MAX_POINTS` rows, drawn at random, are shown.

    Args:
        x: rows, in the units of the data.
        labels: component of each row.
        means: component means.
        covariances: component covariances.
        weights: mixture weights.
        columns: names of the columns.
        total: number of rows that `x` is a sample of, if it is one.
        seed: chooses the rows that are shown.
        ax: axes to draw on; a new figure by default.
    """
    total = len(x) if total is None else total
    shown = np.random.default_rng(seed).permutation(len(x))[:MAX_POINTS]
    rows, labels = np.asarray(x[shown], np.float64), np.asarray(labels)[shown]
    tints, drawn = np.asarray(colours(weights)), outlined(weights)
    note = f"{len(rows):,} of {total:,} rows" if len(rows) < total else f"{total:,} rows"
    gaps = np.isnan(rows)
    if gaps.any():
        rows = np.where(gaps, means[labels], rows)
        note += ", missing values at the mean of their component"
    if rows.shape[1] == 1:
        ax = panels(width=7.5, height=4.2)[0] if ax is None else ax
        densities(ax, rows[:, 0], means[:, 0], covariances[:, 0, 0], weights, tints, drawn)
        tidy(ax, title="Rows and components", y="density", x=columns[0], note=note)
        return ax
    ax = panels(width=7.5, height=6.4)[0] if ax is None else ax
    plane = _Plane(rows, columns)
    points = plane.project(rows)
    size = float(np.clip(60_000 / max(len(points), 1), 2.0, 24.0))
    scatter(ax, points, labels, tints, size)
    low, high = np.percentile(points, [0.1, 99.9], axis=0)
    pad = 0.08 * np.where(high > low, high - low, 1.0)
    ax.set_xlim(low[0] - pad[0], high[0] + pad[0])
    ax.set_ylim(low[1] - pad[1], high[1] + pad[1])
    centres = plane.project(means)
    for k in reversed(drawn):  # the largest component ends on top
        ellipse(ax, centres[k], plane.directions.T @ covariances[k] @ plane.directions, tints[k])
    named = drawn[:MAX_LABELS]
    label(ax, centres[named], [str(k) for k in named], [str(tint) for tint in tints[named]])
    note = f"{note}; an ellipse holds {COVER:.0%} of its component"
    tidy(ax, title=plane.title, x=plane.labels[0], y=plane.labels[1], note=note)
    if len(columns) > 2:  # the names of three columns are long
        ax.xaxis.label.set_fontsize(8)
        ax.yaxis.label.set_fontsize(8)
    return ax


def outlined(weights: Float[np.ndarray, " K"]) -> list[int]:
    """The components that are worth an outline, largest first."""
    order = np.argsort(-weights, kind="stable")
    whole = max(float(weights.sum()), 1e-300)  # noise takes the rest
    found: list[int] = order[: int(np.searchsorted(np.cumsum(weights[order]) / whole, DRAWN)) + 1].tolist()
    return found


def segmentation(
    image: Num[np.ndarray, "H W *C"],
    labels: Int[np.ndarray, "H W"],
    component_colours: Num[np.ndarray, "K *C"],
    *,
    axes: list[Axes] | None = None,
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
        tall = min(across * height / width, 20.0)
        rows, columns = (2, 1) if wide else (1, 2)
        axes = panels(rows=rows, columns=columns, width=columns * across, height=rows * (tall + 0.4))
    top = 255.0 if image.dtype == np.uint8 else max(float(np.max(image)), 1e-12)
    painted = np.asarray(component_colours, np.float64)[labels]
    used = len(np.unique(labels))
    titles = ("Original", f"In the mean colours of {used} component{'s' if used > 1 else ''}")
    for ax, picture, title in zip(axes, (image, painted), titles, strict=True):
        scaled = np.clip(np.asarray(picture, np.float64) / top, 0, 1)
        ax.imshow(scaled, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(title, loc="left", fontsize=12, color=INK)
        ax.set_axis_off()
    return axes


class _Plane:
    """The plane on which rows are drawn: two columns, or the leading principal axes."""

    def __init__(self, rows: Float[np.ndarray, "N D"], columns: Sequence[str]) -> None:
        dim = rows.shape[1]
        self.title = "Rows and components"
        if dim == 2:
            self.centre, self.directions = np.zeros(2), np.eye(2)
            self.labels = tuple(columns)
            return
        self.title += " on the two leading principal axes"
        self.centre, sd = rows.mean(axis=0), rows.std(axis=0)
        scale = np.where(sd > 0, sd, 1.0)
        z = (rows - self.centre) / scale
        variance, axes = np.linalg.eigh(z.T @ z / max(len(z), 1))
        variance, axes = variance[::-1], axes[:, ::-1]
        axes = axes * np.sign(axes[np.argmax(np.abs(axes), axis=0), np.arange(dim)])
        self.directions = axes[:, :2] / scale[:, None]
        share = variance / max(float(variance.sum()), 1e-300)
        self.labels = tuple(
            f"axis {i + 1} ({share[i]:.0%} of the variance): {_loadings(axes[:, i], columns)}" for i in (0, 1)
        )

    def project(self, rows: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N 2"]:
        return np.asarray((rows - self.centre) @ self.directions)


def _loadings(axis: Float[np.ndarray, " D"], columns: Sequence[str]) -> str:
    """The columns that an axis mostly consists of, in standard deviations."""
    largest = np.argsort(-np.abs(axis))[:3]
    return " ".join(f"{'+' if axis[i] > 0 else '−'}{abs(axis[i]):.2f} {columns[i][:16]}" for i in largest)


def scatter(
    ax: Axes, points: Float[np.ndarray, "N 2"], labels: Int[np.ndarray, " N"], tints: np.ndarray, size: float
) -> None:
    """Points in the colours of their components; those of the noise, -1, are grey."""
    found = np.append(tints, FAINT)[labels]
    ax.scatter(points[:, 0], points[:, 1], c=found, s=size, alpha=0.55, lw=0, rasterized=True)


def ellipse(ax: Axes, centre: Float[np.ndarray, " 2"], cov: Float[np.ndarray, "2 2"], colour: str) -> None:
    """The outline of a component; see `COVER`."""
    from matplotlib.patches import Polygon

    # Points and no angle: where the columns have very different units, an angle has no digits for it.
    sd = np.sqrt(np.diag(cov))
    correlation = float(np.clip(cov[0, 1] / max(sd[0] * sd[1], 1e-300), -1, 1))
    turn = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    across = np.cos(turn)
    up = correlation * across + math.sqrt(1 - correlation**2) * np.sin(turn)
    radius = math.sqrt(-2 * math.log1p(-COVER))  # of a two-dimensional Gaussian
    corners = centre + radius * sd * np.stack([across, up], axis=1)
    for lw, edge in ((2.4, "white"), (1.3, colour)):
        ax.add_patch(Polygon(corners, closed=True, fill=False, lw=lw, ec=edge))


def label(
    ax: Axes,
    centres: Float[np.ndarray, "L 2"],
    texts: list[str],
    tints: list[str],
    *,
    size: float = 8,
    gap: tuple[float, float] = (0.042, 0.04),
) -> None:
    """Number the components at their centres; where numbers would overlap they part, each tied by a line."""
    from matplotlib.colors import to_rgb

    limits = np.array([ax.get_xlim(), ax.get_ylim()])
    corner, extent = limits[:, 0], limits[:, 1] - limits[:, 0]
    ends = corner + extent * _spread((centres - corner) / extent, gap=gap)
    for centre, end, text, tint in zip(centres, ends, texts, tints, strict=True):
        if np.any(np.abs(end - centre) > 0.015 * extent):
            ax.plot(*np.stack([centre, end], axis=1), color=INK, lw=0.7, zorder=4)
            ax.plot(*centre, marker="o", ms=3, color=INK, zorder=4)
        dark = float(np.dot(to_rgb(tint), (0.299, 0.587, 0.114))) < 0.6
        box = {"boxstyle": "round,pad=0.2", "fc": tint, "ec": "white", "lw": 0.8}
        ax.text(
            end[0], end[1], text, color="white" if dark else "black", fontsize=size, weight="bold",
            ha="center", va="center", bbox=box, zorder=5, clip_on=True,
        )  # fmt: skip


def _spread(
    spots: Float[np.ndarray, "L 2"], *, gap: tuple[float, float] = (0.042, 0.04)
) -> Float[np.ndarray, "L 2"]:
    """Points of the unit square, moved until no two are within `gap` in both directions."""
    moved = np.clip(spots, 0.02, 0.98)
    number = np.arange(len(moved))
    for _ in range(300):
        apart = moved[:, None] - moved[None]
        apart[..., 0] += 1e-6 * np.sign(number[:, None] - number[None])  # equal points part along x
        lack = np.maximum(1 - np.abs(apart) / gap, 0)
        clash = np.minimum(lack[..., 0], lack[..., 1])
        np.fill_diagonal(clash, 0)
        if not clash.any():
            break
        # Along the direction in which less is missing.
        along_x = lack[..., 0] <= lack[..., 1]
        push = np.stack([np.where(along_x, clash, 0), np.where(along_x, 0, clash)], axis=-1)
        moved = np.clip(moved + 0.3 * (push * np.sign(apart) * gap).sum(axis=1), 0.02, 0.98)
    return np.asarray(moved)


def densities(
    ax: Axes,
    x: Float[np.ndarray, " N"],
    mean: Float[np.ndarray, " K"],
    variance: Float[np.ndarray, " K"],
    weight: Float[np.ndarray, " K"],
    tints: np.ndarray,
    drawn: list[int],
    *,
    legend: bool = True,
) -> None:
    """A histogram of one column, and the density of every component and of their mixture."""
    low, high = np.percentile(x, [0.1, 99.9])
    pad = 0.05 * (high - low) or 1.0
    grid = np.linspace(low - pad, high + pad, 800)
    bins = int(np.clip(3 * len(x) ** (1 / 3), 10, 120))
    ax.hist(x, bins=bins, range=(low - pad, high + pad), density=True, color=PALE, alpha=0.6, label="rows")
    mixture = np.zeros_like(grid)
    for rank, k in enumerate(drawn):
        sd = math.sqrt(variance[k])
        density = weight[k] * np.exp(-0.5 * ((grid - mean[k]) / sd) ** 2) / (sd * math.sqrt(2 * math.pi))
        mixture += density
        ax.plot(grid, density, color=tints[k], lw=1.5, label=f"component {k}" if rank < 10 else None)
    ax.plot(grid, mixture, color=INK, lw=1.2, ls=(0, (4, 2)), label="mixture")
    ax.set_xlim(grid[0], grid[-1])
    if legend:
        ax.legend(frameon=False, fontsize=9)
