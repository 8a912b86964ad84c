"""Cost of a pass per row as the number of components grows: ``python -m benchmarks.largek``.

All components against few of them (`Natural(candidates=C)`), on rows of as many clusters as components. Both
are timed in turn, in one process, everything compiled before; the few's bound is told beside that of all.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.provenance import provenance
from vigmm.core.typing import Batch
from vigmm.estimators import Natural
from vigmm.families import Conjugate
from vigmm.models import COVARIANCES, DataScale, Mixture
from vigmm.train.starts.statistics import posterior_of_labels

OUT = Path(__file__).resolve().parent / "results"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.largek", description=__doc__.split("\n")[0])
    parser.add_argument("--components", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--rows", type=int, default=65_536)
    parser.add_argument("--dim", type=int, default=16)
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--covariance", choices=("full", "diag", "spherical"), default="full")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--most", type=int, default=1024, help="all components are not timed beyond so many")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    where = provenance()
    cells = [_cell(num, options) for num in options.components]
    name = "largek" if options.covariance == "full" else f"largek_{options.covariance}"
    settings = {key: value for key, value in vars(options).items() if key != "out"}
    text = _table(cells, settings)
    print(text)
    options.out.mkdir(parents=True, exist_ok=True)
    result = {"settings": settings, "provenance": where, "cells": cells}
    (options.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (options.out / f"{name}.md").write_text(text)


def _cell(num: int, options: argparse.Namespace) -> dict[str, Any]:
    model, prior, batch, params = _problem(num, options)
    family = Conjugate()

    def estimate(candidates: int | None) -> Callable[[], Any]:
        natural = Natural(candidates=candidates)
        one = jax.jit(lambda params, batch: natural.estimate(model, family, params, prior, batch, KEY))
        return lambda: jax.block_until_ready(one(params, batch))  # type: ignore[no-untyped-call]

    ways = {"few": estimate(options.candidates)}
    if num <= options.most:
        ways["all"] = estimate(None)
    bounds = {name: float(run().elbo) / options.rows for name, run in ways.items()}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(options.repeats):
        for name, run in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            took[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    cell: dict[str, Any] = {"components": num}
    for name in ways:
        wall, cpu = np.median(np.asarray(took[name]), axis=0) / options.rows * 1e6
        cell[name] = {
            "us_per_row": round(float(wall), 3),
            "cpu_us_per_row": round(float(cpu), 3),
            "elbo_per_row": round(bounds[name], 5),
        }
    return cell


KEY = jax.random.key(0)


def _problem(num: int, options: argparse.Namespace) -> tuple[Mixture, Any, Batch, Any]:
    """Clusters of unequal shapes that touch, and the posterior of the partition that made them."""
    draw = np.random.default_rng(num)
    labels = draw.integers(0, num, options.rows)
    # Apart by a few sds however many there are: distances in 16 columns hardly depend on their number.
    x = draw.normal(size=(num, options.dim))[labels]
    x = x + 0.3 * draw.uniform(0.5, 1.5, (num, options.dim))[labels] * draw.normal(size=x.shape)
    model = Mixture(num_components=num, covariance=COVARIANCES[options.covariance]())
    scale = DataScale(
        mean=x.mean(0), cov=np.cov(x.T), center=np.zeros(options.dim), scale=np.ones(options.dim)
    )
    prior = model.build_prior(scale, dtype=jnp.float32)
    batch = Batch(x=jnp.asarray(x, jnp.float32), weight=jnp.ones(options.rows, jnp.float32))
    keep = jnp.ones(options.rows, jnp.float32)
    params, _ = posterior_of_labels(model, prior, batch, jnp.asarray(labels, jnp.int32), keep)
    return model, prior, batch, params


def _table(cells: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    head = (
        "# Cost per row against the number of components\n\n"
        f"{settings['rows']:,} rows, {settings['dim']} columns, covariance {settings['covariance']},"
        f" {settings['candidates']} candidates; medians of {settings['repeats']}; microseconds per row of a"
        " pass (responsibilities, statistics and the step's work for each component).\n\n"
        "| K | few | CPU | all | CPU | ELBO per row: few | all |\n|---|---|---|---|---|---|---|\n"
    )
    rows = []
    for cell in cells:
        few, every = cell["few"], cell.get("all")
        all_cells = f"{every['us_per_row']} | {every['cpu_us_per_row']}" if every else "not run | "
        rows.append(
            f"| {cell['components']} | {few['us_per_row']} | {few['cpu_us_per_row']} | {all_cells}"
            f" | {few['elbo_per_row']} | {every['elbo_per_row'] if every else ''} |"
        )
    return head + "\n".join(rows) + "\n"


if __name__ == "__main__":
    main()
