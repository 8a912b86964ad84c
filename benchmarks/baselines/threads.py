"""How many BLAS threads are best now, by a short trial.

scikit-learn's matrix products are small (D columns), so more threads can be slower, and are several times
slower when other work wants the cores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks.protocol import Clock, Fitted, Problem

__all__ = ["faster"]


def faster(fit: Callable[[int | None, Problem, Clock], Fitted], problem: Problem) -> int | None:
    """One thread, or None for all of them, whichever is faster on some of the rows.

    Args:
        fit: three iterations, each in the trace, with so many threads.
        problem: whose first rows are tried.
    """
    small = replace(problem, x=problem.x[:20_000])
    times: dict[int | None, float] = {}
    for threads in (None, 1, None, 1):  # twice each: the first one also wakes the threads up
        trace = fit(threads, small, Clock()).trace
        seconds = trace[-1].cost.seconds - trace[0].cost.seconds
        times[threads] = min(seconds, times.get(threads, seconds))
    return 1 if times[1] < times[None] else None
