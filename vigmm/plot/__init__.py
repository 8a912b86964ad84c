"""Pictures of a fit, by matplotlib if it is installed; figures are plain objects and nothing is global."""

from vigmm.plot.rows import MAX_POINTS, clusters, segmentation
from vigmm.plot.run import trace, weights
from vigmm.plot.style import PALETTE, available, colours, save

__all__ = [
    "MAX_POINTS",
    "PALETTE",
    "available",
    "clusters",
    "colours",
    "save",
    "segmentation",
    "trace",
    "weights",
]
