"""The two kinds of noun: `spec` (what somebody chose) and `state` (what the arrays are).

A **Spec** is a frozen standard-library dataclass of ints, floats, strings, bools, tuples and other
Specs. It is hashable, so it can be a static argument of ``jax.jit``: refitting with an equal Spec
never recompiles. It is also the configuration file: a field made by `part` is chosen there by the
name of its row in a table.

A **State** is a frozen ``chex.dataclass`` whose fields are arrays or other States. It is a pytree,
is traced under ``jit``, and is what a checkpoint holds.

A class is one or the other, never a mixture (`docs/decisions/001-spec-and-state.md`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar, dataclass_transform

import chex

from vigmm.core.errors import SpecError

__all__ = ["is_spec", "part", "require", "spec", "state"]

T = TypeVar("T")

_SPEC_VALUES = (int, float, str, bool, tuple, type(None))


@dataclass_transform(frozen_default=True)
def spec(cls: type[T]) -> type[T]:
    """Make `cls` a Spec: a frozen, hashable dataclass whose methods are pure functions.

    Example:
        >>> @spec
        ... class Rate:
        ...     value: float = 0.01
        >>> Rate(0.1) == Rate(value=0.1), hash(Rate(0.1)) == hash(Rate(0.1))
        (True, True)
    """
    made = dataclasses.dataclass(frozen=True)(cls)
    made.__vigmm_spec__ = True  # type: ignore[attr-defined]
    return made


@dataclass_transform(kw_only_default=True, frozen_default=True)
def state(cls: type[T]) -> type[T]:
    """Make `cls` a State: a frozen pytree of arrays, built by keyword only."""
    made: type[T] = chex.dataclass(cls, frozen=True, mappable_dataclass=False, kw_only=True)
    return made


def part(table: Mapping[str, type[T]], default: str) -> Any:
    """A Spec field that holds another Spec: any row of `table`, by default the row `default`.

    The table travels in the field's metadata, so that the configuration reader, the command line and
    the contract tests find new rows by themselves.
    """
    return dataclasses.field(default_factory=table[default], metadata={"table": table, "default": default})


def is_spec(value: Any) -> bool:
    """Whether `value` is a Spec instance or a plain value a Spec may hold."""
    if getattr(type(value), "__vigmm_spec__", False):
        return all(is_spec(getattr(value, f.name)) for f in dataclasses.fields(value))
    if isinstance(value, tuple):
        return all(is_spec(item) for item in value)
    return isinstance(value, _SPEC_VALUES)


def require(condition: bool, field: str, must: str, got: object) -> None:
    """Raise `SpecError` unless `condition`; for use in a Spec's ``__post_init__``.

    The configuration reader puts the path of the enclosing Specs before `field`, so that a user
    reads ``estimator.num_samples must be >= 1, got 0``. Write conditions so that NaN fails them.

    Raises:
        SpecError: naming the field, the rule and the value.

    Example:
        >>> require(0 >= 1, "num_samples", ">= 1", 0)
        Traceback (most recent call last):
        ...
        vigmm.core.errors.SpecError: num_samples must be >= 1, got 0
    """
    if not condition:
        raise SpecError(field, must, got)
