"""How the processes of a benchmark are started: from the checkout, with no inherited limit on threads."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["ROOT", "THREAD_LIMITS", "Ended", "call", "surroundings"]

ROOT = Path(__file__).resolve().parent.parent

# Nobody's threads are limited: each library gets what it takes by itself on this machine, and an inherited
# limit (some people export one) would slow one method and not another.
THREAD_LIMITS = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "XLA_FLAGS",
    "JAX_NUM_CPU_DEVICES",
)


class Ended(NamedTuple):
    """How a process ended.

    Args:
        error: what went wrong, in a line; None if nothing did.
        code: its exit status; None if it was ended.
        seconds: that it took.
    """

    error: str | None
    code: int | None
    seconds: float


def surroundings(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment variables of a process that is timed."""
    kept = {key: value for key, value in os.environ.items() if key not in THREAD_LIMITS}
    return {**kept, **(extra or {})}


def _resident_mb(pid: int) -> float:
    """Resident memory of a process now, in MiB; 0 where that cannot be read."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    except (OSError, ValueError):
        pass
    return 0.0


def _message(text: str) -> str:
    """What an exception said, on one line, or the last line of something else."""
    lines = text.splitlines() or ["no message"]
    traces = [place for place, line in enumerate(lines) if line.startswith("Traceback ")]
    if traces:
        after = [place for place in range(traces[-1] + 1, len(lines)) if not lines[place].startswith(" ")]
        if after:
            return " ".join(" ".join(lines[after[0] :]).split())
    return lines[-1]


def call(command: list[str], *, limit: float, memory_mb: float, environment: Mapping[str, str]) -> Ended:
    """Run a command, and end it where it takes too long or too much: the machine is not ours alone.

    Args:
        command: words of the command.
        limit: seconds that it may take.
        memory_mb: resident memory that it may have; looked at four times a second.
        environment: its environment variables.
    """
    began = time.perf_counter()
    refusal = None
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=dict(environment), stdout=said, stderr=said)
        try:
            while refusal is None:
                try:
                    process.wait(timeout=0.25)
                    break
                except subprocess.TimeoutExpired:
                    if time.perf_counter() - began > limit:
                        refusal = f"did not end within {limit:g} s"
                    elif _resident_mb(process.pid) > memory_mb:
                        refusal = f"took more than {memory_mb:g} MB of memory"
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        said.seek(0)
        text = said.read().strip()
    took = time.perf_counter() - began
    if refusal is not None:
        return Ended(refusal, None, took)
    if process.returncode == 0:
        return Ended(None, 0, took)
    last = _message(text)
    if process.returncode < 0:
        last = f"ended by {signal.Signals(-process.returncode).name}: {last}"
    return Ended(last[:300], process.returncode, took)
