"""Cases: one file and one row of `CASES` each."""

from __future__ import annotations

from benchmarks.cases.base import Case, CaseData
from benchmarks.cases.synth import SynthCase

__all__ = ["CASES", "Case", "CaseData"]

CASES: dict[str, Case] = {
    "synth_200k": SynthCase(rows=200_000, dim=16, true_components=20, k_max=40, batch_size=2000),
}
