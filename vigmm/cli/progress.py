"""What a run shows while it works: a bar on a terminal, a line now and then in a log file, or nothing."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

__all__ = ["READ", "START", "WRITE", "Bar", "Lines", "Reporter", "describe", "reporter"]

_EVERY = 10.0
"""Seconds between lines in a log."""

READ, START, WRITE = "read", "start", "write"
"""Phases in which a run reads its rows, looks for where to begin, and writes what it found."""

_ROWS = (READ, WRITE)
"""Phases whose steps are rows."""

_NO_PASSES = ("search", *_ROWS)
"""Phases whose steps are no part of a pass."""


class Reporter(Protocol):
    """What the training loop tells, plus an end that comes in any case."""

    def start(self, total_steps: int, phase: str) -> None:
        """A phase of so many steps begins; of 0 steps if nobody can say."""
        ...

    def update(self, step: int, values: dict[str, float]) -> None:
        """So many steps are done."""
        ...

    def finish(self) -> None:
        """The phase is over."""
        ...

    def close(self) -> None:
        """Nothing more will come, be it for an error."""
        ...


def reporter(*, quiet: bool, steps_per_pass: int | None = None) -> Reporter | None:
    """The reporter for this process's error stream; None to say nothing.

    Args:
        quiet: whether to say nothing.
        steps_per_pass: steps in a pass over the data, if steps are of a run.
    """
    if quiet:
        return None
    kind = Bar if sys.stderr.isatty() else Lines
    return kind(steps_per_pass=steps_per_pass)


class Bar:
    """A bar with the time that is left and the latest values."""

    def __init__(self, *, steps_per_pass: int | None = None, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        # On a narrow terminal the percentage has to do.
        self._steps_per_pass = steps_per_pass if console.width >= 100 else None
        self._total, self._phase, self._unknown = 1, "", False
        self._bar = Progress(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[values]}"),
            console=console,
        )
        self._task: Any = None

    def start(self, total_steps: int, phase: str) -> None:
        """Begin a bar for the phase, under those of earlier phases."""
        again = phase == self._phase and self._task is not None
        self._end_if_unknown(again=again)
        self._total, self._phase, self._unknown = max(total_steps, 1), phase, total_steps == 0
        values = "" if phase in _ROWS else "compiling"
        self._bar.start()
        if again:  # first without an end in sight, now with one
            self._bar.reset(self._task, total=total_steps or None, values=values)
        else:
            self._task = self._bar.add_task(phase, total=total_steps or None, values=values)

    def update(self, step: int, values: dict[str, float]) -> None:
        """Advance the bar."""
        shown = describe(values, step, self._total, self._passes())
        self._bar.update(self._task, completed=step, values=shown)

    def finish(self) -> None:
        """Leave the bar where the run ended, and show that work goes on."""
        if self._task is not None:
            self._bar.stop_task(self._task)
        if self._phase == "fit":
            self._bar.add_task("evaluate", total=None, values="the final bound")
        self._bar.refresh()

    def _end_if_unknown(self, *, again: bool) -> None:
        """A bar that only moved to and fro is full when the next phase begins."""
        if self._unknown and not again:
            self._bar.update(self._task, total=1, completed=1, values="")

    def _passes(self) -> int | None:
        return None if self._phase in _NO_PASSES else self._steps_per_pass

    def close(self) -> None:
        """Give the terminal back."""
        self._bar.stop()


class Lines:
    """A line every ten seconds at most."""

    def __init__(
        self, *, steps_per_pass: int | None = None, every: float = _EVERY, stream: Any = None
    ) -> None:
        self._steps_per_pass, self._every = steps_per_pass, every
        self._stream = stream or sys.stderr
        self._last = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._total, self._phase = 1, ""

    def start(self, total_steps: int, phase: str) -> None:
        """Note which phase begins."""
        self._total, self._phase, self._first = max(total_steps, 1), phase, None

    def update(self, step: int, values: dict[str, float]) -> None:
        """Write a line, if the last one is long enough ago."""
        now = time.monotonic()
        if self._first is None:  # what was before is compilation, which tells nothing of the steps to come
            self._first = now, step
        if now - self._last < self._every:
            return
        self._last = now
        began, first = self._first
        left = (now - began) / (step - first) * (self._total - step) if step > first else None
        shown = describe(values, step, self._total, self._passes())
        parts = [
            f"{self._phase} {step / self._total:4.0%}",
            "" if left is None else f"{left:.0f} s left",
            shown,
        ]
        self._stream.write("  ".join(part for part in parts if part) + "\n")
        self._stream.flush()

    def finish(self) -> None:
        """Nothing."""

    def _passes(self) -> int | None:
        return None if self._phase in _NO_PASSES else self._steps_per_pass

    def close(self) -> None:
        """Nothing."""


def describe(values: dict[str, float], step: int, total: int, steps_per_pass: int | None) -> str:
    """The latest values in a few words.

    Example:
        >>> describe({"elbo_per_row": -14.25, "holdout": -14.1, "effective_components": 12.3}, 40, 80, 10)
        '4.0/8 passes  ELBO/row -14.25  held-out -14.10  K 12.3'
    """
    parts = []
    if steps_per_pass is not None:
        parts.append(f"{step / steps_per_pass:.1f}/{total / steps_per_pass:.3g} passes")
    for name, label, form in (
        ("elbo_per_row", "ELBO/row", ".2f"),
        ("holdout", "held-out", ".2f"),
        ("effective_components", "K", ".1f"),
    ):
        value = values.get(name)
        if value is not None and value == value:  # NaN: nothing was held out
            parts.append(f"{label} {value:{form}}")
    return "  ".join(parts)
