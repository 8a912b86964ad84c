"""When a run is over: judged on the ELBO averaged over whole passes.

Every pass reads each row once, so pass averages of the ELBO do not carry the sampling noise of single
minibatches. Comparisons are written so that NaN fails them.
"""

from __future__ import annotations

import math

import numpy as np

from vigmm.core.outcome import Outcome, Status

__all__ = ["Progression"]


class Progression:
    """Follows the ELBO of a run and says when, and how, it ended.

    Args:
        steps_per_pass: steps in which each row is read once.
        total_weight: sum of the rows' weights, to express the ELBO per row.
        tolerance: change of the pass average, in nats per row, below which a pass counts as still.
        patience: number of still passes in a row that means convergence.
        terms: names of the terms that `bad` counts.
    """

    def __init__(
        self,
        *,
        steps_per_pass: int,
        total_weight: float,
        tolerance: float,
        patience: int,
        terms: tuple[str, ...],
    ) -> None:
        self._length = steps_per_pass
        self._weight = total_weight
        self._tolerance = tolerance
        self._patience = patience
        self._terms = terms
        self._open: list[float] = []
        self._passes: list[float] = []
        self._bad: tuple[int, str] | None = None

    def see(self, chunk: dict[str, np.ndarray]) -> None:
        """Take in the metrics of one chunk of steps."""
        wrong = np.flatnonzero(chunk["bad"] >= 0)
        if self._bad is None and wrong.size:
            first = int(wrong[0])
            self._bad = int(chunk["step"][first]), self._terms[int(chunk["bad"][first])]
        for value in chunk["elbo"]:
            self._open.append(float(value) / self._weight)
            if len(self._open) == self._length:
                self._passes.append(math.fsum(self._open) / self._length)
                self._open.clear()

    def verdict(self) -> Outcome | None:
        """The outcome, if what was seen so far already decides it."""
        if self._bad is not None:
            at, term = self._bad
            message = (
                f"{term} was not finite at step {at}; the model is the last good one. "
                "Lower the rate or look for extreme values in the data"
            )
            return Outcome(Status.NONFINITE, at, message, bad_step=at, bad_term=term)
        recent = np.diff(self._passes[-self._patience - 1 :])
        if len(recent) == self._patience and bool(np.all(np.abs(recent) < self._tolerance)):
            message = (
                f"the ELBO changed by less than {self._tolerance:g} nats per row for {self._patience} passes"
            )
            return Outcome(Status.CONVERGED, 0, message)
        return None

    def final(self, outcome: Outcome | None, step: int) -> Outcome:
        """The outcome of a run that did `step` steps and is over."""
        late = self.verdict()
        if late is not None and late.status is Status.NONFINITE:
            return late
        if outcome is None and len(self._passes) >= 2 and self._passes[-1] < self._passes[0] - self._fall():
            message = (
                f"the ELBO fell from {self._passes[0]:.6g} to {self._passes[-1]:.6g} nats per row: "
                "lower the rate or enlarge the batch"
            )
            return Outcome(Status.DIVERGED, step, message)
        outcome = outcome or late
        if outcome is None:
            return Outcome(Status.BUDGET, step, self._budget_message())
        return Outcome(outcome.status, step, outcome.message)

    def _fall(self) -> float:
        """How far the ELBO must fall to be called divergence: well beyond the noise of a pass."""
        return max(1e-2, 10.0 * self._tolerance)

    def _budget_message(self) -> str:
        message = f"did its {len(self._passes)} passes" if self._passes else "did less than one pass"
        if len(self._passes) >= 2:
            change = self._passes[-1] - self._passes[-2]
            message += f"; the ELBO still changed by {change:.2g} nats per row in the last one"
        return message
