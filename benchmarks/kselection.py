"""Which number of components a bound prefers on overlapping clusters.

    python -m benchmarks.kselection            # writes benchmarks/results/kselection.json and kselection.md

Three overlapping Gaussians in two dimensions, 1,000 rows, ten seeds of the rows. The bound of fits at each K
in 1..8 picks the K where it is highest: `lower_bound_` of scikit-learn's BayesianGaussianMixture, with both
of its weight priors, drops constants that depend on K and so tends to large K; our ELBO has them all. Beside
it the K that the search finds from K_max = 8.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import judging
from benchmarks.protocol import Array

__all__ = ["RULES", "TRUE_K", "main", "rows_of", "run_seed", "table"]

TRUE_K, COUNTS, SEEDS, ROWS = 3, tuple(range(1, 9)), 10, 1_000
RESTARTS = 2
RULES = ("search", "elbo", "dirichlet_process", "dirichlet_distribution")

_WEIGHTS = np.array([0.40, 0.35, 0.25])
_ANGLES = np.deg2rad([90.0, 210.0, 330.0])
_MEANS = 1.8 * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_COVS = np.array([[[1.0, 0.5], [0.5, 1.0]], [[1.0, -0.4], [-0.4, 0.8]], [[0.7, 0.0], [0.0, 1.3]]])


def rows_of(seed: int, rows: int = ROWS) -> Array:
    """A sample; means are 3.1 apart and standard deviations about 1."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(TRUE_K, rows, p=_WEIGHTS)
    noise = rng.normal(size=(rows, 2))
    return np.asarray(_MEANS[labels] + np.einsum("nij,nj->ni", np.linalg.cholesky(_COVS)[labels], noise))


def run_seed(seed: int, counts: Sequence[int] = COUNTS) -> dict[str, Any]:
    """The K that each rule picks on one sample, and the bounds by K."""
    x = rows_of(seed)
    ours = [judging.fit(x, count, seed=seed, moves=None)[1]["elbo"] for count in counts]
    _, searched = judging.fit(x, max(counts), seed=seed)
    bounds = {"elbo": ours} | {kind: _theirs(x, kind, counts) for kind in RULES[2:]}
    picks = {name: counts[int(np.argmax(values))] for name, values in bounds.items()}
    return {
        "seed": seed,
        "counts": list(counts),
        "picks": {"search": searched["found_k"], **picks},
        "bounds": bounds,
        "search": searched,
    }


def _theirs(x: Array, kind: str, counts: Sequence[int]) -> list[float]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import BayesianGaussianMixture

    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for count in counts:
            model = BayesianGaussianMixture(
                n_components=count, n_init=RESTARTS, max_iter=500, random_state=0,
                weight_concentration_prior_type=kind,
            )  # fmt: skip
            found.append(round(float(model.fit(x).lower_bound_), 3))
    return found


def table(document: dict[str, Any]) -> str:
    """How often each rule is right, and what it picks."""
    names = {
        "search": "vigmm, search from K_max = 8",
        "elbo": "vigmm, ELBO of fits at each K",
        "dirichlet_process": "BayesianGaussianMixture, `dirichlet_process`",
        "dirichlet_distribution": "BayesianGaussianMixture, `dirichlet_distribution`",
    }
    seeds = document["seeds"]
    rows = []
    for rule in RULES:
        picks = [one["picks"][rule] for one in seeds]
        right = sum(pick == TRUE_K for pick in picks)
        most = sum(pick == max(one["counts"]) for pick, one in zip(picks, seeds, strict=True))
        rows.append([names[rule], f"{right} of {len(picks)}", most, ", ".join(map(str, picks))])
    head = (
        "# Which number of components a bound prefers\n\n"
        f"Made by `python -m benchmarks.kselection`; do not edit. {TRUE_K} overlapping Gaussians,\n"
        f"{ROWS:,} rows, K = 1..8, everything at its default "
        f"(scikit-learn: {RESTARTS} restarts, 500 iterations).\n\n"
    )
    return head + judging.markdown(["rule", f"picks {TRUE_K}", "picks the largest", "by seed"], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, print and write."""
    chosen = judging.options(__doc__, "kselection").parse_args(arguments)
    seeds = []
    for seed in range(1 if chosen.quick else SEEDS):
        seeds.append(run_seed(seed, (2, 3) if chosen.quick else COUNTS))
        print(seed, seeds[-1]["picks"], flush=True)
    document = {"true_k": TRUE_K, "rows": ROWS, "seeds": seeds}
    text = table(document)
    print(text)
    judging.write(chosen.out, "kselection", document, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
