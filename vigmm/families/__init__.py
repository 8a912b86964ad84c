"""Variational families: one file and one row of `FAMILIES` each."""

from vigmm.families.base import Blockwise, ClosedEntropy, Family, Guess, Implicit, Reparameterised
from vigmm.families.blocks import Blocks, BlocksParams
from vigmm.families.conjugate import (
    Conjugate,
    ConjugateParams,
    guess,
    row_counts,
    row_counts_on_host,
    untouched,
)
from vigmm.families.flow import Flow, FlowParams
from vigmm.families.fullrank import FullRank, FullRankParams
from vigmm.families.lowrank import LowRank, LowRankParams
from vigmm.families.meanfield import MeanField, MeanFieldParams

__all__ = [
    "FAMILIES",
    "Blocks",
    "BlocksParams",
    "Blockwise",
    "ClosedEntropy",
    "Conjugate",
    "ConjugateParams",
    "Family",
    "Flow",
    "FlowParams",
    "FullRank",
    "FullRankParams",
    "Guess",
    "Implicit",
    "LowRank",
    "LowRankParams",
    "MeanField",
    "MeanFieldParams",
    "Reparameterised",
    "guess",
    "row_counts",
    "row_counts_on_host",
    "untouched",
]

FAMILIES: dict[str, type[Family]] = {
    "blocks": Blocks,
    "conjugate": Conjugate,
    "flow": Flow,
    "fullrank": FullRank,
    "lowrank": LowRank,
    "meanfield": MeanField,
}
