"""Clusters of any shape: components that share a peak of the density.

A component is a Gaussian, and a cluster of another shape takes several: one with heavy tails two about the
same centre. Components from whose centres one climbs to the same peak are one cluster, and two peaks are two
clusters only where the posterior shows it: where at least such a share of its draws has a valley between
them. So there is no bandwidth, and no rule for how deep a valley has to be.

References:
    Hennig (2010), Methods for merging Gaussian mixture components, Advances in Data Analysis and
    Classification 4; and see `vigmm.posterior.topography`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from vigmm.core import rng
from vigmm.core.struct import require
from vigmm.core.typing import PRNGKey
from vigmm.data.moments import Standardizer
from vigmm.posterior.draws import Draws, draw_blocks
from vigmm.posterior.prediction import NOISE, score_blocks
from vigmm.posterior.topography import Topography, ways

if TYPE_CHECKING:
    from vigmm.posterior.posterior import Posterior

__all__ = ["LEVEL", "NUM_DRAWS", "Clusters", "modal_clusters"]

NUM_DRAWS, LEVEL = 200, 0.95
"""Draws that are looked at for a valley, and the share of them that must have one."""

# Places as near as this are one, in standard deviations; a climb may end so far from its peak.
_SAME = 1e-3
# The nearest peaks, to which ways are looked at: what is farther lies behind one of these.
_NEIGHBOURS = 12
# Where the valley at the mean parameters is deeper than this, in nats, no draw is asked; the valley of a draw
# must be deeper than rounding.
_DEEP, _ROUNDING = 3.0, 1e-9


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Clusters:
    """Components joined into clusters, the largest first, in the units of the data.

    Args:
        posterior: whose components they are.
        component: for each component the number of its cluster.
        peaks: where the density of each cluster is highest.
        weights: posterior mean share of the rows.
        apart: probability that there is a valley between a cluster and the neighbour that it is least apart
            from; 1 where there is no neighbour, or a valley too deep (3 nats) to be doubted.
        level: what that probability is at least.
    """

    posterior: Posterior
    component: Int[np.ndarray, " K"]
    peaks: Float[np.ndarray, "M D"]
    weights: Float[np.ndarray, " M"]
    apart: Float[np.ndarray, " M"]
    level: float

    def __len__(self) -> int:
        return len(self.peaks)

    def __repr__(self) -> str:
        return f"Clusters({len(self)} of {len(self.component)} components)"

    def responsibilities(self, x: Any) -> Float[np.ndarray, "N M"]:
        """Probability that each row belongs to each cluster: the sum of those of its components.

        Where the model has noise, its probability is the last column.

        Args:
            x: N rows; see `Posterior.responsibilities`.
        """
        return np.concatenate(list(self._blocks(x)))

    def predict(self, x: Any) -> Int[np.ndarray, " N"]:
        """The most probable cluster of each row, as int32; -1 for noise.

        Args:
            x: N rows; see `Posterior.predict`.
        """
        found = np.concatenate([np.argmax(block, axis=1).astype(np.int32) for block in self._blocks(x)])
        return np.where(found < len(self), found, np.int32(NOISE))

    def _blocks(self, x: Any) -> Iterator[Float[np.ndarray, "n M"]]:
        noise = self.posterior.model.noise is not None
        group = np.append(self.component, len(self)) if noise else self.component
        for _, part in score_blocks(self.posterior, x, full=True):
            shares = part.responsibilities
            assert shares is not None
            yield shares @ np.eye(len(self) + noise, dtype=shares.dtype)[group]


def modal_clusters(posterior: Posterior, *, level: float, num_draws: int) -> Clusters:
    """Which components are one cluster; see `Posterior.clusters`."""
    require(0.5 <= level < 1, "level", "at least 0.5 and below 1", level)
    require(num_draws >= 20, "num_draws", ">= 20", num_draws)
    key = rng.stream(rng.root_key(posterior.seed), "clusters")
    likelihood, mean = posterior.model.likelihood, _mean(posterior, key, num_draws)
    average = Topography(likelihood, mean)
    tops, metric = average.climb(mean.means[0])
    first, peak = _distinct(tops, metric)
    pairs = _neighbours(tops[first], metric[first])
    along = ways(tops[first], metric[first], pairs)
    valley = np.ones((len(first), len(first)))
    near = average.depths(along)[0] <= _DEEP if len(pairs) else np.zeros(0, bool)
    if near.any():
        # Drawn again rather than kept: with many columns covariances are gigabytes.
        count = np.zeros(int(near.sum()))
        for _, block in draw_blocks(posterior, key, num_draws):
            count += np.sum(Topography(likelihood, block).depths(along[near]) > _ROUNDING, axis=0)
        shown = count / num_draws
        valley[tuple(pairs[near].T)] = valley[tuple(pairs[near].T[::-1])] = shown
    group = _connected(valley < level)
    return _described(posterior, tops, average.heights(tops)[0], mean.weights[0], group, peak, valley, level)


def _mean(posterior: Posterior, key: PRNGKey, num_draws: int) -> Draws:
    """The mean of draws, as one draw, in standardised units."""
    names = [field.name for field in dataclasses.fields(Draws)]
    sums: dict[str, Any] = dict.fromkeys(names, 0.0)
    for _, block in draw_blocks(posterior, key, num_draws):
        sums = {name: total + getattr(block, name).sum(axis=0, keepdims=True) for name, total in sums.items()}
    return Draws(**{name: total / num_draws for name, total in sums.items()})


def _distinct(
    tops: Float[np.ndarray, "K D"], metric: Float[np.ndarray, "K D D"]
) -> tuple[Int[np.ndarray, " M"], Int[np.ndarray, " K"]]:
    """Of climbs that end at the same place the first, and for each climb the number of its peak."""
    first: list[int] = []
    peak = np.empty(len(tops), np.int64)
    for k, top in enumerate(tops):
        apart = top - tops[first]
        same = np.einsum("md,de,me->m", apart, metric[k], apart) < _SAME**2
        peak[k] = np.argmax(same) if same.any() else len(first)
        if not same.any():
            first.append(k)
    return np.array(first), peak


def _neighbours(
    peaks: Float[np.ndarray, "M D"], metric: Float[np.ndarray, "M D D"]
) -> Int[np.ndarray, "T 2"]:
    """Pairs of which one is among the nearest of the other, in its own standard deviations."""
    pairs = set()
    for i, place in enumerate(peaks):
        apart = peaks - place
        distance = np.einsum("md,de,me->m", apart, metric[i], apart)
        nearest = np.argsort(distance, kind="stable")[: _NEIGHBOURS + 1]
        pairs |= {(min(i, int(j)), max(i, int(j))) for j in nearest if j != i}
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def _connected(joined: Bool[np.ndarray, "M M"]) -> Int[np.ndarray, " M"]:
    """Numbers, from 0, of the connected parts of a graph."""
    label = np.arange(len(joined))
    while True:
        least = np.min(np.where(joined, label[None], label[:, None]), axis=1)
        if (least == label).all():
            return np.unique(label, return_inverse=True)[1]
        label = least


def _described(
    posterior: Posterior,
    tops: Float[np.ndarray, "K D"],
    heights: Float[np.ndarray, " K"],
    weights: Float[np.ndarray, " K"],
    group: Int[np.ndarray, " M"],
    peak: Int[np.ndarray, " K"],
    valley: Float[np.ndarray, "M M"],
    level: float,
) -> Clusters:
    """In the order of their shares, in the units of the data."""
    shares = np.bincount(group[peak], weights)
    order = np.argsort(-shares, kind="stable")
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    component = place[group[peak]]
    highest = [int(np.argmax(np.where(component == c, heights, -np.inf))) for c in range(len(order))]
    inside = [place[group] == c for c in range(len(order))]
    return Clusters(
        posterior=posterior,
        component=component,
        peaks=Standardizer(center=posterior.center, scale=posterior.scale).inverse(tops[highest]),
        weights=shares[order],
        apart=np.array([np.min(valley[one][:, ~one], initial=1.0) for one in inside]),
        level=level,
    )
