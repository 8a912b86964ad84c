"""What scripts that judge the search for the number of components share: timed fits, scores, result files."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.protocol import Array
from benchmarks.provenance import provenance

__all__ = [
    "SHARED",
    "best_scores",
    "excess",
    "fit",
    "forget",
    "from_labels",
    "kurtosis_ratio",
    "markdown",
    "merged",
    "options",
    "timed",
    "write",
]

RESULTS = Path(__file__).resolve().parent / "results"

SHARED = (
    "Seconds were taken on a shared machine, where other work was running: *load* is the one-minute load\n"
    "average when a fit began, and seconds are honest only where it is far below the number of cores."
)

T = TypeVar("T")


def timed(call: Callable[[], T]) -> tuple[T, dict[str, float]]:
    """What `call` gives, its wall and processor seconds, and the load average when it began."""
    load = os.getloadavg()[0]
    wall, cpu = time.perf_counter(), time.process_time()
    made = call()
    cost = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu, "load": load}
    return made, {name: round(value, 3) for name, value in cost.items()}


def fit(x: Array, k_max: int, **choices: Any) -> tuple[Any, dict[str, Any]]:
    """A fit with everything at its default but `choices`, and its record.

    `choices` that a `Mixture` has (``weights``, ``covariance``) go there.
    """
    import vigmm
    from vigmm.core.specdict import to_dict

    inside = {name: choices.pop(name) for name in ("weights", "covariance") if name in choices}
    model = vigmm.Mixture(num_components=k_max, **inside)
    made, cost = timed(lambda: vigmm.fit(x, model=model, **choices))
    stages = made.manifest["notes"].get("moves", {}).get("stages", [])
    return made, {
        "k_max": k_max,
        "found_k": made.posterior.model.num_components,
        "covariance": to_dict(made.posterior.model)["covariance"]["kind"],
        "elbo": round(made.elbo.elbo, 3),
        "outcome": made.outcome.status.value,
        **cost,
        "passes": round(_passes(made, stages), 1),
        "rounds": sum(stage["rounds"] for stage in stages),
    }


def _passes(made: Any, stages: Sequence[Mapping[str, Any]]) -> float:
    """How often every row was read, by the search (where it says so) and by the training after it."""
    rows = made.context.rows().x.shape[0]
    trained = made.outcome.step * min(made.context.batch_size, rows) / rows
    return float(trained + sum(stage.get("passes", 0.0) * stage["rows"] / rows for stage in stages))


def from_labels(x: Array, k_max: int, labels: Array, **choices: Any) -> tuple[Any, dict[str, Any]]:
    """A fit from given labels (-1: none) whose moves are merges and deletions alone.

    Its bound is at least that of the given partition, and comparable with that of a search: same prior, same
    truncation. A search that ends below it has missed something.
    """
    from vigmm.train import LabelsStart, Moves

    return fit(x, k_max, start=LabelsStart(labels=labels), moves=Moves(rounds=0), **choices)


def best_scores(truths: Sequence[Array], found: Array) -> dict[str, float]:
    """Adjusted Rand index and normalised mutual information with the truth that fits best; noise dropped."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    def scores(of: Any) -> list[float]:
        return [round(float(of(truth[truth > 0], found[truth > 0])), 4) for truth in truths]

    ari, nmi = scores(adjusted_rand_score), scores(normalized_mutual_info_score)
    return {"ari": max(ari), "nmi": max(nmi), "ari_first": ari[0]}


def kurtosis_ratio(x: Array, labels: Array) -> float:
    """Mardia's kurtosis of the clusters, by its value for Gaussians: 1 means Gaussian.

    For a cluster of n rows with mean m and covariance S it is
    mean_i [(x_i - m)^T S^-1 (x_i - m)]^2 / (D (D + 2) (n - 1) / (n + 1)); clusters count by their rows.
    """
    total = rows = 0.0
    for label in np.unique(labels[labels > 0]):
        mine = x[labels == label]
        n, dim = mine.shape
        away = mine - mine.mean(0)
        cov = away.T @ away / n
        if n <= dim + 1 or np.linalg.matrix_rank(cov) < dim:
            continue
        square = np.einsum("nd,nd->n", away, np.linalg.solve(cov, away.T).T)
        total += n * float(np.mean(square**2)) / (dim * (dim + 2) * (n - 1) / (n + 1))
        rows += n
    return round(total / rows, 3) if rows else float("nan")


def excess(better: Array, worse: Array) -> dict[str, float]:
    """Mean of a paired difference over rows, and its standard error."""
    gap = np.asarray(better, np.float64) - np.asarray(worse, np.float64)
    return {"mean": round(float(gap.mean()), 5), "se": round(float(gap.std(ddof=1) / np.sqrt(len(gap))), 5)}


_shape: tuple[int, ...] | None = None


def forget(shape: tuple[int, ...]) -> None:
    """Drop compiled programs when data of another shape follow: no later fit uses them, and they add up."""
    import jax

    global _shape
    if shape != _shape:
        jax.clear_caches()  # type: ignore[no-untyped-call]
    _shape = shape


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; numbers to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    right = [
        any(isinstance(row[i], int | float) for row in rows) if rows else False for i in range(len(columns))
    ]
    rule = [" ---: " if numeric else " --- " for numeric in right]
    lines = ["| " + " | ".join(columns) + " |", "|" + "|".join(rule) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in cells)]) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def options(about: str | None, name: str) -> argparse.ArgumentParser:
    """A parser with what every script has: ``--quick`` and ``--out``."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=(about or "").split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="the smallest run that uses every part")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    return parser


def merged(
    folder: Path, name: str, part: str, new: Sequence[Mapping[str, Any]], key: str, keep: Sequence[str] = ()
) -> list[Mapping[str, Any]]:
    """The records of an earlier result file, those replaced whose `key` is among the new ones.

    What a new record does not have of the fields `keep`, it takes over from the old one.
    """
    file = folder / f"{name}.json"
    old = json.loads(file.read_text())[part] if file.exists() else []
    fresh = {one[key]: one for one in new}
    kept = [
        {**{field: one[field] for field in keep if field in one}, **fresh.pop(one[key], one)} for one in old
    ]
    return [*kept, *fresh.values()]


def write(folder: Path, name: str, document: Mapping[str, Any], text: str) -> None:
    """Write ``name.json``, provenance first, and ``name.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"provenance": provenance(), **document}
    (folder / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text.rstrip("\n") + "\n")
