"""Clustering batteries with known labels, beside scikit-learn's mixtures on the same rows.

    python -m benchmarks.batteries                 # writes benchmarks/results/batteries.json and batteries.md
    python -m benchmarks.batteries --sets s1 s2    # those alone; --without-peers leaves scikit-learn out

Every fit of vigmm has K_max = twice the number of labels and everything at its default. Rows are given as
they are; scikit-learn gets them centred and divided by one overall standard deviation, as in the published
runs, with its own defaults but for ``n_init`` restarts.

Labels need not be what a Gaussian mixture can find. Three columns say what a result means:

- *kurtosis*: Mardia's kurtosis of the labelled clusters, by that of Gaussians. Where it is not near 1 a
  cluster takes more than one Gaussian.
- *over labels*: ELBO found less the ELBO of a fit from the labels that may only merge and delete. At or above
  0: the data prefer what was found. Below 0: the search missed something.
- *labels over one*: ELBO of the labels kept apart less that of a single Gaussian, where there are two labels.
  Below 0: the data are too few to pay for the second component's parameters.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import judging, refdata
from benchmarks.batteries_table import table
from benchmarks.protocol import Array

__all__ = ["main", "records", "run_set"]

BATTERIES = ("fcps", "sipu", "g2mg")
SEEDS = 3
# Restarts of scikit-learn, and one where the rows are many.
RESTARTS, MANY = 5, 50_000

STRUCTURES = ("full", "tied_spherical", "spherical", "diag", "tied")


def run_set(data: refdata.Clusters, *, battery: str, seeds: int, peers: bool) -> dict[str, Any]:
    """Every fit of one data set."""
    x, truths, true_k = data.x, data.truths, data.true_k
    k_max = 2 * true_k
    fits = []
    for seed in range(seeds):
        made, record = judging.fit(x, k_max, seed=seed)
        record |= {"seed": seed, **judging.best_scores(truths, made.posterior.predict(x))}
        joined = made.posterior.clusters()
        record["clusters"] = {"number": len(joined), **judging.best_scores(truths, joined.predict(x))}
        # The same seed holds out the same rows: only then are two bounds of the same data.
        labelled = _from_labels(x, k_max, truths, seed)
        record |= {"over_labels": round(record["elbo"] - labelled["elbo"], 2), "from_labels": labelled}
        fits.append(record)
    record = {
        "battery": battery,
        "set": data.name,
        "rows": len(x),
        "dim": x.shape[1],
        "true_k": true_k,
        "noise": int(np.sum(truths[0] == 0)),
        "kurtosis": max((judging.kurtosis_ratio(x, truth) for truth in truths), key=lambda r: -abs(r - 1)),
        "fits": fits,
    }
    record["at_true_k"] = _fixed(x, true_k, truths)
    if true_k == 2:
        record["labels_over_one"] = _over_one(x, truths)
    if battery == "g2mg":
        record["structures"] = dict(_structures(x, k_max, truths))
    if peers:
        record["peers"] = dict(_peers(x, k_max, true_k, truths))
    return record


def _from_labels(x: Array, k_max: int, truths: Sequence[Array], seed: int) -> dict[str, Any]:
    """The best that merges and deletions alone make of the labels."""
    found = []
    for truth in truths:
        made, record = judging.from_labels(x, k_max, _labels(truth), seed=seed)
        found.append({**record, **judging.best_scores(truths, made.posterior.predict(x))})
    return max(found, key=lambda one: float(one["elbo"]))


def _labels(truth: Array) -> Array:
    """From 0, with -1 for noise."""
    names, place = np.unique(truth, return_inverse=True)
    return np.asarray(place - int(names[0] == 0), np.int64)


def _over_one(x: Array, truths: Sequence[Array]) -> float:
    """ELBO of two components from the labels less that of one, in the same model; no moves."""
    from vigmm.train import LabelsStart, Train

    def bound(labels: Array) -> float:
        start, train = LabelsStart(labels=labels), Train(batch_size=len(x))
        return float(judging.fit(x, 2, start=start, moves=None, train=train)[1]["elbo"])

    return round(max(bound(_labels(truth)) for truth in truths) - bound(np.zeros(len(x), np.int64)), 2)


def _fixed(x: Array, true_k: int, truths: Sequence[Array]) -> dict[str, Any]:
    """With all K components in use: a Dirichlet of concentration 1 leaves none empty."""
    import vigmm

    made, record = judging.fit(x, true_k, weights=vigmm.Dirichlet(concentration=1.0))
    return {**record, **judging.best_scores(truths, made.posterior.predict(x))}


def _structures(x: Array, k_max: int, truths: Sequence[Array]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same fit with a covariance that is named."""
    from vigmm.models import COVARIANCES

    for name in STRUCTURES:
        made, record = judging.fit(x, k_max, covariance=COVARIANCES[name]())
        yield name, {**record, **judging.best_scores(truths, made.posterior.predict(x))}


def _peers(
    x: Array, k_max: int, true_k: int, truths: Sequence[Array]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """scikit-learn's two mixtures at both numbers of components."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

    z = (x - x.mean(0)) / x.std()
    restarts = RESTARTS if len(x) < MANY else 1
    for label, kind in (("bgm", BayesianGaussianMixture), ("gm", GaussianMixture)):
        for at, count in (("k_max", k_max), ("true_k", true_k)):
            model = kind(n_components=count, n_init=restarts, random_state=0)
            with warnings.catch_warnings(), contextlib.suppress(ValueError):
                warnings.simplefilter("ignore", ConvergenceWarning)
                found, cost = judging.timed(functools.partial(model.fit_predict, z))
                scores = judging.best_scores(truths, found)
                yield f"{label}_{at}", {"used_k": len(np.unique(found)), "n_init": restarts, **cost, **scores}


def records(sets: Sequence[str] | None, *, seeds: int, peers: bool) -> Iterator[dict[str, Any]]:
    """One by one, those of all data sets or of those named."""
    for battery in BATTERIES:
        for name in refdata.names(battery):
            if sets is None or name in sets:
                data = refdata.clusters(battery, name)
                judging.forget((*data.x.shape, data.true_k))
                yield run_set(data, battery=battery, seeds=seeds, peers=peers)


def _tell(record: dict[str, Any]) -> None:
    for one in record["fits"]:
        parts = {key: one[key] for key in ("found_k", "ari", "over_labels", "seconds", "load")}
        print(record["set"], record["true_k"], parts, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, print and write after every data set; records of other sets are kept."""
    parser = judging.options(__doc__, "batteries")
    parser.add_argument("--sets", nargs="+", help="only these data sets; the others keep their old records")
    parser.add_argument("--without-peers", action="store_true", help="keep what scikit-learn did before")
    chosen = parser.parse_args(arguments)
    document: dict[str, Any] = {"sets": [], "skipped": refdata.missing("clustering")}
    if document["skipped"]:
        judging.write(chosen.out, "batteries", document, table(document))
    sets, seeds = (("hepta",), 1) if chosen.quick else (chosen.sets, SEEDS)
    for record in records(sets, seeds=seeds, peers=not chosen.without_peers):
        _tell(record)
        # What peers did with the same rows does not change with our code.
        document["sets"] = judging.merged(chosen.out, "batteries", "sets", [record], "set", keep=("peers",))
        judging.write(chosen.out, "batteries", document, table(document))
    print(table(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
