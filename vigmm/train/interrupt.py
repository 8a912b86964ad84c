"""Ctrl-C and SIGTERM as requests: the loop finishes its chunk, and nothing is lost."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType

from vigmm.core.errors import VigmmError

__all__ = ["Interrupt", "Preempted"]


class Preempted(VigmmError):
    """The machine is wanted for something else: the run is to be continued, not judged.

    Args:
        phase: what the run was doing.
        step: steps of it that are done.
    """

    exit_code = 75

    def __init__(self, phase: str, step: int) -> None:
        super().__init__(
            f"told to end (SIGTERM) in the phase {phase!r} after {step} steps: run the same command again"
        )


class Interrupt:
    """While entered, the first SIGINT sets `requested`; the second raises KeyboardInterrupt as usual.

    SIGTERM, which schedulers send before they take a machine away, sets `preempted` where asked for. It may
    be entered again inside itself: the phases of one fit share one request. A KeyboardInterrupt inside a
    compiled call would lose the donated state. Outside the main thread, where Python allows no signal
    handlers, nothing is changed.

    Args:
        preemptible: whether SIGTERM is handled: somebody saves the run when it comes.
    """

    def __init__(self, *, preemptible: bool = False) -> None:
        self._signals = (signal.SIGINT, signal.SIGTERM) if preemptible else (signal.SIGINT,)
        self.requested = False
        self.preempted = False
        self._previous: dict[int, object] = {}
        self._depth = 0

    def __enter__(self) -> Interrupt:
        self._depth += 1
        if self._depth == 1 and threading.current_thread() is threading.main_thread():
            for number in self._signals:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            self.preempted = True
            return
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            for number, handler in self._previous.items():
                signal.signal(number, handler)  # type: ignore[arg-type]
            self._previous.clear()
