"""Every method that can be run, by name."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.baselines import BASELINES
from benchmarks.ours import OURS
from benchmarks.protocol import Method

__all__ = ["BRIEF_METHODS", "METHODS", "settings"]

METHODS: dict[str, Method] = {**OURS, **BASELINES}

# What reads from a file differs only in memory, and only where there are many rows.
BRIEF_METHODS = tuple(name for name in METHODS if name != "vigmm_file")


def settings(method: Method) -> dict[str, Any]:
    """The fields of a method, as they go into the results."""
    fields = dataclasses.fields(method)  # type: ignore[arg-type]
    return {f.name: getattr(method, f.name) for f in fields if not f.name.startswith("_")}
