"""Cases: one file and one row of `CASES` each."""

from __future__ import annotations

from benchmarks.cases.base import Case, CaseData, Skipped
from benchmarks.cases.digits import DigitsCase
from benchmarks.cases.pixels import PixelCase
from benchmarks.cases.pycave import PycaveCase
from benchmarks.cases.synth import SynthCase
from benchmarks.cases.tables import TableCase

__all__ = ["BRIEF", "CASES", "Case", "CaseData", "Skipped"]

CASES: dict[str, Case] = {
    "synth_small": SynthCase(rows=10_000, dim=8, true_components=10, k_max=10, batch_size=1000),
    "synth_mid": SynthCase(rows=200_000, dim=16, true_components=20, k_max=20, batch_size=2000),
    "synth_mid_twice_k": SynthCase(rows=200_000, dim=16, true_components=20, k_max=40, batch_size=2000),
    "synth_hd": SynthCase(rows=100_000, dim=64, true_components=20, k_max=20, batch_size=2000),
    "synth_big": SynthCase(rows=2_000_000, dim=16, true_components=50, k_max=50, batch_size=4000),
    "pixels3": PixelCase(picture="china.jpg", place=False),
    "pixels5": PixelCase(picture="flower.jpg", place=True),
    "digits_pca": DigitsCase(),
    "skin": TableCase(table="skin", k_max=8),
    "flights": TableCase(table="flights", k_max=8),
    "facs": TableCase(table="facs", k_max=10),
    "pycave_diag": PycaveCase(rows=1_000_000, dim=64, k_max=64, covariance="diag"),
    "pycave_full": PycaveCase(rows=100_000, dim=32, k_max=16, covariance="full"),
}

# What `--brief` runs: all methods on these take less than a quarter of an hour.
BRIEF = ("synth_small", "synth_mid")
