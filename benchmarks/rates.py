"""Rules whose rate is right, ten times too large and ten times too small: ``python -m benchmarks.rates``.

Every rule fits the same problems with the same seeds; the table has the final ELBO with its standard error,
how many steps it took and, where the rule predicts it, how far below the best it ended. Writes
results/rates.json and rates.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import vigmm
from benchmarks.provenance import provenance

__all__ = ["PROBLEMS", "RULES"]

OUT = Path(__file__).resolve().parent / "results"
REFS = Path(__file__).resolve().parent.parent.parent / "shared" / "refs" / "small"

RULES: dict[str, Any] = {
    "Adam, cosine, 0.01 (the default)": vigmm.Adam(),
    "Adam, cosine, 0.1": vigmm.Adam(rate=0.1),
    "Adam, cosine, 0.001": vigmm.Adam(rate=0.001),
    "Adam, fixed, 0.1": vigmm.Adam(rate=0.1, decay="none"),
    "Adam, fixed, 0.001": vigmm.Adam(rate=0.001, decay="none"),
    "automatic": vigmm.Automatic(),
    "automatic, first rate 1": vigmm.Automatic(rate=1.0),
    "automatic, first rate 0.01": vigmm.Automatic(rate=0.01),
}


def _overlapping() -> np.ndarray:
    draw = np.random.default_rng(0)
    rows: np.ndarray = draw.normal(size=(400, 2)) + np.repeat([[0.0, 0.0], [3.0, 1.0]], 200, axis=0)
    return rows


def _many() -> np.ndarray:
    draw = np.random.default_rng(0)
    centres = 3.0 * draw.normal(size=(6, 4))
    return np.take(centres, draw.integers(6, size=20_000), axis=0) + draw.normal(size=(20_000, 4))


def _iris() -> np.ndarray:
    return np.genfromtxt(REFS / "iris.csv", delimiter=",", skip_header=1, usecols=(1, 2, 3, 4))


PROBLEMS: dict[str, tuple[Callable[[], np.ndarray], int, Any]] = {
    "400 rows, blocks": (_overlapping, 2, vigmm.Blocks()),
    "iris, meanfield": (_iris, 3, vigmm.MeanField()),
    "iris, fullrank": (_iris, 3, vigmm.FullRank()),
    "20,000 rows, meanfield": (_many, 6, vigmm.MeanField()),
}


def measure(problem: str, rule: Any, seed: int) -> dict[str, Any]:
    """One fit."""
    rows, count, family = PROBLEMS[problem]
    model = vigmm.Mixture(num_components=count, weights=vigmm.Dirichlet(concentration=1.0))
    begun = time.perf_counter()
    fit = vigmm.fit(rows(), model=model, family=family, optimizer=rule, seed=seed)
    gap = float(fit.metrics["gap"][-1]) if "gap" in fit.metrics else None
    return {
        "elbo": fit.elbo.elbo,
        "se": fit.elbo.se,
        "steps": fit.outcome.step,
        "status": fit.outcome.status.value,
        "gap": None if gap is None or np.isnan(gap) else gap,
        "seconds": time.perf_counter() - begun,
    }


def main() -> None:
    """Measure everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--problems", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    options = parser.parse_args()
    rows = []
    for problem in options.problems:
        for label, rule in RULES.items():
            for seed in range(options.seeds):
                rows.append({"problem": problem, "rule": label, "seed": seed, **measure(problem, rule, seed)})
                print(rows[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    made = {"provenance": provenance(), "rows": rows}
    (options.out / "rates.json").write_text(json.dumps(made, indent=1) + "\n")
    (options.out / "rates.md").write_text(_table(rows))


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Rates that are right, and rates that are not",
        "",
        "Made by `python -m benchmarks.rates`: final ELBO in nats (mean over seeds, and the mean of its "
        "standard errors), steps, how the runs ended, and the predicted distance from the best.",
        "",
        "| problem | rule | ELBO | se | steps | ended | gap |",
        "|---|---|---:|---:|---:|---|---:|",
    ]
    for problem, rule in dict.fromkeys((row["problem"], row["rule"]) for row in rows):
        same = [row for row in rows if (row["problem"], row["rule"]) == (problem, rule)]
        gaps = [row["gap"] for row in same if row["gap"] is not None]
        ends = ", ".join(sorted({row["status"] for row in same}))
        lines.append(
            f"| {problem} | {rule} | {np.mean([row['elbo'] for row in same]):.2f} | "
            f"{np.mean([row['se'] for row in same]):.2f} | {np.mean([row['steps'] for row in same]):.0f} | "
            f"{ends} | {f'{np.mean(gaps):.2f}' if gaps else ''} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
