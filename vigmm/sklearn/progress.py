"""The lines that `verbose` asks for, in scikit-learn's words."""

from __future__ import annotations

import sys
import time

__all__ = ["Lines"]


class Lines:
    """A `vigmm.train.Progress` that writes a line every so many steps.

    Args:
        verbose: 1 for the step, more for seconds and the change of the bound as well.
        interval: steps between two lines, at least.
    """

    def __init__(self, verbose: int, interval: int) -> None:
        self._verbose, self._interval = verbose, interval
        self._began = self._last = time.perf_counter()
        self._shown, self._elbo, self._what = 0, float("nan"), "Iteration"

    def begins(self, number: int) -> None:
        """Initialisation `number` begins."""
        self._began = time.perf_counter()
        _say(f"Initialization {number}")

    def ends(self, converged: bool, bound: float) -> None:
        """It is over."""
        text = f"Initialization {'converged' if converged else 'did not converge'}."
        if self._verbose > 1:
            text += f" time lapse {time.perf_counter() - self._began:.5f}s\t lower bound {bound:.5f}."
        _say(text)

    def start(self, total_steps: int, phase: str) -> None:
        """A phase begins."""
        self._shown, self._elbo, self._last = 0, float("nan"), time.perf_counter()
        self._what = "Search round" if phase == "search" else "Iteration"

    def update(self, step: int, values: dict[str, float]) -> None:
        """`step` steps are done."""
        if step - self._shown < self._interval:
            return
        now, bound = time.perf_counter(), values.get("elbo", float("nan"))
        text = f"  {self._what} {step}"
        if self._verbose > 1:
            text += f"\t time lapse {now - self._last:.5f}s\t lower bound change {bound - self._elbo:.5f}"
        _say(text)
        self._shown, self._elbo, self._last = step, bound, now

    def finish(self) -> None:
        """The phase is over."""


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
