"""Peers, each written as its users write it: one file and one row of `BASELINES` each.

The files import their library only inside functions, so that a process that runs one method loads only
that method's library.
"""

from __future__ import annotations

from benchmarks.baselines.numpyro_svi import NumpyroSvi
from benchmarks.baselines.sklearn_bgm import SklearnBgm
from benchmarks.protocol import Method

__all__ = ["BASELINES"]

BASELINES: dict[str, Method] = {
    "sklearn_bgm": SklearnBgm(),
    "numpyro_svi": NumpyroSvi(),
}
