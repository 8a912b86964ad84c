"""Ctrl-C as a request: the loop finishes its chunk and keeps the model."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

__all__ = ["Interrupt"]


class Interrupt:
    """While entered, the first SIGINT sets `requested`; the second raises KeyboardInterrupt as usual.

    It may be entered again inside itself: the phases of one fit share one request.
    A KeyboardInterrupt inside a compiled call would lose the donated state. Outside the main thread,
    where Python allows no signal handlers, nothing is changed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: object = None
        self._depth = 0

    def __enter__(self) -> Interrupt:
        self._depth += 1
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0 and self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)  # type: ignore[arg-type]
