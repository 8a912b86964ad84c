"""What every tracker is: a Spec that says where, and what it opens for one run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal, Protocol

__all__ = ["Ending", "Run", "Tracker", "Tracking"]

Ending = Literal["finished", "failed", "killed"]
"""How a run ended: as it was meant to, by going wrong, or by a hand."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What a tracker is told of a run before it begins.

    Args:
        folder: the run folder.
        config: every choice, as a configuration file holds it.
    """

    folder: Path
    config: dict[str, Any]


class Tracker(Protocol):
    """A run's place in another program, open until `end`."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Values at a step, by name; the name begins with the phase and a slash."""
        ...

    def end(self, ending: Ending, final: dict[str, float]) -> None:
        """The run is over.

        Args:
            ending: how.
            final: what it came to, if it came to anything.
        """
        ...


class Tracking(Protocol):
    """A row of `TRACKERS`: a Spec."""

    def open(self, run: Run) -> Tracker:
        """Begin to track a run.

        Raises:
            OutputError: if the program is not installed or cannot be reached.
        """
        ...
