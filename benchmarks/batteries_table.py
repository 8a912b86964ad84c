"""The tables of `benchmarks.batteries`, made from its records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import judging

__all__ = ["BAYES", "PUBLISHED", "table"]

# Adjusted Rand index of scikit-learn's GaussianMixture at the true K, best of 100 restarts: published results
# of the clustering benchmark suite that the data come from.
PUBLISHED = {
    "s1": 0.990, "s2": 0.942, "a1": 0.958, "unbalance": 1.0, "aggregation": 0.998, "engytime": 0.983,
    "hepta": 1.0, "tetra": 1.0, "twodiamonds": 1.0, "lsun": 1.0,
    "g2mg_32_30": 0.944, "g2mg_32_50": 0.556, "g2mg_32_60": 0.121,
}  # fmt: skip

# The best that knowing the generator allows on g2mg, by dimension and S = 10, 30, 50, 60.
BAYES = {
    f"g2mg_{dim}_{size}": value
    for dim, row in {
        2: (1.0, 0.967, 0.718, 0.600),
        8: (1.0, 0.969, 0.697, 0.579),
        16: (1.0, 0.942, 0.670, 0.545),
        32: (1.0, 0.942, 0.691, 0.532),
    }.items()
    for size, value in zip((10, 30, 50, 60), row, strict=True)
}

# Covariances that are named beside the one that is found.
_NAMED = ("full", "tied_spherical", "spherical", "diag", "tied")

_HEAD = """# Clustering batteries

Made by `python -m benchmarks.batteries`; do not edit. K_max is twice the number of labels K, everything else
at its default. ARI and NMI are medians over {seeds} seeds (of the best admissible truth,
noise dropped), with the lowest ARI in brackets where it differs. *ARI at K* is a fit that must use K
components. *clusters* joins components that share a peak of the density (`Posterior.clusters`), and *their
ARI* is that of these. *first s* is a first fit, which compiles; *later s* the median of the others. BGM and
GM are scikit-learn's BayesianGaussianMixture and GaussianMixture, best of {restarts} restarts (1 above 50,000
rows), at K_max and at K. *published* is GaussianMixture at K, best of 100. *Bayes* is what knowing the
generator allows, by the first truth, to be read beside *first truth*. *kurtosis* is that of the labelled
clusters (1: Gaussian); *over labels*, seed by seed, is the ELBO found less the ELBO of a fit from the labels
that may only merge (below 0: the search missed something); *labels over one* is the ELBO of the labels kept
apart less that of a single Gaussian (below 0: the data cannot pay for two).
{shared}
"""


def table(document: dict[str, Any]) -> str:
    """Everything, as text."""
    records = document["sets"]
    if document["skipped"]:
        return f"# Clustering batteries\n\nNot run: {document['skipped']}.\n"
    restarts = sorted({peer["n_init"] for one in records for peer in one.get("peers", {}).values()})
    head = _HEAD.format(
        seeds=max((len(one["fits"]) for one in records), default=0),
        restarts=max(restarts, default=0),
        shared=judging.SHARED,
    )
    parts = [head]
    for title, own in (
        ("fcps and sipu", [one for one in records if one["battery"] != "g2mg"]),
        ("g2mg: two spherical Gaussians, 2,048 rows", [one for one in records if one["battery"] == "g2mg"]),
    ):
        if own:
            parts += [f"## {title}\n", _scores(own), "### What the data prefer, and cost\n", _reasons(own)]
    return "\n".join(parts)


def _scores(records: Sequence[dict[str, Any]]) -> str:
    spherical = any("structures" in one for one in records)
    columns = ["set", "N", "D", "K", "found K", "ARI", "NMI", "clusters", "their ARI", "ARI at K"]
    columns += ["BGM K_max", "GM K_max", "BGM K", "GM K", "published"]
    if spherical:
        columns += ["covariance", "first truth", "Bayes", *(name.replace("_", " ") for name in _NAMED)]
    rows = []
    for one in records:
        row = [one["set"], one["rows"], one["dim"], one["true_k"], _list(one["fits"], "found_k")]
        row += [_ari(one["fits"]), _median(one["fits"], "nmi"), *_clusters(one["fits"])]
        row += [one["at_true_k"]["ari"]]
        peers = one.get("peers", {})
        row += [
            peers.get(name, {}).get("ari") for name in ("bgm_k_max", "gm_k_max", "bgm_true_k", "gm_true_k")
        ]
        row.append(PUBLISHED.get(one["set"]))
        if spherical:
            row += [
                _list(one["fits"], "covariance"),
                _median(one["fits"], "ari_first"),
                BAYES.get(one["set"]),
            ]
            made = one.get("structures", {})
            named = ("full", "tied_spherical", "spherical", "diag", "tied")
            row += [_with_k(made.get(name)) for name in named]
        rows.append(row)
    return judging.markdown(columns, rows)


def _reasons(records: Sequence[dict[str, Any]]) -> str:
    columns = ["set", "kurtosis", "over labels", "K from labels", "ARI from labels", "labels over one"]
    columns += ["first s", "later s", "later cpu s", "load", "BGM K_max s", "GM K s"]
    rows = []
    for one in records:
        fits, labels, peers = one["fits"], one["fits"][0]["from_labels"], one.get("peers", {})
        later = fits[1:]
        rows.append(
            [
                one["set"], one["kurtosis"],
                _list(fits, "over_labels"),
                labels["found_k"], labels["ari"], one.get("labels_over_one"),
                round(fits[0]["seconds"], 1),
                *((_median(later, name) if later else None) for name in ("seconds", "cpu_seconds")),
                fits[0]["load"], *(peers.get(name, {}).get("seconds") for name in ("bgm_k_max", "gm_true_k")),
            ]
        )  # fmt: skip
    return judging.markdown(columns, rows)


def _median(fits: Sequence[dict[str, Any]], name: str) -> float:
    return round(float(np.median([fit[name] for fit in fits])), 3)


def _ari(fits: Sequence[dict[str, Any]]) -> str:
    middle, low = _median(fits, "ari"), round(min(fit["ari"] for fit in fits), 3)
    return f"{middle:.3f}" if middle == low else f"{middle:.3f} ({low:.3f})"


def _clusters(fits: Sequence[dict[str, Any]]) -> tuple[str | None, str | None]:
    """How many clusters the components make, and how well those agree with the labels."""
    made = [fit["clusters"] for fit in fits if "clusters" in fit]
    return (_list(made, "number"), _ari(made)) if made else (None, None)


def _list(fits: Sequence[dict[str, Any]], name: str) -> str:
    """All values, or the one that all share; of an earlier record, which has none, nothing."""
    values = [fit.get(name, "") for fit in fits]
    return ", ".join(str(value) for value in (values[:1] if len(set(values)) == 1 else values))


def _with_k(one: dict[str, Any] | None) -> str | None:
    return None if one is None else f"{one['ari']:.3f} (K {one['found_k']})"
