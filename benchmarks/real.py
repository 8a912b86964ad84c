"""Held-out density of real tables against the floors that EM reaches.

    python -m benchmarks.real            # writes benchmarks/results/real.json and real.md
    python -m benchmarks.real --sets china

Columns are z-scored (sd with ddof 0) over all rows; the first 80 % of `default_rng(0).permutation(N)` are
for training. The floors are EM's, full covariances, at a K that is given. Two fits, everything else at its
default:

- *at K*: all K components in use (a Dirichlet prior of concentration 1 leaves none empty);
- *found*: K_max = 2K, and the search decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import judging, refdata
from benchmarks.protocol import Array

__all__ = ["main", "run_table", "split", "table"]


def split(x: Array) -> tuple[Array, Array]:
    """Standardised rows: 80 % to train, the rest to test."""
    z = (x - x.mean(0)) / x.std(0)
    order = np.random.default_rng(0).permutation(len(z))
    cut = int(0.8 * len(z))
    return z[order[:cut]], z[order[cut:]]


def run_table(name: str, real: refdata.Real) -> dict[str, Any]:
    """Both fits of one table."""
    import vigmm

    judging.forget((real.num_components,))
    train, test = split(real.read())
    settings = {
        "at_k": (real.num_components, {"weights": vigmm.Dirichlet(concentration=1.0)}),
        "found": (2 * real.num_components, {}),
    }
    document: dict[str, Any] = {
        "table": name,
        "rows": len(train) + len(test),
        "dim": train.shape[1],
        "unique": len(np.unique(train, axis=0)),
        "k": real.num_components,
        "floor_train": real.train,
        "floor_test": real.test,
    }
    for label, (count, chosen) in settings.items():
        made, record = judging.fit(train, count, **chosen)
        densities = {
            part: np.asarray(made.posterior.log_predictive(rows), np.float64)
            for part, rows in (("train", train), ("test", test))
        }
        record |= {part: round(float(values.mean()), 5) for part, values in densities.items()}
        record["test_se"] = round(float(densities["test"].std() / np.sqrt(len(test))), 5)
        document[label] = record
        print(name, label, record, flush=True)
    return document


def table(document: dict[str, Any]) -> str:
    """One row for each table."""
    rows = []
    for one in document["tables"]:
        fixed, found = one["at_k"], one["found"]
        rows.append(
            [
                one["table"], f"{one['rows']:,}", one["dim"], one["k"], f"{one['floor_test']:.4f}",
                f"{fixed['test']:.4f}", f"{fixed['test'] - one['floor_test']:+.4f}", found["found_k"],
                f"{found['test']:.4f}", f"{found['test'] - one['floor_test']:+.4f}",
                f"{fixed['test_se']:.4f}",
                round(fixed["seconds"], 1), round(found["seconds"], 1), round(found["cpu_seconds"], 1),
                found["load"],
            ]
        )  # fmt: skip
    columns = [
        "table", "N", "D", "K", "floor", "at K", "over floor", "found K", "found", "over floor", "se",
        "s at K", "s found", "cpu s found", "load",
    ]  # fmt: skip
    head = f"""# Real tables

Made by `python -m benchmarks.real`; do not edit. Mean log density per held-out row (20 %) in nats, columns
z-scored; the floor is EM's at K. *at K* must use K components, *found* has K_max = 2K; the standard error is
that of the mean over rows, which the floor shares. Seconds contain compilation.
{judging.SHARED}

"""
    tail = "".join(f"\nLeft out: {name}: {why}.\n" for name, why in document["skipped"].items())
    return head + judging.markdown(columns, rows) + tail


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit and write after every table; ``--quick`` takes a corner of the picture alone."""
    parser = judging.options(__doc__, "real")
    parser.add_argument("--sets", nargs="+", choices=refdata.REAL, help="only these; the others are kept")
    chosen = parser.parse_args(arguments)
    document: dict[str, Any] = {"tables": [], "skipped": {}}
    for name, real in refdata.REAL.items():
        if (chosen.quick and name != "china") or (chosen.sets and name not in chosen.sets):
            continue
        why = None if real.file is None else refdata.missing(real.file)
        if why is None:
            new = run_table(name, refdata.corner(real) if chosen.quick else real)
            document["tables"] = judging.merged(chosen.out, "real", "tables", [new], "table")
        else:
            document["skipped"][name] = why
            print(f"{name} skipped: {why}")
        judging.write(chosen.out, "real", document, table(document))
    print(table(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
