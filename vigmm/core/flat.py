"""Nested sections as dotted names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["flat"]


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of nested sections, for programs and tables that know only names.

    Example:
        >>> dict(flat({"seed": 1, "model": {"weights": {"kind": "dirichlet"}}}))
        {'seed': 1, 'model.weights.kind': 'dirichlet'}
    """
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
