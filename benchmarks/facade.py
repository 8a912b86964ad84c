"""One import changed: scikit-learn's `BayesianGaussianMixture` and the estimator of that name in vigmm.

    python -m benchmarks.facade                      # writes benchmarks/results/facade.json and facade.md
    python -m benchmarks.facade --sets china --rows 20000 --repeats 5

Both get the same float64 rows, `n_components` and `random_state`, and everything else at its default. They
alternate within a repeat: *theirs*, then ours *cold*, with every program to compile, then ours *warm*,
another fit of the same shape from another seed. A ratio is the median of the ratios within a repeat, so that
a change of the machine's load meets both sides.

The held-out density of scikit-learn is that of the mixture it reports (`weights_`, `means_`, `covariances_`),
because its `score` is no density; ours is `score_samples`, the posterior predictive density.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from benchmarks import judging
from benchmarks.gaussians import Gaussians, dense
from benchmarks.protocol import Array

__all__ = ["SETS", "Set", "main", "run", "summary", "table"]

ROWS = (20_000, 200_000)
HELD_OUT = 20_000
QUICK_ROWS = 1_000


@dataclass(frozen=True)
class Set:
    """Where rows come from.

    Args:
        about: in a few words.
        components: `n_components`.
        rows: makes so many rows, in random order.
    """

    about: str
    components: int
    rows: Callable[[int], Array]


def _mixture(count: int) -> Array:
    from vigmm.data.synthetic import gaussian_mixture

    return gaussian_mixture(count, 8, 10, seed=0, dtype=np.float64).x


def _china(count: int) -> Array:
    from sklearn.datasets import load_sample_image

    pixels = np.asarray(load_sample_image("china.jpg"), np.float64).reshape(-1, 3)
    return np.random.default_rng(0).permutation(pixels)[:count]


SETS = {
    "mixture": Set("rows of 10 overlapping Gaussians in 8 columns", 10, _mixture),
    "china": Set("pixels of a photograph, 3 columns", 8, _china),
}


def run(name: str, rows: int, repeats: int, held_out: int = HELD_OUT) -> dict[str, Any]:
    """All repeats of one set and size."""
    import jax
    from sklearn.exceptions import ConvergenceWarning

    chosen = SETS[name]
    x = chosen.rows(rows + held_out)
    train, test = x[:rows], x[rows:]
    made: list[dict[str, Any]] = []
    for seed in range(repeats):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # recorded instead
            theirs, density = _theirs(train, test, chosen.components, seed)
            jax.clear_caches()  # type: ignore[no-untyped-call]
            cold, own = _ours(train, test, chosen.components, seed)
            warm, _ = _ours(train, test, chosen.components, seed + repeats)
        record = {"seed": seed, "theirs": theirs, "cold": cold, "warm": warm}
        made.append({**record, "gain": judging.excess(own, density)})
        print(name, rows, json.dumps(made[-1]), flush=True)
    record = {"set": f"{name} {rows}", "name": name, "about": chosen.about, "rows": rows}
    record |= {"columns": train.shape[1], "held_out": held_out, "components": chosen.components}
    return {**record, "summary": summary(made), "repeats": made}


def _theirs(train: Array, test: Array, components: int, seed: int) -> tuple[dict[str, Any], Array]:
    from sklearn.mixture import BayesianGaussianMixture

    model = BayesianGaussianMixture(n_components=components, random_state=seed)
    _, cost = judging.timed(lambda: model.fit(train))
    reported = Gaussians(model.weights_, model.means_, dense(model.covariances_))
    density = np.asarray(reported.log_density(test), np.float64)
    return _record(model, cost, density), density


def _ours(train: Array, test: Array, components: int, seed: int) -> tuple[dict[str, Any], Array]:
    from vigmm.sklearn import BayesianGaussianMixture

    model = BayesianGaussianMixture(n_components=components, random_state=seed)
    _, cost = judging.timed(lambda: model.fit(train))
    density = np.asarray(model.score_samples(test), np.float64)
    return _record(model, cost, density) | {
        "elbo_per_row": round(model.lower_bound_ / len(train), 5)
    }, density


def _record(model: Any, cost: dict[str, float], density: Array) -> dict[str, Any]:
    about = {"iterations": int(model.n_iter_), "converged": bool(model.converged_)}
    return {**cost, **about, "held_out": round(float(density.mean()), 5)}


def summary(repeats: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over repeats; of ratios and gains, which are paired, the extremes too."""
    out: dict[str, Any] = {}
    for side in ("theirs", "cold", "warm"):
        mine = [one[side] for one in repeats]
        out[side] = {
            key: median(one[key] for one in mine) for key in ("seconds", "cpu_seconds", "held_out")
        } | {"converged": sum(one["converged"] for one in mine)}
    for side in ("cold", "warm"):
        for clock in ("seconds", "cpu_seconds"):
            ratios = [one["theirs"][clock] / max(one[side][clock], 1e-3) for one in repeats]
            out[f"{side}_{clock}_ratio"] = _spread(ratios, 1)
    out["gain"] = _spread([one["gain"]["mean"] for one in repeats], 4)
    return out


def _spread(values: Sequence[float], digits: int) -> dict[str, float]:
    found = {"median": median(values), "min": min(values), "max": max(values)}
    return {name: round(value, digits) for name, value in found.items()}


def table(document: dict[str, Any]) -> str:
    """One row for each set and size."""
    rows = []
    for one in document["sets"]:
        all_of = one["summary"]
        loads = [repeat["theirs"]["load"] for repeat in one["repeats"]]
        sides = [all_of[side] for side in ("theirs", "cold", "warm")]
        rows.append(
            [
                one["name"], f"{one['rows']:,}", one["columns"], one["components"], len(one["repeats"]),
                *(round(side["seconds"], 1) for side in sides),
                *(round(side["cpu_seconds"], 1) for side in sides),
                _range(all_of["cold_cpu_seconds_ratio"]), _range(all_of["warm_cpu_seconds_ratio"]),
                f"{all_of['theirs']['held_out']:.4f}", f"{all_of['cold']['held_out']:.4f}",
                _range(all_of["gain"], sign=True),
                f"{all_of['theirs']['converged']} / {all_of['cold']['converged']}",
                f"{min(loads):.0f} to {max(loads):.0f}",
            ]
        )  # fmt: skip
    columns = [
        "rows of", "N", "D", "K", "runs", "sklearn s", "first s", "later s", "sklearn CPU s", "first CPU s",
        "later CPU s", "first: times less CPU", "later: times less CPU", "sklearn held out", "held out",
        "gain", "converged", "load",
    ]  # fmt: skip
    head = f"""# One import changed

Made by `python -m benchmarks.facade`; do not edit. scikit-learn's `BayesianGaussianMixture` and vigmm's on
the same float64 rows, everything but `n_components` and `random_state` at its default. *first* is a fit with
every program to compile, *later* one of the same shape after it; times are medians over runs. Densities are
means over held-out rows ({HELD_OUT:,} of them), in nats; the *gain*, ours less theirs, and the ratios are
paired within a run, with extremes. *converged*: in how many runs theirs and ours did.
{judging.SHARED}

"""
    return head + judging.markdown(columns, rows)


def _range(spread: dict[str, float], *, sign: bool = False) -> str:
    middle, least, most = (spread[name] for name in ("median", "min", "max"))
    form = "+.3f" if sign else ".3g"
    if least == most:
        return f"{middle:{form}}"
    return f"{middle:{form}} ({least:{form}} to {most:{form}})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, and write after every set and size."""
    parser = judging.options(__doc__, "facade")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="only these")
    parser.add_argument("--rows", nargs="+", type=int, default=list(ROWS), help="rows to fit")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of fits, each from another seed")
    chosen = parser.parse_args(arguments)
    sizes, repeats = ([QUICK_ROWS], 1) if chosen.quick else (chosen.rows, chosen.repeats)
    document: dict[str, Any] = {"sets": []}
    for rows in sizes:
        for name in chosen.sets[:1] if chosen.quick else chosen.sets:
            new = run(name, rows, repeats, QUICK_ROWS if chosen.quick else HELD_OUT)
            document["sets"] = judging.merged(chosen.out, "facade", "sets", [new], "set")
            judging.write(chosen.out, "facade", document, table(document))
    print(table(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
