"""Everybody who watches a run, as one: what is shown on the screen, and the trackers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigmm.core.outcome import Status
from vigmm.core.specdict import to_dict
from vigmm.tracking.base import Ending, Run, Tracker
from vigmm.train import Preempted

if TYPE_CHECKING:
    from vigmm.config import Job
    from vigmm.fitted import Fit

__all__ = ["Watchers", "watching"]

# Of these NaN means that there is nothing to measure; of all others, that something went wrong.
_OPTIONAL = ("holdout",)
# The step itself, under which all else is told.
_NOT_TOLD = ("chunk_step",)


class Watchers:
    """Passes progress on to the screen and to trackers.

    A tracker that fails, because its disk is full or its server is gone, is let go with a word: the run is
    worth more than its traces.

    Args:
        show: the screen, or None.
        complain: told when a tracker fails.
    """

    def __init__(self, show: Any, complain: Callable[[str], None]) -> None:
        self._show, self._complain = show, complain
        self._trackers: list[tuple[str, Tracker]] = []
        self._phase = ""
        self._ending: Ending = "failed"
        self._final: dict[str, float] = {}

    def add(self, name: str, tracker: Tracker) -> None:
        """One more tracker, which `close` will end."""
        self._trackers.append((name, tracker))

    def start(self, total_steps: int, phase: str) -> None:
        """A phase begins."""
        self._phase = phase
        if self._show is not None:
            self._show.start(total_steps, phase)

    def update(self, step: int, values: dict[str, float]) -> None:
        """So many steps are done."""
        if self._show is not None:
            self._show.update(step, values)
        named = {
            f"{self._phase}/{name}": float(value)
            for name, value in values.items()
            if name not in _NOT_TOLD and not (name in _OPTIONAL and math.isnan(value))
        }
        if named:
            self._each(lambda tracker: tracker.log(step, named))

    def finish(self) -> None:
        """The phase is over."""
        if self._show is not None:
            self._show.finish()

    def result(self, fit: Fit) -> None:
        """What the run came to, for the trackers' last entry."""
        went_wrong: Ending = "finished" if fit.outcome.ok else "failed"
        self._ending = "killed" if fit.outcome.status is Status.INTERRUPTED else went_wrong
        self._final = {
            "elbo": fit.elbo.elbo,
            "elbo_per_row": fit.elbo.per_row,
            "components": float(fit.posterior.num_components),
            "seconds": float(sum(fit.manifest["seconds"].values())),
        }
        if fit.holdout is not None:
            self._final |= {"holdout": fit.holdout[0], "holdout_se": fit.holdout[1]}

    def close(self, *, killed: bool = False) -> None:
        """Nothing more will come."""
        if self._show is not None:
            self._show.close()
        ending: Ending = "killed" if killed else self._ending
        self._each(lambda tracker: tracker.end(ending, self._final))
        self._trackers = []

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers):
            try:
                tell(tracker)
            except Exception as error:  # whatever libraries raise: the run goes on
                self._trackers.remove((name, tracker))
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                self._complain(f"{name} failed and is told no more of this run, which goes on: {reason}")


@contextmanager
def watching(
    job: Job, folder: str | Path, show: Any, *, complain: Callable[[str], None]
) -> Iterator[Watchers]:
    """The watchers of a run: the screen `show` and the trackers that the job names, closed in any case.

    Args:
        job: the resolved job.
        folder: the run folder.
        show: a `vigmm.cli.progress.Reporter`, or None to show nothing.
        complain: told, in a sentence, when a tracker fails.

    Raises:
        OutputError: if a tracker cannot begin; those that had begun are closed.
    """
    run = Run(folder=Path(folder), config=to_dict(job))
    watchers = Watchers(show, complain)
    killed = False
    try:
        for tracking in job.track:
            watchers.add(type(tracking).__name__, tracking.open(run))
        yield watchers
    except (KeyboardInterrupt, Preempted):
        killed = True
        raise
    finally:
        watchers.close(killed=killed)
