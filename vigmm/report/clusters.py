"""The clusters as the page shows them: everything known of each, largest first, JSON-ready."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vigmm.plot.style import PALETTE
from vigmm.posterior.summary import to_digit
from vigmm.report.contrasts import Contrasts, contrast, separation
from vigmm.report.extremes import Best
from vigmm.report.markup import true_minus
from vigmm.report.rows import GRID, RowFacts
from vigmm.report.run import FinishedRun
from vigmm.report.tree import Join, merge_tree

__all__ = ["MOST_LEAVES", "Clusters", "describe", "listed", "listed_rows", "row_columns"]

MOST_CLUSTERS, MOST_LEAVES = 250, 60
"""Clusters that are described, and clusters in the tree: the largest."""

MOST_FEATURES, MOST_PAIRED = 48, 10
"""Columns that are described, and columns in pairwise views: the most telling."""

_MOST_CELLS = 3e7
_MOST_NUMBERS = 6_000
_ROW_COLUMNS = 12


@dataclasses.dataclass(frozen=True, eq=False)
class Clusters:
    """The model's components in order of size, and which columns the page describes.

    Args:
        order: numbers of the components in the model, largest first.
        weights: posterior mean shares, in the model's order, as are the following.
        means: posterior mean centres.
        covariances: posterior mean covariances.
        contrasts: each against the rest.
        features: the columns that are described, in the order of the data.
        paired: the columns of the pairwise views, likewise.
        first: places in `paired` of the two most telling columns.
    """

    order: Int[np.ndarray, " K"]
    weights: Float[np.ndarray, " K"]
    means: Float[np.ndarray, "K D"]
    covariances: Float[np.ndarray, "K D D"]
    contrasts: Contrasts
    features: list[int]
    paired: list[int]
    first: list[int]

    def tree(self) -> tuple[list[int], list[Join]]:
        """The leaves, which are the largest clusters that hold a row at all, and how they join."""
        leaves = [int(k) for k in self.order[:MOST_LEAVES] if self.weights[k] > 0]
        return leaves, merge_tree(self.weights[leaves], self.means[leaves], self.covariances[leaves])


def describe(run: FinishedRun) -> Clusters:
    """What the model says of its clusters.

    Of very many columns those are described that tell the clusters apart best: where most of the variance is
    between them.
    """
    posterior = run.posterior
    weights, means, covariances = posterior.weights, posterior.means, posterior.covariances
    sds = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    telling = np.argsort(-separation(weights, means, sds), kind="stable")
    most = MOST_PAIRED
    while most > 2 and most * (most - 1) / 2 * len(weights) * GRID**2 > _MOST_CELLS:
        most -= 1
    paired = sorted(telling[:most].tolist())
    return Clusters(
        order=np.array([one["component"] for one in run.summary["components"]], np.int64),
        weights=weights,
        means=means,
        covariances=covariances,
        contrasts=contrast(weights, means, sds),
        features=sorted(telling[: max(_MOST_NUMBERS // len(weights), MOST_PAIRED)][:MOST_FEATURES].tolist()),
        paired=paired,
        first=sorted(paired.index(int(d)) for d in telling[:2]),
    )


def listed(run: FinishedRun, clusters: Clusters, rows: RowFacts | None) -> list[dict[str, Any]]:
    """A record of each of the largest clusters; behind them, if the model has noise, the noise."""
    found = []
    for rank, one in enumerate(run.summary["components"][:MOST_CLUSTERS]):
        k = int(one["component"])
        weight = one["weight"]
        found.append(
            {
                "id": k,
                "name": str(k),
                "colour": rank % len(PALETTE),
                "share": [weight["mean"], weight["low"], weight["high"]],
                "expected": one["expected_rows"],
                "words": clusters.contrasts.words(k, run.posterior.columns),
                "features": [
                    _feature(one["features"][d], clusters.contrasts, k, d) for d in clusters.features
                ],
                "mean": clusters.means[k, clusters.paired],
                "cov": clusters.covariances[k][np.ix_(clusters.paired, clusters.paired)],
                **_seen(rows, k, clusters),
            }
        )
    if run.posterior.model.noise is not None:
        # The noise has a share and rows, and no shape.
        found.append({"id": -1, "name": "noise", "colour": None, "words": "rows that fit no cluster",
                      **_seen(rows, len(clusters.weights), clusters)})  # fmt: skip
    return found


def _feature(one: dict[str, Any], contrasts: Contrasts, k: int, d: int) -> dict[str, Any]:
    mean, sd = one["mean"], one["sd"]
    # An interval is told to the third digit of the uncertainty it expresses.
    return {
        "at": mean["mean"],
        "wide": sd["mean"],
        "mean": _told(mean["mean"], sd["mean"]),
        "meanInterval": _interval(mean),
        "sd": _told(sd["mean"], sd["mean"]),
        "sdInterval": _interval(sd),
        "difference": contrasts.difference[k, d],
        "overlap": contrasts.overlap[k, d],
    }


def _interval(one: dict[str, float]) -> str:
    return f"{_told(one['low'], one['sd'])} to {_told(one['high'], one['sd'])}"


def _told(value: float, sd: float) -> str:
    """To the third digit of `sd`, thousands apart."""
    return true_minus(re.sub(r"\d+", lambda found: f"{int(found[0]):,}", to_digit(value, sd), count=1))


def _seen(rows: RowFacts | None, k: int, clusters: Clusters) -> dict[str, Any]:
    if rows is None:
        return {}
    typical = listed_rows(rows.typical[k], clusters)
    shown = {one["row"] for one in typical}
    return {
        "count": int(rows.count[k]),
        "certainty": float(rows.certainty[k]),
        "doubtful": int(rows.doubtful[k]),
        "typical": typical,
        "edge": [one for one in listed_rows(rows.edge[k], clusters) if one["row"] not in shown],
    }


def row_columns(clusters: Clusters) -> list[int]:
    """The columns that tables of rows show."""
    return clusters.features[:_ROW_COLUMNS]


def listed_rows(best: Best, clusters: Clusters) -> list[dict[str, Any]]:
    """Rows for a table: their number, what is known of them, and values of the described columns."""
    columns = row_columns(clusters)
    sds = np.sqrt(np.diagonal(clusters.covariances, axis1=1, axis2=2)).min(axis=0)
    return [
        {
            "row": int(number),
            "component": int(extra[0]),
            "probability": float(extra[1]),
            "values": [_value(values[d], sds[d]) for d in columns],
        }
        for number, values, extra in zip(best.number, best.rows, best.extra, strict=True)
    ]


def _value(value: float, sd: float) -> str:
    """A value of a row, to some digits below the smallest standard deviation of a cluster."""
    if math.isnan(value):
        return "–"
    apart = math.log10(abs(value) / sd) if value and sd > 0 else 0.0
    return true_minus(f"{value:,.{min(max(6, 4 + math.floor(apart)), 15)}g}")
