"""Pictures of a fit, by matplotlib if it is installed; figures are plain objects and nothing is global."""

from vigmm.plot.checks import MAX_CHECKED, predictive_check
from vigmm.plot.pairs import MAX_PAIRED, ellipses, pairs
from vigmm.plot.restarts import restarts
from vigmm.plot.rows import MAX_POINTS, clusters, segmentation
from vigmm.plot.run import trace, weights
from vigmm.plot.shares import responsibilities
from vigmm.plot.style import PALETTE, available, colours, save

__all__ = [
    "MAX_CHECKED",
    "MAX_PAIRED",
    "MAX_POINTS",
    "PALETTE",
    "available",
    "clusters",
    "colours",
    "ellipses",
    "pairs",
    "predictive_check",
    "responsibilities",
    "restarts",
    "save",
    "segmentation",
    "trace",
    "weights",
]
