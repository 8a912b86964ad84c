"""A ladder of synthetic mixtures with known density: how many components are found, and the density.

    python -m benchmarks.ladder                              # every cell; hours
    python -m benchmarks.ladder --cells 2000x2x5 20000x16x20 # those alone, added to results/ladder.json

A cell is N x D x K: N rows of `vigmm.data.synthetic.gaussian_mixture`, K overlapping Gaussians with full
covariances, K_max = 2K, everything else at its default. 20,000 more rows of the same mixture judge the
density:

- *gap*: true log density less log predictive density, in nats per row;
- *oracle*: EM from the true parameters (`benchmarks.gaussians.em`), what maximum likelihood could reach here;
- *labels*: our own fit from the true labels, which may only merge and delete: what this model could reach.

The number found may differ from K because the data cannot show K. Then the bound of the fit from the true
labels is no higher than the one found, or that fit has merged components too.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import judging
from benchmarks.gaussians import Gaussians, em

__all__ = ["CELLS", "main", "run_cell", "table"]

ROWS, DIMS, COUNTS = (2_000, 20_000, 200_000, 2_000_000), (2, 16, 64), (5, 20, 100)
CELLS = tuple(itertools.product(ROWS, DIMS, COUNTS))
FRESH = 20_000
# In nats per row, and a share of K: what is called reached.
CLOSE, SHARE = 0.01, 0.05
# Multiply-adds that EM from the truth may take: about ten minutes.
_EM_WORK = 3e13


def run_cell(rows: int, dim: int, count: int, *, seed: int = 0, fresh: int = FRESH) -> dict[str, Any]:
    """Fit one cell and judge it."""
    from vigmm.data.synthetic import gaussian_mixture

    # One sample: rows are independent, whichever of them are called fresh.
    data = gaussian_mixture(rows + fresh, dim, count, seed=seed)
    x, test, labels = data.x[:rows], data.x[rows:], data.labels[:rows]
    truth = Gaussians(data.weights, data.means, data.covs)
    level = truth.log_density(test)

    made, record = judging.fit(x, 2 * count, seed=seed)
    density = np.asarray(made.posterior.log_predictive(test), np.float64)
    names, place = np.unique(labels, return_inverse=True)
    ours, from_labels = judging.from_labels(x, 2 * count, place, seed=seed)
    labelled = np.asarray(ours.posterior.log_predictive(test), np.float64)
    document = {
        "cell": f"{rows}x{dim}x{count}",
        "rows": rows,
        "dim": dim,
        "true_k": count,
        "drawn_k": len(names),
        "smallest": int(np.bincount(place).min()),
        "seed": seed,
        "log_density": round(float(level.mean()), 5),
        "fit": record,
        "from_labels": from_labels,
        "gap": judging.excess(level, density),
        "gap_labels": judging.excess(level, labelled),
        "over_labels": round(record["elbo"] - from_labels["elbo"], 2),
    }
    # Two products of N x D with D x (K D) a step.
    steps = min(50, int(_EM_WORK / (2.0 * rows * dim * dim * count)))
    if steps >= 5:
        (oracle, done), cost = judging.timed(lambda: em(truth, x, iterations=steps))
        best = oracle.log_density(test)
        document |= {
            "gap_oracle": judging.excess(level, best),
            "behind_oracle": judging.excess(best, density),
            "oracle": {"iterations": done, **cost},
        }
    return document


def verdict(one: dict[str, Any]) -> str:
    """Whether the targets were reached, and why not."""
    found, true = one["fit"]["found_k"], one["true_k"]
    words = []
    if abs(found - true) > SHARE * true:
        reached = one["from_labels"]["found_k"]
        if one["over_labels"] >= -1.0:
            words.append(f"K: the true labels (then {reached}) have no higher bound")
        else:
            words.append(f"K MISSED: the true labels (then {reached}) have a higher bound")
    elif one["over_labels"] < -1.0:
        words.append("bound below that of the labels")
    best = one.get("gap_oracle", one["gap_labels"])
    behind = one["gap"]["mean"] - best["mean"]
    if not behind <= CLOSE:
        words.append(f"density {behind:.3f} behind the oracle")
    return "; ".join(words) or "reached"


def table(document: dict[str, Any]) -> str:
    """One row for each cell."""
    cells = sorted(document["cells"], key=lambda one: (one["rows"], one["dim"], one["true_k"]))
    rows = []
    for one in cells:
        fit, oracle = one["fit"], one.get("gap_oracle")
        rows.append(
            [
                f"{one['rows']:,}", one["dim"], one["true_k"], fit["found_k"], one["from_labels"]["found_k"],
                _gap(one["gap"]), _gap(oracle), _gap(one["gap_labels"]), one["over_labels"],
                fit["seconds"], fit["cpu_seconds"], fit["passes"], fit["rounds"], fit["load"], verdict(one),
            ]
        )  # fmt: skip
    columns = [
        "N", "D", "K", "found K", "K from labels", "gap to truth", "oracle's gap", "labels' gap",
        "ELBO over labels", "seconds", "cpu s", "passes", "rounds", "load", "verdict",
    ]  # fmt: skip
    done = {one["cell"] for one in cells}
    left = [name for name in (f"{n}x{d}x{k}" for n, d, k in CELLS) if name not in done]
    head = f"""# A ladder of mixtures with known density

Made by `python -m benchmarks.ladder`; do not edit. K_max = 2K, everything else at its default, one seed. Gaps
are in nats per row of {FRESH:,} fresh rows, with their standard error in brackets; *oracle* is EM from the
true parameters, *labels* our own fit from the true labels, which may only merge. Passes are those of the
training that follows the search, rounds those of the search. Seconds contain compilation.
{judging.SHARED}

"""
    tail = f"\nNot run: {', '.join(left)}.\n" if left else ""
    return head + judging.markdown(columns, rows) + tail


def _gap(one: dict[str, float] | None) -> str | None:
    return None if one is None else f"{one['mean']:.4f} ({one['se']:.4f})"


def cell(text: str) -> tuple[int, int, int]:
    """``NxDxK`` as numbers.

    Example:
        >>> cell("2000x2x5")
        (2000, 2, 5)
    """
    if not re.fullmatch(r"\d+x\d+x\d+", text):
        raise ValueError(f"{text}: a cell is NxDxK, such as 2000x2x5")
    rows, dim, count = (int(part) for part in text.split("x"))
    return rows, dim, count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run cells, writing after each: a ladder that is cut short keeps what it has."""
    parser = judging.options(__doc__, "ladder")
    parser.add_argument("--cells", nargs="+", type=cell, default=CELLS, help="NxDxK; the others are kept")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    sizes = {"fresh": 2_000} if chosen.quick else {}
    text = ""
    for rows, dim, count in ((1_000, 2, 3),) if chosen.quick else chosen.cells:
        judging.forget((rows, dim, count))
        one = run_cell(rows, dim, count, seed=chosen.seed, **sizes)
        print(one["cell"], one["fit"], _gap(one["gap"]), one["over_labels"], verdict(one), flush=True)
        document = {"cells": judging.merged(chosen.out, "ladder", "cells", [one], "cell")}
        text = table(document)
        judging.write(chosen.out, "ladder", document, text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
