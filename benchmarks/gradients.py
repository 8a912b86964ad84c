"""Quality of gradients: ``python -m benchmarks.gradients`` writes results/gradients.json and gradients.md.

For every estimator and family, at the start of a run and near its end, over many keys on one fixed batch:

- *noise*: expected squared distance of a gradient from its mean, in the metric of the inverse Fisher
  information (so that it does not depend on units), times the number of draws S: the cost of one draw at
  equal work;
- *signal-to-noise*: squared norm of the mean gradient over the noise of one estimate, same metric; null
(exact)
  where there is no noise;
- *ELBO sd*: standard deviation of the ELBO estimate, in nats.

Families without a known Fisher information are measured in the plain metric and marked so. With --families
only those are measured; the rows of the others stay as they are in the file, where the problem is the same.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vigmm
from benchmarks.provenance import provenance
from vigmm.core.typing import Batch
from vigmm.data.synthetic import gaussian_mixture
from vigmm.estimators import ESTIMATORS, Estimator, Importance, Objective, Pathwise, Score
from vigmm.families import FAMILIES, ClosedEntropy, Conjugate, Family
from vigmm.models import Mixture
from vigmm.train import Train

__all__ = ["measure", "merged"]

OUT = Path(__file__).resolve().parent / "results"
KEYS = 400
ROWS, DIM, K = 2_000, 4, 4

ESTIMATORS_AT_TEST: dict[str, Any] = {
    "pathwise, closed entropy": Pathwise(),
    "pathwise, sticking the landing": Pathwise(entropy="stl"),
    "pathwise S=8": Pathwise(num_samples=8),
    "pathwise S=8 antithetic": Pathwise(num_samples=8, noise="antithetic"),
    "pathwise S=8 quasi-Monte Carlo": Pathwise(num_samples=8, noise="qmc"),
    "STL S=8 quasi-Monte Carlo": Pathwise(num_samples=8, noise="qmc", entropy="stl"),
    "importance S=8, IWAE": Importance(num_samples=8, gradient="iwae"),
    "importance S=8, DReG": Importance(num_samples=8, gradient="dreg"),
    "score S=16": Score(num_samples=16),
}


def measure(
    objective: Objective, params: Any, prior: Any, batch: Batch, *, keys: int = KEYS, seed: int = 0
) -> dict[str, float | None]:
    """Noise, signal-to-noise and sd of the ELBO at `params`, over `keys` estimates from the same batch."""
    metric = objective.metric

    @jax.jit
    def run(params: Any, prior: Any, batch: Batch, keys: Any) -> tuple[Any, Any, Any]:
        def one(key: Any) -> tuple[Any, Any]:
            found = objective.estimate(params, prior, batch, key)
            return found.elbo, found.grads

        elbos, grads = jax.lax.map(one, keys)
        mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), grads)

        def square(grad: Any) -> Any:
            other = grad if metric is None else metric(params, grad)
            parts = jax.tree.map(lambda a, b: jnp.sum(a * b), grad, other)
            return jax.tree.reduce(jnp.add, parts)

        away = jax.lax.map(lambda g: square(jax.tree.map(jnp.subtract, g, mean)), grads)
        return elbos, square(mean), away

    elbos, mean, away = run(params, prior, batch, jax.random.split(jax.random.key(seed), keys))
    noise = float(jnp.sum(away) / (keys - 1))
    # The mean of `keys` estimates is itself noisy: what noise alone would make of its square is taken off.
    signal = max(float(mean) - noise / keys, 0.0)
    exact = noise <= 1e-12 * signal
    samples = getattr(objective.estimator, "num_samples", 1)
    return {
        "noise_per_draw": noise * samples,
        "signal_to_noise": None if exact else signal / noise,
        "elbo_sd": float(np.std(np.asarray(elbos, np.float64), ddof=1)),
        "elbo_mean": float(np.mean(np.asarray(elbos, np.float64))),
    }


def _points(
    family: Family, x: np.ndarray, model: Mixture, estimator: Estimator | None = None
) -> dict[str, tuple[Any, Any, Batch]]:
    """Parameters at the start of a run and after it, the prior and the whole batch."""
    made = {}
    for name, steps in (("start", 1), ("end", 1_500)):
        fit = vigmm.fit(
            x,
            model=model,
            family=family,
            estimator=estimator,
            train=Train(batch_size=len(x), holdout=0, min_steps=steps, passes=1, tolerance=0.0),
            dtype="float64",
        )
        rows = fit.context.rows()
        made[name] = (fit.posterior.params, fit.posterior.prior, Batch(x=rows.x, weight=rows.weight))
    return made


def _cases(family: Family, x: np.ndarray, model: Mixture) -> Iterator[tuple[str, Estimator, Any]]:
    """Every estimator at both ends of a run by gradients of draws; the natural one at those of its own."""
    natural = {"natural": ESTIMATORS["natural"]()}
    if isinstance(family, Conjugate):
        for point in _points(family, x, model).items():
            yield from ((label, one, point) for label, one in natural.items())
    for point in _points(family, x, model, Pathwise()).items():
        yield from ((label, one, point) for label, one in ESTIMATORS_AT_TEST.items())


def main() -> None:
    """Measure everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    options = parser.parse_args()
    problem = {"rows": ROWS, "dim": DIM, "components": K, "keys": options.keys}
    x = gaussian_mixture(ROWS, num_components=K, dim=DIM, seed=0).x
    model = Mixture(num_components=K)
    rows = []
    for name in options.families:
        family = FAMILIES[name]()
        closed = isinstance(family, ClosedEntropy)
        for label, estimator, (where, (params, prior, batch)) in _cases(family, x, model):
            try:
                objective = Objective(model=model, family=family, estimator=estimator)
            except vigmm.SpecError:
                continue
            with jax.enable_x64(True):
                found = measure(objective, params, prior, batch, keys=options.keys)
            metric = "Fisher" if objective.metric is not None else "plain"
            told = label if closed else label.replace("closed entropy", "entropy of draws")
            rows.append({"family": name, "where": where, "estimator": told, "metric": metric, **found})
            print(rows[-1], flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "gradients.json"
    result = merged(json.loads(path.read_text()) if path.exists() else None, problem, provenance(), rows)
    path.write_text(json.dumps(result, indent=1) + "\n")
    (options.out / "gradients.md").write_text(_table(problem, result["rows"]))


def merged(
    before: dict[str, Any] | None, problem: dict[str, int], where: dict[str, Any], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """The new rows, and those of families that were not measured again, each family with its provenance."""
    new = dict.fromkeys([row["family"] for row in rows], where)
    if before is None or before["problem"] != problem:
        return {"problem": problem, "provenance": new, "rows": rows}
    kept = [row for row in before["rows"] if row["family"] not in new]
    every = {name: before["provenance"][name] for name in dict.fromkeys(row["family"] for row in kept)} | new
    ordered = sorted([*kept, *rows], key=lambda row: str(row["family"]))
    return {"problem": problem, "provenance": dict(sorted(every.items())), "rows": ordered}


def _table(problem: dict[str, int], rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Quality of gradients",
        "",
        f"Made by `python -m benchmarks.gradients`: {problem['rows']} rows of {problem['dim']} columns, "
        f"K = {problem['components']}, full batch, float64, {problem['keys']} keys. "
        "Noise is per draw (times S), in the metric named; signal-to-noise is of one estimate.",
        "",
        "| family | where | estimator | noise per draw | signal-to-noise | ELBO sd | metric |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['family']} | {row['where']} | {row['estimator']} | {row['noise_per_draw']:.4g} | "
            f"{_ratio(row['signal_to_noise'])} | {row['elbo_sd']:.3g} | {row['metric']} |"
        )
    return "\n".join(lines) + "\n"


def _ratio(value: float | None) -> str:
    return "exact" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
