"""What a run has measured so far, on the host."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

__all__ = ["Log", "Pending"]

_FIELDS = ("elbo", "se", "grad_norm", "rate", "bad", "reset")
_CHECKS = ("holdout", "effective_components", "reset")


class Pending:
    """The metrics of a chunk of steps that may still be running.

    Args:
        done: steps done when it ends.
        found: arrays by name, those of the chunk as a whole behind ``checks.``.
        waited: seconds that the run had waited for rows when the chunk was launched.
    """

    def __init__(self, done: int, found: dict[str, Any], waited: float) -> None:
        self.done, self.waited, self._found = done, waited, found

    @staticmethod
    def of(done: int, metrics: Any, checks: Any, waited: float) -> Pending:
        """From what the compiled steps report."""
        found = {name: getattr(metrics, name) for name in _FIELDS}
        found |= {f"checks.{name}": getattr(checks, name) for name in _CHECKS}
        return Pending(done, found | {f"found.{name}": value for name, value in checks.found.items()}, waited)

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it on the host, once the device has it."""
        return {name: np.asarray(value) for name, value in self._found.items()}


class Log:
    """Metrics of the whole run.

    Attributes:
        last: per-step metrics of the chunk that was read last.
        found: what the optimiser judged itself by at its end, if it does.
    """

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._waited = 0.0
        self._steps: list[dict[str, np.ndarray]] = []
        self._chunks: list[dict[str, float]] = []
        self._done = 0
        self.last: dict[str, np.ndarray] = {}
        self.found: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Since the run began, other processes that did a part of it included."""
        return time.perf_counter() - self._began

    def read(self, pending: Pending | None) -> Iterator[tuple[int, dict[str, float]]]:
        """Fetch one chunk, if there is one; yields the step it ended at and its latest values."""
        if pending is None:
            return
        found, done = pending.arrays(), pending.done
        count = done - self._done
        self.last = {name: found[name][:count].copy() for name in _FIELDS}
        if int(found["checks.reset"]) >= 0:  # found after the last step
            self.last["reset"][-1] = int(found["checks.reset"])
        self.last["step"] = np.arange(self._done, done)
        self._done = done
        self._steps.append(self.last)
        seconds = self.seconds
        chunk = {
            "chunk_step": float(done),
            "holdout": float(found["checks.holdout"]),
            "effective_components": float(found["checks.effective_components"]),
            "seconds": seconds,
            "stall": (self._waited + pending.waited) / seconds,
        }
        self.found = {name[6:]: float(value) for name, value in found.items() if name.startswith("found.")}
        chunk |= self.found
        self._chunks.append(chunk)
        yield done, {"elbo": float(self.last["elbo"][-1]), "rate": float(self.last["rate"][-1]), **chunk}

    def arrays(self) -> dict[str, np.ndarray]:
        """All metrics: per step (step, elbo, se, grad_norm, rate, bad, reset) and per chunk (the rest)."""
        if not self._steps:
            return {}
        merged = {name: np.concatenate([one[name] for one in self._steps]) for name in self._steps[0]}
        merged |= {name: np.array([one[name] for one in self._chunks]) for name in self._chunks[0]}
        return merged

    def restore(self, arrays: dict[str, np.ndarray], seconds: float) -> None:
        """Go on where `arrays` said another log was after so many seconds."""
        self._began = time.perf_counter() - seconds
        if not arrays:
            return
        self._steps = [{name: arrays[name] for name in (*_FIELDS, "step")}]
        columns = {name: value for name, value in arrays.items() if name not in self._steps[0]}
        count = len(columns["chunk_step"])
        self._chunks = [{name: float(value[i]) for name, value in columns.items()} for i in range(count)]
        self._done = int(columns["chunk_step"][-1])
        self._waited = self._chunks[-1]["stall"] * self._chunks[-1]["seconds"]
