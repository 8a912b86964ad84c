"""When a run is over: judged on the ELBO averaged over whole passes, against the noise of those averages.

**Passes.** A pass reads each row once, so that its average of the ELBO does not carry the sampling noise of
single minibatches: over a pass that noise sums to zero. The spread of the steps *within* a pass, divided by
the root of their number, therefore says far too much (on 200,000 rows a hundred times); what noise is left is
seen in how the averages scatter about their own trend. A *lap* is a whole number of passes, at least 1/40 of
the budget, and over a window of laps A_1..A_W the line

    A_i = a + b i + e_i,   se(b)^2 = sum e_i^2 / (W - 2) / sum (i - mean i)^2                    (1)

gives the rise per lap and its standard error. The run is *still* where b is smaller than the tolerance or
than its own standard error (and not falling by more than two of them), for `patience` laps in a row. A bound
without noise, where every step knows of all rows and nothing is drawn, needs no window: it is still where no
pass of the last `patience` changed it by the tolerance. Where batches are remembered, that is the bound of a
pass's last step, by which all of them are.

**The cool-down.** Rates that decrease average noise away at the end of a run (`Optimizer.tail`). To stop when
the ELBO is still would cut that off. So the horizon, an argument of the compiled program, moves: the tail
begins at once, and the run ends with it. What happens *in* the tail is no evidence, because rates that
vanish make any ELBO still.

Comparisons are written so that NaN fails them: a lap with a step that was not finite is never still.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from vigmm.core.outcome import Outcome, Status

__all__ = ["Progression", "shortened"]

_LAPS = 40
# Bad steps in a row that are a failure and no accident.
_STREAK = 10


def shortened(done: int, tail: float, horizon: int) -> int:
    """The horizon with which the tail of a run begins after `done` steps; never later than it was.

    Example:
        >>> shortened(800, 0.2, 10_000), shortened(800, 0.0, 10_000), shortened(9_000, 0.2, 10_000)
        (1000, 800, 10000)
    """
    return min(horizon, math.ceil(done / (1.0 - tail))) if tail < 1 else horizon


class Progression:
    """Follows the ELBO of a run and says when, and how, it ended.

    Args:
        steps_per_pass: steps in which each row is read once.
        total_weight: sum of the rows' weights, to express the ELBO per row.
        tolerance: rise per pass, in nats per row, below which the ELBO is still; 0 never ends a run early.
        patience: number of laps, or of passes without noise, in a row for which it must be still.
        horizon: number of steps in the budget.
        tail: share of it, at its end, that is no evidence.
        terms: names of the terms that `bad` counts.
        whole: whether the last ELBO of every pass is that of all rows.
    """

    def __init__(
        self,
        *,
        steps_per_pass: int,
        total_weight: float,
        tolerance: float,
        patience: int,
        horizon: int,
        tail: float,
        terms: tuple[str, ...],
        whole: bool = False,
    ) -> None:
        self._length = steps_per_pass
        self._weight = total_weight
        self._tolerance = tolerance
        self._patience = patience
        self._terms = terms
        self._per_lap = max(1, math.ceil(horizon / _LAPS / steps_per_pass))
        self._window = patience + 3
        self._whole = whole
        # What follows changes as the run goes on.
        self._fixed = frozenset(vars(self)) | {"_fixed"}
        self._evidence = (1.0 - tail) * horizon
        self._open: list[float] = []
        # Pass averages, or last values: of all steps, NaN where one was not finite, and of the good steps.
        self._passes: list[float] = []
        self._good: list[float] = []
        self._exact = whole or steps_per_pass == 1
        self._still: int | None = None
        self._rise: tuple[float, float] | None = None
        self._judged = 0
        self._in_a_row = 0
        self._seen = 0
        self._bad = 0
        self._streak = 0
        self._failed = False
        self._first: tuple[int, str] | None = None
        self._resets: list[int] = []
        self._began: float | None = None
        self._verdict: str | None = None
        self._done = False

    def see(self, chunk: dict[str, np.ndarray]) -> None:
        """Take in the metrics of one chunk of steps."""
        self._see_bad(chunk)
        self._exact = self._exact and bool(np.all(chunk["se"] == 0))
        for value, bad in zip(chunk["elbo"], chunk["bad"], strict=True):
            self._open.append(float(value) / self._weight if bad < 0 else math.nan)
            if self._began is None and math.isfinite(self._open[-1]):
                self._began = self._open[-1]
            if len(self._open) == self._length:
                good = [one for one in self._open if math.isfinite(one)]
                mean = math.fsum(good) / len(good) if good else math.nan
                self._good.append(good[-1] if good and self._whole else mean)
                self._passes.append(self._good[-1] if len(good) == self._length else math.nan)
                self._open.clear()
                if self._still is None and len(self._passes) * self._length <= self._evidence:
                    self._judge()

    def _see_bad(self, chunk: dict[str, np.ndarray]) -> None:
        bad = chunk["bad"] >= 0
        wrong = np.flatnonzero(bad)
        if self._first is None and wrong.size:
            at = int(wrong[0])
            self._first = int(chunk["step"][at]), self._terms[int(chunk["bad"][at])]
        self._bad += int(wrong.size)
        self._seen += len(bad)
        self._resets += [int(k) for k in chunk["reset"] if k >= 0]
        for one in bad:
            self._streak = self._streak + 1 if one else 0
            self._failed = self._failed or self._streak >= _STREAK
        # Of very few steps half may be bad by accident.
        self._failed = self._failed or (len(bad) >= _STREAK and 2 * wrong.size > len(bad))

    def _judge(self) -> None:
        """After every pass: whether the ELBO is still."""
        if self._exact:
            recent = np.diff(self._passes[-self._patience - 1 :])
            if len(recent) == self._patience and bool(np.all(np.abs(recent) < self._tolerance)):
                self._still = len(self._passes)
            return
        laps = len(self._passes) // self._per_lap
        if laps < self._window or laps == self._judged or self._tolerance == 0:
            return
        self._judged = laps
        first = (laps - self._window) * self._per_lap
        means = np.reshape(self._passes[first : laps * self._per_lap], (self._window, -1)).mean(axis=1)
        rise, error = (value / self._per_lap for value in _line(means))
        self._rise = rise, error
        still = rise <= max(self._tolerance, error) and rise >= -max(self._tolerance, 2.0 * error)
        self._in_a_row = self._in_a_row + 1 if still else 0
        if self._in_a_row >= self._patience:
            self._still = len(self._passes)

    def snapshot(self) -> dict[str, Any]:
        """All that was seen, JSON-ready; `restore` goes on from it."""
        return {name[1:]: copy.copy(value) for name, value in vars(self).items() if name not in self._fixed}

    def restore(self, seen: dict[str, Any]) -> None:
        """Go on where the `snapshot` of a progression of the same run was."""
        for name, value in seen.items():
            setattr(self, f"_{name}", tuple(value) if name in ("rise", "first") and value else value)

    def tail_begins(self, done: int) -> None:
        """From step `done` on nothing is evidence: the rate is on its way to zero."""
        self._evidence = min(self._evidence, done)

    def judge_by(self, verdict: str, *, done: bool) -> None:
        """What the optimiser says of itself, and whether its parameters are the result: that is evidence."""
        self._verdict, self._done = verdict, done

    @property
    def still(self) -> bool:
        """Whether the ELBO has stopped rising, or the optimiser is done: the evidence of convergence."""
        return self._still is not None or self._done

    @property
    def failed(self) -> bool:
        """Whether so many steps failed that going on makes no sense: ten in a row, or half of a chunk."""
        return self._failed

    def final(self, step: int, *, stopped: str | None = None, out_of_time: str | None = None) -> Outcome:
        """The outcome of a run that did `step` steps and is over.

        Args:
            step: steps done.
            stopped: why a person stopped it, if one did.
            out_of_time: what to say of a time limit, if one ended it or its rate's decrease.
        """
        status, message = self._status(stopped, out_of_time)
        at, term = self._first or (None, None)
        if self._bad and status is not Status.NONFINITE:
            message += f". {self._accidents()}"
        return Outcome(
            status, step, message, bad_step=at, bad_term=term, bad_steps=self._bad, resets=tuple(self._resets)
        )

    def _status(self, stopped: str | None, out_of_time: str | None) -> tuple[Status, str]:
        never_clean = len(self._passes) > 1 and not np.isfinite(self._passes).any()
        if self._failed or never_clean or 2 * self._bad > self._seen:
            return Status.NONFINITE, (
                f"{self._accidents()}. The model is the last good one: lower the rate or look for extreme "
                "values in the data"
            )
        finite = [value for value in self._good if math.isfinite(value)]
        if stopped is not None:
            return Status.INTERRUPTED, stopped
        for start, fall in self._falls(finite):
            if finite[-1] < start - fall:
                return Status.DIVERGED, (
                    f"the ELBO fell from {start:.6g} to {finite[-1]:.6g} nats per row: "
                    "lower the rate or enlarge the batch"
                )
        if self.still and out_of_time is None:
            return Status.CONVERGED, self._verdict or self._still_message()
        verdict = "" if self._verdict is None else f"; {self._verdict}"
        return Status.BUDGET, f"{out_of_time or self._work()}{self._last_change()}{verdict}"

    def _accidents(self) -> str:
        """What the bad steps were."""
        assert self._first is not None
        at, term = self._first
        many = self._bad > 1
        text = f"{term} was not finite at step {at}"
        text += f", and {self._bad} of {self._seen} steps were undone" if many else ", which was undone"
        if self._resets:
            names = ", ".join(str(k) for k in dict.fromkeys(self._resets))
            text += f"; component{'s' if len(set(self._resets)) > 1 else ''} {names} had to be emptied"
        return text

    def _falls(self, passes: list[float]) -> Iterator[tuple[float, float]]:
        """What the end is compared with, and how far below it is divergence.

        The first pass; and, for a run that was lost within it, the first step. One batch is a noisy witness,
        so only an end that is lower by more nats per row than any batch is lucky.
        """
        if len(passes) >= 2:
            yield passes[0], self._fall(passes)
        if passes and self._began is not None:
            yield self._began, 100.0 + 2.0 * abs(self._began)

    def _fall(self, passes: list[float]) -> float:
        """How far the ELBO must fall to be called divergence: well beyond the noise of two passes."""
        changes = np.diff(passes)
        # Of Gaussian noise both are five sds of a pass: 1.4826 median absolute deviations are one sd of a
        # change, and a quarter of the changes are below 0.45 sds of a pass. The first does not mistake a
        # steady fall for noise, the second not one that grows.
        steady = 5.0 / math.sqrt(2.0) * 1.4826 * float(np.median(np.abs(changes - np.median(changes))))
        growing = 5.0 / 0.45 * float(np.quantile(np.abs(changes), 0.25))
        return max(1e-2, 10.0 * self._tolerance, min(steady, growing))

    def _still_message(self) -> str:
        if self._rise is None:
            return (
                f"the ELBO changed by less than {self._tolerance:g} nats per row for {self._patience} passes"
            )
        rise, error = self._rise
        return (
            f"the ELBO stopped rising after {self._still} passes: by {rise:.2g} ± {error:.2g} nats per row "
            "and pass"
        )

    def _work(self) -> str:
        return f"did its {len(self._passes)} passes" if self._passes else "did less than one pass"

    def _last_change(self) -> str:
        if len(self._good) < 2:
            return ""
        change = self._good[-1] - self._good[-2]
        return f"; the ELBO still changed by {change:.2g} nats per row in the last one"


def _line(values: np.ndarray) -> tuple[float, float]:
    """Slope of a straight line through equally spaced values and its standard error: equation (1)."""
    at = np.arange(len(values)) - (len(values) - 1) / 2
    square = float(np.sum(at**2))
    slope = float(np.sum(at * values)) / square
    rest = values - values.mean() - slope * at
    return slope, math.sqrt(float(np.sum(rest**2)) / (len(values) - 2) / square)
