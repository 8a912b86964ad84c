"""Errors that a user can act on: each says what is wrong, where, and what to do.

Three rings guard the engine: Specs validate on construction (`SpecError`), ``chex`` asserts shapes
at trace time, and a per-step finiteness check ends in an `vigmm.core.outcome.Outcome`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "ConfigError",
    "DataError",
    "EmptyError",
    "ModelFileError",
    "OutputError",
    "Problem",
    "SpecError",
    "VigmmError",
]


class VigmmError(Exception):
    """Base of every error that vigmm raises on purpose; `exit_code` is what the CLI returns."""

    exit_code = 1


class SpecError(VigmmError, ValueError):
    """A chosen value is not allowed.

    Args:
        field: name of the field, without the path of enclosing Specs.
        must: the rule, continuing the sentence ``FIELD must be ...``.
        got: the offending value.
    """

    exit_code = 2

    def __init__(self, field: str, must: str, got: object) -> None:
        self.field, self.must, self.got = field, must, got
        super().__init__(f"{field} must be {must}, got {got!r}")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a configuration, and where.

    Args:
        path: keys and list positions that lead to it, for a reader that knows lines and columns.
        message: a whole sentence that already names the path.
    """

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        return self.message


class ConfigError(VigmmError, ValueError):
    """A configuration cannot be used as written.

    Args:
        message: what is wrong; by default the problems, one a line.
        problems: everything that is wrong, so that a user mends it in one go.
    """

    exit_code = 2

    def __init__(self, message: str = "", *, problems: Iterable[Problem] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(message or "\n".join(str(problem) for problem in self.problems))


class DataError(VigmmError, ValueError):
    """The data cannot be used: names the file, row or column and the remedy."""

    exit_code = 3


class EmptyError(DataError):
    """The data are well formed, and there is no row in them, or none that is left.

    Args:
        message: what is wrong.
        skipped: how many rows were left out.
    """

    def __init__(self, message: str, *, skipped: int = 0) -> None:
        self.skipped = skipped
        super().__init__(message)


class OutputError(VigmmError, OSError):
    """A result cannot be written where it was asked for."""

    exit_code = 4


class ModelFileError(VigmmError, ValueError):
    """A saved model is missing, damaged or of another schema version."""

    exit_code = 5
