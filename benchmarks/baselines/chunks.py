"""EM some iterations at a time, so that a method without callbacks has models on its way.

EM has no memory: runs that go on from one another are one run. What a library does once a call is paid once
a chunk, and is on the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.gaussians import Gaussians
from benchmarks.protocol import Clock, Point, Problem

__all__ = ["Chunks", "in_chunks"]


@dataclass(frozen=True)
class Chunks:
    """How a run ended: `converged` says whether its own rule ended it."""

    trace: tuple[Point, ...]
    iterations: int
    converged: bool
    final: Gaussians


def in_chunks(
    advance: Callable[[int], tuple[int, bool, Gaussians]],
    problem: Problem,
    passes: float,
    clock: Clock,
    size: int,
) -> Chunks:
    """Call `advance` until its rule, the budget or the deadline ends it.

    Args:
        advance: makes at most so many iterations; gives how many it made, whether it converged, the model.
        problem: what is solved.
        passes: the most iterations.
        clock: of the fit.
        size: iterations of a chunk.
    """
    trace: list[Point] = []
    done = 0
    while True:
        made, converged, model = advance(min(size, int(passes) - done))
        done += made
        trace.append(Point(clock.lap(), float(done), model.log_density))
        if problem.iterations is not None and made:
            converged = False  # a fixed number of iterations was asked for
        if converged or made == 0 or done >= passes or problem.overdue(clock):
            return Chunks(tuple(trace), done, converged, model)
