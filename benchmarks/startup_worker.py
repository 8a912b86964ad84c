"""One ``vigmm`` command in a process of its own, with a note of every program that it compiles.

    python -m benchmarks.startup_worker OUT BEGAN fit CONFIG ...

`BEGAN` is the time at which the process was asked for, in seconds since the epoch; all times in OUT, a JSON
file, are seconds since then. The rest of the line goes to ``vigmm``. Nothing but JAX's own monitoring is
listened to, so that what is measured is what a user waits for.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

_TRACE = "/jax/core/compile/jaxpr_trace_duration"
_LOWER = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_COMPILE = "/jax/core/compile/backend_compile_duration"
_KINDS = {_TRACE: "trace", _LOWER: "lower", _COMPILE: "compile"}
_HIT, _MISS = "/jax/compilation_cache/cache_hits", "/jax/compilation_cache/cache_misses"


class Notes:
    """What JAX tells of its compilations: time spans, and whether the cache had the program."""

    def __init__(self, began: float) -> None:
        self._began = began
        self._hit = False
        self.spans: list[dict[str, Any]] = []
        self.written = 0

    def event(self, event: str, **_: Any) -> None:
        """The answer of the cache comes before the end of the span that it belongs to."""
        self._hit = self._hit or event == _HIT
        self.written += event == _MISS

    def span(self, event: str, start_time: float, end_time: float, **about: Any) -> None:
        """A trace, a lowering or a compilation is over."""
        kind = _KINDS.get(event)
        if kind is None:
            return
        one = {
            "kind": kind,
            "program": about.get("fun_name"),
            "start": start_time - self._began,
            "seconds": end_time - start_time,
            "cpu": time.process_time(),
        }
        if kind == "compile":
            one["hit"], self._hit = self._hit, False
        self.spans.append(one)


def main(arguments: list[str]) -> int:
    """Run the command; its exit code."""
    out, began, command = Path(arguments[0]), float(arguments[1]), arguments[2:]
    from vigmm.cli.cache import quiet_loader

    quiet_loader()
    from jax import monitoring

    notes = Notes(began)
    monitoring.register_event_listener(notes.event)
    monitoring.register_event_time_span_listener(notes.span)
    laps: dict[str, float] = {"jax": time.time() - began}
    from vigmm import reporting

    lap = reporting.Clock.lap

    def noted(self: reporting.Clock, name: str) -> None:
        lap(self, name)
        laps[name] = time.time() - began

    reporting.Clock.lap = noted  # type: ignore[method-assign]
    laps["imports"] = time.time() - began
    from vigmm.cli.app import app

    code = 0
    try:
        app(command, prog_name="vigmm", standalone_mode=True)
    except SystemExit as ended:
        code = int(ended.code or 0)
    laps["end"] = time.time() - began
    cpu = time.process_time()
    out.write_text(
        json.dumps({"code": code, "cpu": cpu, "laps": laps, "written": notes.written, "spans": notes.spans})
    )
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
