"""Where a run starts: one row of `STARTS` each.

- `kmeans` and `random` look for clusters on a subsample, several times, and the best goes on;
- `labels`, `means` and `model` are told: a partition, means, or a posterior that was fitted before.
"""

from vigmm.train.starts.base import Origin, Start, Started
from vigmm.train.starts.given import LabelsStart, MeansStart
from vigmm.train.starts.kmeans import KMeansStart, RandomStart
from vigmm.train.starts.saved import ModelStart

__all__ = [
    "STARTS",
    "KMeansStart",
    "LabelsStart",
    "MeansStart",
    "ModelStart",
    "Origin",
    "RandomStart",
    "Start",
    "Started",
]

STARTS: dict[str, type[Start]] = {
    "kmeans": KMeansStart,
    "random": RandomStart,
    "labels": LabelsStart,
    "means": MeansStart,
    "model": ModelStart,
}
