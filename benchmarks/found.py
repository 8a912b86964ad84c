"""Whether the number of components that a fit ends with depends on where it starts.

    python -m benchmarks.found            # writes benchmarks/results/found.json and found.md

- *AsteriskK8* (5,000 rows, 8 Gaussians): K_max = 25 and starts with K in {1, 4, 8, 25} components, 5 seeds
  each. A start with K components sends every row to the nearest of K rows drawn at random (`MeansStart`). The
  default start is the fifth.
- *One Gaussian*: 10,000 rows of 2 and of 20 columns, K_max = 20, 5 seeds each, the default start.

Everything else is at its default.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks import judging, refdata
from benchmarks.protocol import Array

__all__ = ["main", "run", "table"]

STARTS = (1, 4, 8, 25)
SEEDS = 5


def _from_rows(x: Array, count: int, seed: int) -> Any:
    """A start with the means at `count` random rows."""
    from vigmm.train import MeansStart

    chosen = x[np.random.default_rng(seed).choice(len(x), count, replace=False)]
    return MeansStart(means=tuple(tuple(row) for row in chosen.tolist()))


def asterisk(starts: Sequence[int | None], seeds: int, *, k_max: int = 25) -> Iterator[dict[str, Any]]:
    """Fits of AsteriskK8; a start of None is the default."""
    x, truth = refdata.asterisk()
    labels = truth - truth.min() + 1
    for count in starts:
        for seed in range(seeds):
            chosen = {} if count is None else {"start": _from_rows(x, count, seed)}
            made, record = judging.fit(x, k_max, seed=seed, **chosen)
            yield {
                "data": "AsteriskK8",
                "true_k": 8,
                "start": "default" if count is None else f"{count} random rows",
                "seed": seed,
                **record,
                **judging.best_scores([labels], made.posterior.predict(x)),
            }


def one_gaussian(rows: int, dims: Sequence[int], seeds: int, *, k_max: int = 20) -> Iterator[dict[str, Any]]:
    """Fits of a single Gaussian of any covariance."""
    from vigmm.data.synthetic import gaussian_mixture

    for dim in dims:
        for seed in range(seeds):
            x = gaussian_mixture(rows, dim, 1, seed=seed).x
            _, record = judging.fit(x, k_max, seed=seed)
            name = f"one Gaussian, D = {dim}"
            yield {"data": name, "true_k": 1, "start": "default", "seed": seed, **record}


def run(*, quick: bool = False) -> dict[str, Any]:
    """All fits, and why any were left out."""
    skipped = {}
    fits = []
    why = refdata.missing("bnpy/AsteriskK8.npz")
    if why:
        skipped["AsteriskK8"] = why
        print(f"AsteriskK8 skipped: {why}")
    else:
        for record in asterisk((4,) if quick else (*STARTS, None), 1 if quick else SEEDS):
            fits.append(_told(record))
    sizes = (1_000, (2,), 1) if quick else (10_000, (2, 20), SEEDS)
    for record in one_gaussian(*sizes, k_max=8 if quick else 20):
        fits.append(_told(record))
    return {"fits": fits, "skipped": skipped}


def _told(record: dict[str, Any]) -> dict[str, Any]:
    print(record, flush=True)
    return record


def table(document: dict[str, Any]) -> str:
    """One row for each data set and start."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in document["fits"]:
        groups.setdefault((one["data"], one["start"]), []).append(one)
    rows = []
    for (data, start), fits in groups.items():
        exact = sum(one["found_k"] == one["true_k"] for one in fits)
        first, rest = fits[0], fits[1:]
        rows.append(
            [
                data, start, fits[0]["k_max"], ", ".join(str(one["found_k"]) for one in fits),
                f"{exact} of {len(fits)}", min(one["ari"] for one in fits) if "ari" in first else None,
                round(first["seconds"], 1),
                _middle(rest, "seconds"), _middle(rest, "cpu_seconds"),
                first["load"],
            ]
        )  # fmt: skip
    columns = [
        "data", "start", "K_max", "found K, by seed", "exact", "lowest ARI",
        "first s", "later s", "later cpu s", "load",
    ]  # fmt: skip
    head = (
        "# The number of components does not depend on the start\n\nMade by `python -m benchmarks.found`; "
        "everything at its default. The first fit of a row may compile, the later ones (median) do not.\n"
        f"{judging.SHARED}\n\n"
    )
    tail = "".join(f"\nLeft out: {name}: {why}.\n" for name, why in document["skipped"].items())
    return head + judging.markdown(columns, rows) + tail


def _middle(fits: Sequence[dict[str, Any]], name: str) -> float | None:
    return round(float(np.median([one[name] for one in fits])), 2) if fits else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, print and write."""
    parser = judging.options(__doc__, "found")
    chosen = parser.parse_args(arguments)
    document = run(quick=chosen.quick)
    text = table(document)
    print(text)
    judging.write(chosen.out, "found", document, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
