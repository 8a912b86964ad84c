"""Colours of the clusters, for a light and a dark page.

The palette is that of the pictures (`vigmm.plot.style`). Lines and small marks need three times the luminance
of what is behind them, or a third (WCAG 2.2, 1.4.11), so each colour is darkened, or for the dark page
lightened, until it has that.
"""

from __future__ import annotations

from vigmm.plot.style import PALETTE

__all__ = ["BACKGROUNDS", "contrast_ratio", "palette_css", "readable"]

BACKGROUNDS = ("#ffffff", "#171b20")
"""Surfaces of the light and the dark page, as in ``style.css``."""

_LEAST = 3.0


def palette_css() -> str:
    """Custom properties ``--c0`` to ``--c19``, and classes that choose one as ``--k``."""
    colours = (tuple(readable(colour, behind) for behind in BACKGROUNDS) for colour in PALETTE)
    names = [f"--c{i}:light-dark({light},{dark})" for i, (light, dark) in enumerate(colours)]
    classes = [f".c{i}{{--k:var(--c{i})}}" for i in range(len(PALETTE))]
    return f":root{{{';'.join(names)}}}\n{''.join(classes)}\n"


def readable(colour: str, behind: str, least: float = _LEAST) -> str:
    """`colour`, blended with black or white until its contrast with `behind` is at least `least`.

    Example:
        >>> readable("#000000", "#ffffff"), readable("#FFB8C2", "#ffffff") != "#FFB8C2"
        ('#000000', True)
    """
    end = 0.0 if _luminance(behind) > 0.5 else 255.0
    for step in range(51):
        share = step / 50
        mixed = "#" + "".join(f"{round(c + share * (end - c)):02x}" for c in _channels(colour))
        if contrast_ratio(mixed, behind) >= least:
            return mixed
    return mixed


def contrast_ratio(a: str, b: str) -> float:
    """WCAG's contrast of two colours, from 1 to 21."""
    high, low = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def _luminance(colour: str) -> float:
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (v / 255 for v in _channels(colour))
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
