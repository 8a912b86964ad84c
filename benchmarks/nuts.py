"""Posterior means and standard deviations of variational families against NUTS on the same model and prior.

    python -m benchmarks.nuts                     # writes benchmarks/results/nuts.json, prints the table

NUTS runs on the model that `vigmm.to_numpyro` builds from NumPyro's own distributions, started at the fit's
centre so that labels agree. Families are fitted by pathwise gradients on the full batch; ``conjugate`` is
coordinate ascent, with the assignments in the mean field.

For every weight, component mean and component standard deviation the table has

    shift = (mean under q - mean under NUTS) / sd under NUTS,   ratio = sd under q / sd under NUTS.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["CASES", "Case", "Comparison", "compare", "table"]

REFS = Path(__file__).resolve().parent.parent.parent / "shared" / "refs" / "small"
RESULTS = Path(__file__).resolve().parent / "results" / "nuts.json"

FAMILIES = ("blocks", "fullrank", "conjugate")
DRAWS = 20_000


@dataclasses.dataclass(frozen=True)
class Case:
    """A data set with a model.

    Args:
        rows: makes the data.
        num_components: K.
        covariance: row of `COVARIANCES`.
        steps: steps of each variational fit.
        samples: draws that each NUTS chain keeps.
        refs: whether it reads reference data beside the checkout.
    """

    rows: Callable[[], np.ndarray]
    num_components: int
    covariance: str = "full"
    steps: int = 3000
    samples: int = 1500
    refs: bool = False


def _overlap_1d() -> np.ndarray:
    rng = np.random.default_rng(7)
    return np.concatenate([rng.normal(-1.2, 0.8, (180, 1)), rng.normal(1.3, 0.7, (120, 1))])


def _overlap_5d() -> np.ndarray:
    rng = np.random.default_rng(11)
    mix = np.tril(0.4 * rng.normal(size=(2, 5, 5)), -1) + np.eye(5)
    first = rng.normal(size=(240, 5)) @ mix[0].T
    return np.concatenate([first, rng.normal(size=(160, 5)) @ mix[1].T + 1.1])


def _reference(name: str, columns: tuple[int, ...]) -> np.ndarray:
    with (REFS / name).open(newline="") as file:
        lines = list(csv.reader(file))[1:]
    return np.array([[float(line[i]) for i in columns] for line in lines])


CASES = {
    "overlap_1d": Case(_overlap_1d, 2, samples=2500),
    "faithful": Case(lambda: _reference("faithful.csv", (1, 2)), 2, refs=True),
    "iris": Case(lambda: _reference("iris.csv", (1, 2, 3, 4)), 3, "diag", refs=True),
    "overlap_5d": Case(_overlap_5d, 2),
}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Interpretable quantities of one case: names, NUTS's moments, and each family's shifts and ratios."""

    names: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    se: np.ndarray
    shift: dict[str, np.ndarray]
    ratio: dict[str, np.ndarray]
    seconds: dict[str, float]
    divergences: int
    rhat: float

    def plain(self) -> dict[str, Any]:
        """JSON-ready."""

        def rounded(values: np.ndarray) -> list[float]:
            return [round(float(v), 5) for v in values]

        return {
            "names": list(self.names),
            "nuts_mean": rounded(self.mean),
            "nuts_sd": rounded(self.sd),
            "nuts_se_of_mean_in_sd": rounded(self.se),
            "shift": {family: rounded(values) for family, values in self.shift.items()},
            "sd_ratio": {family: rounded(values) for family, values in self.ratio.items()},
            "seconds": {name: round(value, 2) for name, value in self.seconds.items()},
            "divergences": self.divergences,
            "max_rhat": round(self.rhat, 4),
        }


def compare(case: Case, families: tuple[str, ...] = FAMILIES, *, chains: int = 2) -> Comparison:
    """Fit every family and run NUTS."""
    import jax

    x = case.rows()
    fits, seconds = {}, {}
    for family in families:
        start = time.perf_counter()
        fits[family] = _fit(case, x, family)
        seconds[family] = time.perf_counter() - start
    first = fits[families[0]].posterior
    start = time.perf_counter()
    drawn, divergences, rhat, size = _nuts(case, first, x, chains)
    seconds["nuts"] = time.perf_counter() - start
    mean, sd = drawn.mean(0), drawn.std(0)
    shift, ratio = {}, {}
    for family, fit in fits.items():
        draws = fit.posterior.draw(jax.random.key(5), DRAWS)
        values = _quantities(draws.weights, draws.means, draws.covariances)
        shift[family], ratio[family] = (values.mean(0) - mean) / sd, values.std(0) / sd
    return Comparison(
        names=_names(case, x.shape[1]),
        mean=mean,
        sd=sd,
        se=1.0 / np.sqrt(size),
        shift=shift,
        ratio=ratio,
        seconds=seconds,
        divergences=divergences,
        rhat=rhat,
    )


def _fit(case: Case, x: np.ndarray, family: str) -> Any:
    import vigmm
    from vigmm.estimators import Pathwise
    from vigmm.families import FAMILIES as ROWS
    from vigmm.models import COVARIANCES

    model = vigmm.Mixture(
        num_components=case.num_components,
        weights=vigmm.Dirichlet(1.0),
        covariance=COVARIANCES[case.covariance](),
    )
    conjugate = family == "conjugate"
    return vigmm.fit(
        x,
        model=model,
        family=ROWS[family](),
        estimator=None if conjugate else Pathwise(num_samples=16, noise="qmc"),
        optimizer=vigmm.Sgd() if conjugate else vigmm.Adam(rate=0.02),
        train=vigmm.Train(
            batch_size=len(x),
            passes=case.steps,
            min_steps=case.steps,
            holdout=0.0,
            tolerance=0.0,
            chunk_steps=500,
        ),
        dtype="float64",
    )


def _nuts(
    case: Case, posterior: Any, x: np.ndarray, chains: int
) -> tuple[np.ndarray, int, float, np.ndarray]:
    """Draws of the quantities, divergences, the largest R-hat and the effective sizes."""
    import jax
    import jax.numpy as jnp
    from numpyro.diagnostics import effective_sample_size, gelman_rubin
    from numpyro.infer import MCMC, NUTS, init_to_value

    import vigmm
    from vigmm.interop import sites

    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        model = vigmm.to_numpyro(posterior)
        start = sites(posterior.model, posterior.prior, posterior.params.loc)
        mcmc = MCMC(
            NUTS(model, init_strategy=init_to_value(values=start), target_accept_prob=0.9),
            num_warmup=400,
            num_samples=case.samples,
            num_chains=chains,
            chain_method="sequential",
            progress_bar=False,
        )
        mcmc.run(jax.random.key(0), jnp.asarray(x), extra_fields=("diverging",))
        draws = mcmc.get_samples(group_by_chain=True)
        diverging = int(np.asarray(mcmc.get_extra_fields()["diverging"]).sum())
    by_chain = np.stack(
        [
            _quantities(*(np.asarray(draws[name][chain]) for name in ("weights", "means", "covariances")))
            for chain in range(chains)
        ]
    )
    flat = by_chain.reshape(-1, by_chain.shape[-1])
    return flat, diverging, float(np.max(gelman_rubin(by_chain))), effective_sample_size(by_chain)


def _quantities(weights: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    """S rows: weights, means and standard deviations of all components."""
    sds = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1))
    return np.concatenate([part.reshape(len(part), -1) for part in (weights, means, sds)], axis=1)


def _names(case: Case, dim: int) -> tuple[str, ...]:
    k = range(case.num_components)
    pairs = [(i, d) for i in k for d in range(dim)]
    return (
        *(f"weight[{i}]" for i in k),
        *(f"mean[{i},{d}]" for i, d in pairs),
        *(f"sd[{i},{d}]" for i, d in pairs),
    )


def table(found: dict[str, Comparison]) -> str:
    """The largest shift and the range of the sd ratios, by case and family."""
    lines = [
        f"{'case':12} {'family':10} {'max |shift|':>11} {'sd ratio: min':>14} {'median':>7} {'max':>6}      s"
    ]
    for case, one in found.items():
        for family, ratio in one.ratio.items():
            shift = np.abs(one.shift[family]).max()
            lines.append(
                f"{case:12} {family:10} {shift:11.3f} {ratio.min():14.3f} {np.median(ratio):7.3f} "
                f"{ratio.max():6.3f} {one.seconds[family]:6.1f}"
            )
        lines.append(
            f"{case:12} {'nuts':10} R-hat {one.rhat:.3f}, {one.divergences} divergent, "
            f"error of a mean <= {one.se.max():.3f} sd, {one.seconds['nuts']:.0f} s"
        )
    return "\n".join(lines)


def main() -> None:
    from benchmarks.provenance import provenance

    found = {name: compare(case) for name, case in CASES.items() if not case.refs or REFS.is_dir()}
    print(table(found))
    document = {"provenance": provenance(), "cases": {name: one.plain() for name, one in found.items()}}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
