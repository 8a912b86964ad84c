"""How far to trust a fit: each measure with a verdict and a sentence of what it means."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vigmm.core import rng
from vigmm.core.effort import pass_work, program
from vigmm.core.errors import SpecError
from vigmm.core.struct import require
from vigmm.core.typing import Batch, PRNGKey
from vigmm.data.sampler import Rows
from vigmm.estimators import Objective
from vigmm.families import Blockwise
from vigmm.models import Prior
from vigmm.posterior import findings, weighing
from vigmm.posterior.checks import Check, predictive_checks, prior_checks
from vigmm.posterior.divergences import divergences
from vigmm.posterior.draws import Draws, from_positions
from vigmm.posterior.evidence import ElboReport
from vigmm.posterior.findings import Finding
from vigmm.posterior.psis import USABLE, Smoothed, smooth
from vigmm.posterior.units import log_volume

if TYPE_CHECKING:
    from vigmm.posterior.posterior import Posterior

__all__ = ["Diagnosis", "diagnose", "weighed"]

# Numbers read (draws x rows x components x columns^2) that a diagnosis may spend on importance weights.
_BUDGET = 4e10
_FEWEST, _MOST = 32, 1024
_BLOCK_DRAWS = 256
_GRADIENTS = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Diagnosis:
    """What `diagnose` found; print it.

    Args:
        findings: every measure, the most important first.
        terms: the parts of the ELBO in nats, in the units of the data.
        blocks: k-hat of each block by name.
        predictive: posterior predictive checks.
        prior: prior predictive checks, None where the prior cannot be drawn from in closed form.
        weights: smoothed importance weights of `num_draws` draws.
        num_draws: how many.
        draws: these draws, for `resample`; of a model that is no mixture, values of its sites.
    """

    findings: tuple[Finding, ...]
    terms: dict[str, float]
    blocks: dict[str, float]
    predictive: tuple[Check, ...]
    prior: tuple[Check, ...] | None
    weights: Smoothed
    num_draws: int
    draws: Draws | dict[str, np.ndarray] = dataclasses.field(repr=False)

    @property
    def khat(self) -> float:
        """Overall Pareto k-hat."""
        return self.weights.khat

    def __getitem__(self, name: str) -> Finding:
        found = [finding for finding in self.findings if finding.name == name]
        if not found:
            raise KeyError(f"{name}; there are {', '.join(finding.name for finding in self.findings)}")
        return found[0]

    def resample(self, n: int, *, seed: int = 0) -> Any:
        """Draws resampled by their importance weights: closer to the posterior than q is.

        Args:
            n: how many, with replacement.
            seed: fixes the choice.

        Raises:
            SpecError: if k-hat is above 0.7: the weights are then no use.
        """
        require(n >= 1, "n", ">= 1", n)
        if not self.khat <= USABLE:
            raise SpecError("khat", f"<= {USABLE} for draws to be resampled", round(self.khat, 2))
        weights = np.exp(self.weights.log_weights)
        chosen = np.random.default_rng(seed).choice(len(weights), size=n, p=weights / weights.sum())
        if isinstance(self.draws, dict):
            return {name: values[chosen] for name, values in self.draws.items()}
        fields = {field.name: getattr(self.draws, field.name)[chosen] for field in dataclasses.fields(Draws)}
        return Draws(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready."""
        return {
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "terms": self.terms,
            "blocks": self.blocks,
            "predictive": [dataclasses.asdict(check) for check in self.predictive],
            "prior": None if self.prior is None else [dataclasses.asdict(check) for check in self.prior],
            "num_draws": self.num_draws,
            "effective_draws": self.weights.effective_draws,
        }

    def __str__(self) -> str:
        lines = []
        for found in self.findings:
            error = f" ± {found.se:.3g}" if math.isfinite(found.se) and found.se > 0 else ""
            lines.append(f"[{found.verdict:>7}] {found.name}: {found.value:.5g}{error}. {found.meaning}")
        return "\n".join(lines)


def diagnose(
    objective: Objective,
    posterior: Posterior,
    rows: Rows,
    sample: Float[np.ndarray, "n D"],
    bound: ElboReport,
    *,
    batch_size: int,
    num_draws: int | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Measure how far a posterior can be trusted.

    Args:
        objective: model, family and estimator.
        posterior: the posterior.
        rows: the standardised rows that were fitted, with their weights.
        sample: some rows in the units of the data, for the predictive checks.
        bound: the final ELBO.
        batch_size: rows per step of the run.
        num_draws: draws for importance weights, each read against all rows; ``None``: as many as a budget
            allows.
        seed: fixes the draws.
    """
    key = rng.stream(rng.root_key(seed), "diagnose")
    model = objective.model
    params, prior = posterior.params, posterior.prior
    draws = _affordable(objective, rows, num_draws)
    positions, log_ratios = weighing.ratios(objective, params, prior, rows, rng.stream(key, "ratios"), draws)
    weights = smooth(log_ratios - log_volume(rows, posterior.scale))
    blocks = _blocks(objective, posterior, rows, key, positions)
    parted = divergences(model, objective.family, params, prior, positions)
    sizes = from_positions(posterior, positions)
    checks = predictive_checks(posterior, sample, rng.stream(key, "predictive"))
    conflict = prior_checks(posterior, sample, rng.stream(key, "prior"))
    told = [
        findings.khat(weights, len(log_ratios)),
        *findings.blocks_khat(blocks),
        findings.elbo(bound),
        *findings.divergences(parted),
        *findings.evidence(weights, bound, model.num_components),
        _signal(objective, params, prior, rows, key, batch_size, posterior.dtype),
        findings.effective(sizes),
        findings.surprise(
            "posterior predictive", list(checks), "the model reproduces", "the model does not reproduce"
        ),
    ]
    if conflict is not None:
        told.append(
            findings.surprise("prior", conflict, "the prior expects data like", "the prior did not expect")
        )
    return Diagnosis(
        findings=tuple(told),
        terms=bound.terms,
        blocks=blocks,
        predictive=tuple(checks),
        prior=None if conflict is None else tuple(conflict),
        weights=weights,
        num_draws=len(log_ratios),
        draws=sizes,
    )


def weighed(
    objective: Objective,
    params: Any,
    prior: Prior,
    rows: Rows,
    bound: ElboReport,
    values: Callable[[Any], dict[str, np.ndarray]],
    *,
    batch_size: int,
    dtype: str,
    num_draws: int | None = None,
    seed: int = 0,
) -> Diagnosis:
    """What can be told of any model, a mixture or not: importance weights, bound, evidence and gradient.

    Args:
        objective: model, family and estimator.
        params: parameters of q.
        prior: what the model takes in the place of hyperparameters.
        rows: the rows that were fitted, in the units of the data.
        bound: the final ELBO.
        values: positions with a leading axis to what `resample` gives.
        batch_size: rows per step of the run.
        dtype: float type of the run.
        num_draws: draws for importance weights; ``None``: as many as a budget allows.
        seed: fixes the draws.
    """
    key = rng.stream(rng.root_key(seed), "diagnose")
    draws = _affordable(objective, rows, num_draws)
    positions, log_ratios = weighing.ratios(objective, params, prior, rows, rng.stream(key, "ratios"), draws)
    weights = smooth(log_ratios)
    told = (
        findings.khat(weights, len(log_ratios)),
        findings.elbo(bound),
        *findings.evidence(weights, bound, 1),
        _signal(objective, params, prior, rows, key, batch_size, dtype),
    )
    return Diagnosis(
        findings=told,
        terms=bound.terms,
        blocks={},
        predictive=(),
        prior=None,
        weights=weights,
        num_draws=len(log_ratios),
        draws=values(positions),
    )


def _affordable(objective: Objective, rows: Rows, num_draws: int | None) -> int:
    """How many draws to weigh, if nobody says."""
    cost = max(rows.x.shape[0], 1) * objective.model.num_components * rows.x.shape[1] ** 2
    draws = int(np.clip(_BUDGET / cost, _FEWEST, _MOST)) if num_draws is None else num_draws
    require(draws >= 2, "num_draws", ">= 2", num_draws)
    return draws


def _blocks(
    objective: Objective, posterior: Posterior, rows: Rows, key: PRNGKey, positions: Any
) -> dict[str, float]:
    """k-hat of each block with all others held at their mean, where q makes blocks independent."""
    family, model = objective.family, objective.model
    if not (isinstance(family, Blockwise) and family.independent_blocks(model)):
        return {}
    centre = jax.tree.map(lambda leaf: np.mean(leaf, axis=0), positions)
    cost = rows.x.shape[0] * model.num_components * posterior.dim**2
    found = {}
    for name, index in weighing.block_names(model, posterior.dim):
        label = f"component {index}" if name == "components" else name
        count = int(np.clip(_BUDGET / cost / (model.num_components + 1), _FEWEST, _BLOCK_DRAWS))
        stream = rng.stream(key, f"block {label}")
        _, log_ratios = weighing.ratios(
            objective,
            posterior.params,
            posterior.prior,
            rows,
            stream,
            count,
            centre=centre,
            block=(name, index),
        )
        found[label] = smooth(log_ratios - log_ratios.max()).khat
    return found


def _gradient_work(objective: Objective, params: Any, prior: Prior, rows: Rows, *_: Any, size: int) -> float:
    """Operations of the gradients: each reads `size` rows, forwards and backwards."""
    return 3.0 * _GRADIENTS * pass_work((size, rows.x.shape[1]), objective.model.num_components)


@program(_gradient_work, static_argnames=("objective", "size"))
def _gradients(
    objective: Objective, params: Any, prior: Prior, rows: Rows, keys: PRNGKey, *, size: int
) -> Float[Array, "S P"]:
    """Gradients at minibatches of `size` rows, one for each key."""
    total = rows.x.shape[0]

    def one(key: PRNGKey) -> Array:
        index = jax.random.choice(key, total, (size,), replace=False) if size < total else jnp.arange(total)
        batch = Batch(x=rows.x[index], weight=rows.weight[index] * (total / size))
        found = objective.estimate(params, prior, batch, key)
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(found.grads)])

    found: Array = jax.lax.map(one, keys)
    return found


def _signal(
    objective: Objective, params: Any, prior: Prior, rows: Rows, key: PRNGKey, batch_size: int, dtype: str
) -> Finding:
    """|mean gradient|^2 over its expectation from noise alone: about 1 where nothing is left to gain."""
    size = min(batch_size, rows.x.shape[0])
    with jax.enable_x64(dtype == "float64"):
        keys = jax.random.split(rng.stream(key, "gradients"), _GRADIENTS)
        made = _gradients(objective, params, prior, rows, keys, size=size)
        found = np.asarray(made, np.float64)
    return findings.gradient(found)
