"""Every method that can be run, by name."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.baselines import BASELINES
from benchmarks.ours import OURS
from benchmarks.protocol import Method

__all__ = ["METHODS", "settings"]

METHODS: dict[str, Method] = {**OURS, **BASELINES}


def settings(method: Method) -> dict[str, Any]:
    """The fields of a method, as they go into the results."""
    fields = dataclasses.fields(method)  # type: ignore[arg-type]
    return {f.name: getattr(method, f.name) for f in fields if not f.name.startswith("_")}
