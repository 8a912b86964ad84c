"""Peers, each written as its users write it: one file, one text of requirements and one row of `BASELINES`.

The files import their library only inside functions, so that a process that runs one method loads only
that method's library.
"""

from __future__ import annotations

from benchmarks.baselines.bnpy_vb import BnpyVb
from benchmarks.baselines.faiss_kmeans import FaissKmeans
from benchmarks.baselines.gmmx_em import GmmxEm
from benchmarks.baselines.numpyro_svi import NumpyroSvi
from benchmarks.baselines.onedal_em import OneDalEm
from benchmarks.baselines.sklearn_bgm import SklearnBgm
from benchmarks.baselines.sklearn_gm import SklearnGm
from benchmarks.baselines.tgmm_em import TgmmEm
from benchmarks.baselines.torchgmm_em import TorchgmmEm
from benchmarks.protocol import Method

__all__ = ["BASELINES"]

BASELINES: dict[str, Method] = {
    "faiss_kmeans": FaissKmeans(),
    "onedal_em": OneDalEm(),
    "sklearn_gm": SklearnGm(),
    "sklearn_bgm": SklearnBgm(),
    "gmmx_em": GmmxEm(),
    "tgmm_em": TgmmEm(),
    "torchgmm_em": TorchgmmEm(),
    "bnpy_vb": BnpyVb(),
    "bnpy_memo": BnpyVb(algorithm="memoVB", moves="birth,merge,shuffle"),
    "bnpy_so": BnpyVb(algorithm="soVB", max_iter=20),
    "numpyro_svi": NumpyroSvi(),
}
