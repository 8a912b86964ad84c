"""vigmm's own paths, through the public API only: one row of `OURS` each."""

from __future__ import annotations

from benchmarks.ours.paths import VigmmDefault, VigmmNatural, VigmmPathwise
from benchmarks.protocol import Method

__all__ = ["OURS"]

OURS: dict[str, Method] = {
    "vigmm": VigmmDefault(),
    "vigmm_file": VigmmDefault(file=True),
    "vigmm_natural": VigmmNatural(),
    "vigmm_pathwise": VigmmPathwise(),
}
