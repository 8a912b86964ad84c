"""Measures of trust, each with a verdict and a sentence of what it means."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import numpy as np
from jaxtyping import Float

from vigmm.posterior.checks import Check
from vigmm.posterior.draws import Draws
from vigmm.posterior.evidence import ElboReport
from vigmm.posterior.psis import GOOD, USABLE, Smoothed
from vigmm.posterior.summary import to_digit

__all__ = [
    "Finding",
    "Verdict",
    "blocks_khat",
    "divergences",
    "effective",
    "elbo",
    "evidence",
    "gradient",
    "khat",
    "stands_out",
    "surprise",
]

Verdict = Literal["good", "caution", "bad", "unknown"]

_LEVEL, _SMALLEST = 0.05, 0.01


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


def _grade(khat: float) -> Verdict:
    return "good" if khat <= GOOD else "caution" if khat <= USABLE else "bad"


def khat(weights: Smoothed, draws: int) -> Finding:
    """How heavy the tail of the importance weights of so many draws is."""
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


def blocks_khat(blocks: dict[str, float]) -> list[Finding]:
    """The largest k-hat of a block; nothing where there are no blocks."""
    if not blocks:
        return []
    worst = max(blocks, key=blocks.__getitem__)
    bad = sum(khat > USABLE for khat in blocks.values())
    words = (
        f"the largest of {len(blocks)} blocks, {worst}, all others held at their means; {bad} above {USABLE}"
    )
    return [Finding("k-hat of blocks", blocks[worst], math.nan, _grade(blocks[worst]), words)]


def elbo(bound: ElboReport) -> Finding:
    """The bound and its terms."""
    parts = ", ".join(f"{name} {value:.6g}" for name, value in bound.terms.items())
    sound: Verdict = "good" if math.isfinite(bound.elbo) else "bad"
    return Finding(
        "ELBO", bound.elbo, bound.se, sound, f"in nats, a lower bound of the log evidence: {parts}"
    )


def divergences(parts: dict[str, tuple[float, float]]) -> list[Finding]:
    """KL(q || prior) of each part of the parameters."""
    order = {"weights": "", "covariances": " given the weights", "means": " given all these"}
    found = []
    for name in sorted(parts, key=[*order, *parts].index):
        value, se = parts[name]
        sound: Verdict = "good" if math.isfinite(value) else "bad"
        words = f"in nats, what the data taught about them{order.get(name, '')}; 0 says nothing"
        found.append(Finding(f"KL of {name}", value, se, sound, words))
    return found


def evidence(weights: Smoothed, bound: ElboReport, num_components: int) -> list[Finding]:
    """The importance-sampled evidence, and what the bound is below it."""
    usable = weights.khat <= USABLE
    labels = math.lgamma(num_components + 1)
    words = "importance-sampled, in nats"
    if num_components > 1:
        words += (
            f", for one labelling of the components; add log K! = {labels:.3g} for exchangeable ones if none "
            "of them overlap"
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


def gradient(found: Float[np.ndarray, "S P"]) -> Finding:
    """How far the mean of S gradients stands out of their noise."""
    noise = found.var(axis=0, ddof=1)
    moving = noise > 0
    if not moving.any():
        largest = float(np.abs(found).max(initial=0.0))
        words = "the gradient is exact here: its largest element"
        return Finding("gradient", largest, math.nan, "good" if largest < 1.0 else "caution", words)
    # Each coordinate in units of the standard error of its own mean.
    ratio = float(np.mean(found.mean(axis=0)[moving] ** 2 / (noise[moving] / len(found))))
    verdict: Verdict = "good" if ratio < 2 else "caution" if ratio < 10 else "bad"
    words = {
        "good": "the mean gradient is no larger than its noise: no more to gain at this batch size",
        "caution": "the mean gradient stands out of its noise: a longer run would still improve q",
        "bad": "the mean gradient is far above its noise: the run stopped too early",
    }[verdict]
    return Finding("gradient signal-to-noise", ratio, math.nan, verdict, words)


def effective(draws: Draws) -> Finding:
    """How many components of equal size the weights amount to."""
    weights = draws.weights / draws.weights.sum(axis=1, keepdims=True)
    entropy = -np.sum(np.where(weights > 0, weights * np.log(np.maximum(weights, 1e-300)), 0.0), axis=1)
    values = np.exp(entropy)
    low, high = np.quantile(values, [0.05, 0.95])
    words = f"components that the weights amount to, exp(entropy); 90 % interval [{low:.3g}, {high:.3g}]"
    return Finding("effective components", float(values.mean()), math.nan, "good", words)


def stands_out(check: Check, many: int) -> bool:
    """Whether a check is surprising as one of so many."""
    # Replicates are finite: the smallest probability that they can show counts as below every level.
    return check.probability <= max(_LEVEL / many, _SMALLEST)


def surprise(name: str, checks: list[Check], fits: str, misses: str) -> Finding:
    """The most surprising of some checks.

    Args:
        name: of the finding.
        checks: all of one kind.
        fits: begins the sentence where none stands out.
        misses: begins it where one does.
    """
    worst = min(checks, key=lambda check: check.probability)
    surprised = [check for check in checks if stands_out(check, len(checks))]
    if not surprised:
        words = f"{fits} all {len(checks)} statistics of the columns (smallest tail probability)"
        return Finding(name, worst.probability, math.nan, "good", words)
    seen, low, high = (
        to_digit(value, worst.high - worst.low) for value in (worst.observed, worst.low, worst.high)
    )
    words = (
        f"{misses} the {worst.name} of {worst.column}: {seen}, 90 % of replicates in [{low}, {high}]; "
        f"{len(surprised)} of {len(checks)} statistics stand out"
    )
    return Finding(name, worst.probability, math.nan, "caution", words)
