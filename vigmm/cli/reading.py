"""Passes over the data, shown like any other phase: a source that tells how far it has been read."""

from __future__ import annotations

from typing import Any

from vigmm.cli.progress import READ, START, Reporter
from vigmm.data.sources import Source

__all__ = ["Reading"]


class Reading:
    """Shows how a source is read until the next phase begins, and passes all phases on.

    A run reads its rows to know their moments, and again to put them on the device; then it looks for a
    start, in one program that cannot say how far it is. When it writes, it reads them once more.

    Args:
        source: the rows.
        show: where it is shown.
        phase: what reading is called.
        passes: how often the rows are read in it.
        then: what follows when they have been, a phase without an end in sight.
    """

    def __init__(
        self,
        source: Source,
        show: Reporter,
        *,
        phase: str = READ,
        passes: int = 2,
        then: str | None = START,
    ) -> None:
        self._show, self._phase, self._then = show, phase, then
        self._total, self._done, self._reading = passes * len(source), 0, True
        self.source: Source = _Watched(source, self)
        """The source to read from."""

    def read(self, rows: int) -> None:
        """So many rows more have been read."""
        if not self._reading:
            return
        if self._done == 0:
            self._show.start(self._total, self._phase)
        self._done += rows
        self._show.update(min(self._done, self._total), {})
        if self._done >= self._total:
            self._end()
            if self._then is not None:
                self._show.start(0, self._then)

    def start(self, total_steps: int, phase: str) -> None:
        """A phase begins, so reading is over, however often it was."""
        if self._reading and self._done:
            self._end()
        self._reading = False
        self._show.start(total_steps, phase)

    def update(self, step: int, values: dict[str, float]) -> None:
        """Passed on."""
        self._show.update(step, values)

    def finish(self) -> None:
        """Passed on."""
        self._show.finish()

    def close(self) -> None:
        """Passed on."""
        self._show.close()

    def _end(self) -> None:
        self._reading = False
        self._show.finish()


class _Watched:
    """The source, which tells of every block that is read; all else is its own."""

    def __init__(self, source: Source, watcher: Reading) -> None:
        self._source, self._watcher = source, watcher

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: Any) -> Any:
        rows = self._source[index]
        self._watcher.read(len(rows))
        return rows
