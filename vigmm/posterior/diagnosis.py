"""How far to trust a fit: each measure with a verdict and a sentence of what it means."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vigmm.core import rng
from vigmm.core.errors import SpecError
from vigmm.core.struct import require
from vigmm.core.typing import Batch, PRNGKey
from vigmm.data.sampler import Rows
from vigmm.estimators import Objective
from vigmm.families import Blockwise
from vigmm.posterior import weighing
from vigmm.posterior.checks import Check, predictive_checks, prior_checks
from vigmm.posterior.draws import Draws, from_positions
from vigmm.posterior.evidence import ElboReport
from vigmm.posterior.psis import GOOD, USABLE, Smoothed, smooth
from vigmm.posterior.units import log_volume

if TYPE_CHECKING:
    from vigmm.posterior.posterior import Posterior

__all__ = ["Diagnosis", "Finding", "diagnose"]

Verdict = Literal["good", "caution", "bad", "unknown"]

# Numbers read (draws x rows x components x columns^2) that a diagnosis may spend on importance weights.
_BUDGET = 4e10
_FEWEST, _MOST = 32, 1024
_BLOCK_DRAWS = 256
_GRADIENTS = 32
_ROWS = 2_000


@dataclasses.dataclass(frozen=True)
class Finding:
    """One measure of trust.

    Args:
        name: what was measured.
        value: the number.
        se: its Monte-Carlo standard error; NaN where it has none.
        verdict: ``good``, ``caution``, ``bad``, or ``unknown`` where it could not be told.
        meaning: one sentence for a person.
    """

    name: str
    value: float
    se: float
    verdict: Verdict
    meaning: str


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
    """

    findings: tuple[Finding, ...]
    terms: dict[str, float]
    blocks: dict[str, float]
    predictive: tuple[Check, ...]
    prior: tuple[Check, ...] | None
    weights: Smoothed
    num_draws: int
    _draws: Draws = dataclasses.field(repr=False)

    @property
    def khat(self) -> float:
        """Overall Pareto k-hat."""
        return self.weights.khat

    def __getitem__(self, name: str) -> Finding:
        found = [finding for finding in self.findings if finding.name == name]
        if not found:
            raise KeyError(f"{name}; there are {', '.join(finding.name for finding in self.findings)}")
        return found[0]

    def resample(self, n: int, *, seed: int = 0) -> Draws:
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
        fields = {field.name: getattr(self._draws, field.name)[chosen] for field in dataclasses.fields(Draws)}
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
    model, dim = objective.model, posterior.dim
    cost = max(rows.x.shape[0], 1) * model.num_components * dim**2
    draws = int(np.clip(_BUDGET / cost, _FEWEST, _MOST)) if num_draws is None else num_draws
    require(draws >= 2, "num_draws", ">= 2", num_draws)
    params, prior = posterior.params, posterior.prior
    positions, log_ratios = weighing.ratios(objective, params, prior, rows, rng.stream(key, "ratios"), draws)
    weights = smooth(log_ratios - log_volume(rows, posterior.scale))
    blocks = _blocks(objective, posterior, rows, key, positions)
    sizes = from_positions(posterior, positions)
    checks = predictive_checks(posterior, sample, rng.stream(key, "predictive"))
    conflict = prior_checks(posterior, sample, rng.stream(key, "prior"))
    findings = [
        _khat(weights, len(log_ratios)),
        *_block_finding(blocks),
        _elbo(bound),
        *_evidence(weights, bound, model.num_components),
        _signal(objective, posterior, rows, key, batch_size),
        _effective(sizes),
        _surprise(
            "posterior predictive", list(checks), "the model reproduces", "the model does not reproduce"
        ),
    ]
    if conflict is not None:
        findings.append(
            _surprise("prior", conflict, "the prior expects data like", "the prior did not expect")
        )
    return Diagnosis(
        findings=tuple(findings),
        terms=bound.terms,
        blocks=blocks,
        predictive=tuple(checks),
        prior=None if conflict is None else tuple(conflict),
        weights=weights,
        num_draws=len(log_ratios),
        _draws=sizes,
    )


def _grade(khat: float) -> Verdict:
    return "good" if khat <= GOOD else "caution" if khat <= USABLE else "bad"


def _khat(weights: Smoothed, draws: int) -> Finding:
    if weights.khat == math.inf:
        words = "too few draws to tell how heavy the tail of the importance weights is"
        return Finding("k-hat", math.inf, math.nan, "unknown", words)
    meaning = {
        "good": "q is close enough to the posterior for importance weights to correct what is left",
        "caution": "q misses part of the posterior; resampled draws are better than q's own",
        "bad": "q is far from the posterior somewhere, as is the rule with hundreds of parameters: look at "
        "the blocks and the predictive checks, and take intervals as too narrow",
        "unknown": "",
    }[_grade(weights.khat)]
    words = f"{meaning} ({weights.effective_draws:.0f} effective of {draws} draws)"
    return Finding("k-hat", weights.khat, math.nan, _grade(weights.khat), words)


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


def _block_finding(blocks: dict[str, float]) -> list[Finding]:
    if not blocks:
        return []
    worst = max(blocks, key=blocks.__getitem__)
    bad = sum(khat > USABLE for khat in blocks.values())
    words = (
        f"the largest of {len(blocks)} blocks, {worst}, all others held at their means; {bad} above {USABLE}"
    )
    return [Finding("k-hat of blocks", blocks[worst], math.nan, _grade(blocks[worst]), words)]


def _elbo(bound: ElboReport) -> Finding:
    parts = ", ".join(f"{name} {value:.6g}" for name, value in bound.terms.items())
    sound: Verdict = "good" if math.isfinite(bound.elbo) else "bad"
    return Finding(
        "ELBO", bound.elbo, bound.se, sound, f"in nats, a lower bound of the log evidence: {parts}"
    )


def _evidence(weights: Smoothed, bound: ElboReport, num_components: int) -> list[Finding]:
    usable = weights.khat <= USABLE
    labels = math.lgamma(num_components + 1)
    words = (
        f"importance-sampled, for one labelling of the components; add log K! = {labels:.3g} "
        "for exchangeable ones "
        "if none of them overlap"
    )
    if not usable:
        words = "not to be trusted: k-hat is too large for importance sampling"
    verdict: Verdict = _grade(weights.khat) if usable else "unknown"
    gap = weights.log_evidence - bound.elbo
    gap_se = math.hypot(weights.se, bound.se)
    close: Verdict = "unknown" if not usable else "good" if gap < 1 else "caution" if gap < 5 else "bad"
    meaning = "estimated KL(q || posterior) in nats, within this labelling: what q loses"
    return [
        Finding("log evidence", weights.log_evidence, weights.se, verdict, words),
        Finding("gap", gap, gap_se, close, meaning),
    ]


def _signal(objective: Objective, posterior: Posterior, rows: Rows, key: PRNGKey, batch_size: int) -> Finding:
    """|mean gradient|^2 over its expectation from noise alone: about 1 where nothing is left to gain."""
    total = rows.x.shape[0]
    size = min(batch_size, total)

    @jax.jit
    def gradients(rows: Rows, keys: Any) -> Any:
        def one(key: PRNGKey) -> Any:
            index = (
                jax.random.choice(key, total, (size,), replace=False) if size < total else jnp.arange(total)
            )
            batch = Batch(x=rows.x[index], weight=rows.weight[index] * (total / size))
            found = objective.estimate(posterior.params, posterior.prior, batch, key)
            leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(found.grads)]
            return jnp.concatenate(leaves)

        return jax.lax.map(one, keys)

    with jax.enable_x64(posterior.dtype == "float64"):
        keys = jax.random.split(rng.stream(key, "gradients"), _GRADIENTS)
        found = np.asarray(gradients(rows, keys), np.float64)
    noise = found.var(axis=0, ddof=1)
    moving = noise > 0
    if not moving.any():
        largest = float(np.abs(found).max(initial=0.0))
        words = "the gradient is exact here: its largest element"
        return Finding("gradient", largest, math.nan, "good" if largest < 1.0 else "caution", words)
    # Each coordinate in units of the standard error of its own mean.
    ratio = float(np.mean(found.mean(axis=0)[moving] ** 2 / (noise[moving] / _GRADIENTS)))
    verdict: Verdict = "good" if ratio < 2 else "caution" if ratio < 10 else "bad"
    words = {
        "good": "the mean gradient is no larger than its noise: no more to gain at this batch size",
        "caution": "the mean gradient stands out of its noise: a longer run would still improve q",
        "bad": "the mean gradient is far above its noise: the run stopped too early",
    }[verdict]
    return Finding("gradient signal-to-noise", ratio, math.nan, verdict, words)


def _effective(draws: Draws) -> Finding:
    weights = draws.weights / draws.weights.sum(axis=1, keepdims=True)
    entropy = -np.sum(np.where(weights > 0, weights * np.log(np.maximum(weights, 1e-300)), 0.0), axis=1)
    values = np.exp(entropy)
    low, high = np.quantile(values, [0.05, 0.95])
    words = f"components that the weights amount to, exp(entropy); 90 % interval [{low:.3g}, {high:.3g}]"
    return Finding("effective components", float(values.mean()), math.nan, "good", words)


def _surprise(name: str, checks: list[Check], fits: str, misses: str) -> Finding:
    worst = min(checks, key=lambda check: check.probability)
    level = 0.05 / len(checks)
    # Replicates are finite: the smallest probability that they can show counts as below every level.
    surprised = [check for check in checks if check.probability <= max(level, 0.01)]
    if not surprised:
        words = f"{fits} all {len(checks)} statistics of the columns (smallest tail probability)"
        return Finding(name, worst.probability, math.nan, "good", words)
    told = f"{misses} the {worst.name} of {worst.column}: {worst.observed:.4g}, 90 % of replicates in "
    words = (
        told + f"[{worst.low:.4g}, {worst.high:.4g}]; {len(surprised)} of {len(checks)} statistics stand out"
    )
    return Finding(name, worst.probability, math.nan, "caution", words)
