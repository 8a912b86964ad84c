"""How far a saved run can be trusted: what its folder says, and what its data say when read again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp

from vigmm import api
from vigmm.core import rng
from vigmm.core.precision import precision
from vigmm.data.device import holdout_split, to_rows
from vigmm.data.missing import observed_moments
from vigmm.data.moments import Standardizer
from vigmm.data.protocol import evenly_spaced
from vigmm.data.sources import Source
from vigmm.estimators import Objective
from vigmm.posterior import Diagnosis, ElboReport, Finding, Posterior, diagnose
from vigmm.posterior.agreement import agreement
from vigmm.report.run import FinishedRun

__all__ = ["MOST_NUMBERS", "Trust", "judge"]

MOST_NUMBERS = 5e7
"""Training rows x columns up to which a run is diagnosed unasked: all of them are held in memory."""

_CHECKED_ROWS = 2_000
_ENDS = {"converged": "good", "budget": "caution", "interrupted": "caution"}
_SAME = 0.9
_MEANING = {
    "outcome": "the run may have ended too early",
    "agreement of restarts": "other starts find other clusters",
    "agreement of starts": "other starts may find other clusters",
    "k-hat": "intervals may be too narrow",
    "k-hat of blocks": "intervals may be too narrow",
    "log evidence": "the evidence is uncertain",
    "gap": "intervals may be too narrow",
    "gradient": "a longer run may improve it",
    "gradient signal-to-noise": "a longer run may improve it",
    "posterior predictive": "it does not reproduce some statistics of the data",
    "prior": "the prior did not expect such data",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Trust:
    """What speaks for the run and what against it.

    Args:
        findings: every measure, the most important first.
        diagnosis: k-hat, evidence and predictive checks, if they were computed.
        left_out: why they were not.
    """

    findings: tuple[Finding, ...]
    diagnosis: Diagnosis | None
    left_out: str

    def named(self, verdict: str) -> list[str]:
        """Names of the findings of one verdict.

        The overall k-hat is left to its blocks where there are any: it is large as a rule where parameters
        are many.
        """
        names = [found.name for found in self.findings]
        passed = "k-hat" if "k-hat of blocks" in names else ""
        return [one.name for one in self.findings if one.verdict == verdict and one.name != passed]

    def sentence(self) -> tuple[str, str]:
        """All findings in one verdict and one sentence."""
        bad, caution = self.named("bad"), self.named("caution")
        if "outcome" in bad:
            return "bad", "The run went wrong: do not use this model as it is."
        if bad:
            return "bad", f"Look closely before you rely on it: {_meaning(bad + caution)}."
        if caution:
            return "caution", f"Usable with care: {_meaning(caution)}."
        if self.diagnosis is None:
            return (
                "unknown",
                "Nothing known speaks against it, but the checks that need the data were left out.",
            )
        return "good", "No check speaks against it."


def judge(
    run: FinishedRun,
    *,
    diagnosis: bool | None = None,
    num_draws: int | None = None,
    restarts: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Trust:
    """Everything that can be said of a saved run's trustworthiness.

    Args:
        run: the run.
        diagnosis: whether to compute what needs all rows; by default if they are few enough.
        num_draws: draws for importance weights; by default what a few seconds allow.
        restarts: further fits from other seeds, to compare this one with.
        tell: is told what is being done, where it takes a while.
    """
    found, left_out = None, _refusal(run, diagnosis)
    if not left_out:
        tell("computing k-hat, evidence and predictive checks (--no-diagnosis leaves them out)")
        found = _diagnosed(run, num_draws)
    if restarts:
        tell(f"fitting again from {restarts} other seed{'s' if restarts > 1 else ''}")
    measured = (_elbo(run),) if found is None else found.findings
    again = (_restarted(run, restarts),) if restarts else ()
    return Trust(
        findings=(_outcome(run), *again, *measured, *_starts(run)), diagnosis=found, left_out=left_out
    )


def _refusal(run: FinishedRun, wanted: bool | None) -> str:
    """Why there will be no diagnosis; empty if there will be one."""
    if wanted is False:
        return "they were not asked for"
    if run.source is None:
        return run.trouble
    if run.job is None:
        return "this version cannot read the run's configuration"
    if run.manifest["outcome"]["status"] not in _ENDS:
        return "the run went wrong"
    numbers = run.manifest["data"]["train_rows"] * run.posterior.dim
    if wanted is None and numbers > MOST_NUMBERS:
        return f"they hold {numbers:,} numbers in memory; --diagnosis computes them all the same"
    return ""


def _diagnosed(run: FinishedRun, num_draws: int | None) -> Diagnosis:
    """What `Fit.diagnose` says, from the saved posterior and the rows that it was fitted to."""
    posterior, job, source = run.posterior, run.job, run.source
    assert job is not None
    assert source is not None
    kept, _ = holdout_split(
        len(source), job.train.holdout, job.train.holdout_rows, rng.stream(rng.root_key(job.seed), "split")
    )
    standardizer = Standardizer(center=posterior.center, scale=posterior.scale)
    missing = posterior.model.missing
    with precision(posterior.dtype):
        rows = to_rows(source, standardizer, posterior.dtype, index=kept, missing=missing)
        if missing:
            posterior = _with_patterns(posterior, source)
    return diagnose(
        Objective(model=posterior.model, family=posterior.family, estimator=job.estimator),
        posterior,
        rows,
        evenly_spaced(source, _CHECKED_ROWS),
        ElboReport(**run.manifest["elbo"]),
        batch_size=job.train.batch_size,
        num_draws=num_draws,
    )


def _with_patterns(posterior: Posterior, source: Source) -> Posterior:
    """The posterior with the combinations of missing columns that the data have."""
    patterns = jnp.asarray(observed_moments(source)[1], posterior.dtype)
    frame = dataclasses.replace(posterior.prior.frame, patterns=patterns)
    return dataclasses.replace(posterior, prior=dataclasses.replace(posterior.prior, frame=frame))


def _restarted(run: FinishedRun, restarts: int) -> Finding:
    """Agreement with fits of the same job from other seeds."""
    job, source = run.job, run.source
    if job is None or source is None:
        return Finding("agreement of restarts", math.nan, math.nan, "unknown", f"not computed: {run.trouble}")
    others: list[Any] = [
        api.fit(
            source, model=job.model, family=job.family, estimator=job.estimator, optimizer=job.optimizer,
            start=job.start, train=job.train, moves=job.moves,
            seed=(job.seed + 1 + i) % 2**32, dtype=job.dtype,
        )
        for i in range(restarts)
    ]  # fmt: skip
    this = SimpleNamespace(posterior=run.posterior, elbo=ElboReport(**run.manifest["elbo"]))
    return agreement([this, *others], evenly_spaced(source, _CHECKED_ROWS))


def _outcome(run: FinishedRun) -> Finding:
    outcome = run.manifest["outcome"]
    verdict: Any = _ENDS.get(outcome["status"], "bad")
    words = f"{outcome['status']}: {outcome['message']}"
    if outcome["bad_steps"]:
        words += f"; {outcome['bad_steps']:,} steps were not finite and were undone"
    return Finding("outcome", float(outcome["step"]), math.nan, verdict, words)


def _elbo(run: FinishedRun) -> Finding:
    bound = run.manifest["elbo"]
    value = math.nan if bound["elbo"] is None else bound["elbo"]
    error = math.nan if bound["se"] is None else bound["se"]
    sound: Any = "good" if math.isfinite(value) else "bad"
    return Finding("ELBO", value, error, sound, "in nats, a lower bound of the log evidence")


def _starts(run: FinishedRun) -> list[Finding]:
    """How alike the two best starts were, where several competed."""
    notes = run.manifest["notes"].get("start", {})
    value = notes.get("agreement")
    if value is None:
        return []
    verdict: Any = "good" if value > _SAME else "caution"
    words = (
        f"adjusted Rand index of the two best of {notes['restarts']} starts, on {notes['rows']:,} rows: "
        + ("they found the same clusters" if value > _SAME else "where the run starts matters here")
    )
    return [Finding("agreement of starts", float(value), math.nan, verdict, words)]


def _meaning(names: list[str]) -> str:
    """What findings mean to somebody who uses the model, each once."""
    words = list(dict.fromkeys(_MEANING.get(name, f"look at {name}") for name in names))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])}, and {words[-1]}"
