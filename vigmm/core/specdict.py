"""Specs as plain dictionaries, and back: what configuration and model files hold.

A Spec that was chosen from a table is written with its row's name under ``kind``; tuples are lists; all
else is numbers, text, booleans and None, so JSON and YAML hold it. An array that was given from Python is
described by shape and digest, which can be compared but not read back. Reading back is checked field by field
against the type hints, and every problem is reported at once with its path. Names are looked up in the given
tables and nowhere else: nothing that was written can make anything be imported or run.
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import operator
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, cast

from vigmm.core.errors import ConfigError, Problem, SpecError
from vigmm.core.given import Given

__all__ = ["arms", "from_dict", "is_spec_class", "to_dict"]

T = TypeVar("T")
Path = tuple[str | int, ...]
Table = Mapping[str, type[Any]]

# YAML 1.1 reads 1e-3, which has no dot, as text.
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")
_MISSING = object()


def to_dict(spec: Any, table: Table | None = None) -> dict[str, Any]:
    """A Spec as a dictionary that JSON and YAML can hold.

    Args:
        spec: the Spec.
        table: the table it was chosen from, if any; its row's name becomes ``kind``.

    Returns:
        All fields, defaults included, in the order they are declared.

    Example:
        >>> from vigmm.core.struct import spec
        >>> @spec
        ... class Ball:
        ...     radius: float = 1.0
        ...     centre: tuple[float, ...] = (0.0, 0.0)
        >>> to_dict(Ball(2.0), {"ball": Ball})
        {'kind': 'ball', 'radius': 2.0, 'centre': [0.0, 0.0]}
    """
    made: dict[str, Any] = {}
    if table is not None:
        made["kind"] = _row_name(spec, table)
    for field in dataclasses.fields(spec):
        made[field.name] = _plain(getattr(spec, field.name), field.metadata.get("table"))
    return made


def from_dict(
    cls_or_table: type[T] | Mapping[str, type[T]], data: Any, *, path: str = "", default: str | None = None
) -> T:
    """The Spec that a dictionary describes.

    Args:
        cls_or_table: the Spec's class, or the table whose row ``kind`` names. For a row of a table, `data`
            may be just that name.
        data: what `to_dict` makes; whatever is left out has its default.
        path: dotted path of `data` in the whole, for messages.
        default: the row that is meant where ``kind`` is left out.

    Raises:
        ConfigError: with everything that is wrong in its ``problems``.

    Example:
        >>> from vigmm.core.struct import spec
        >>> @spec
        ... class Ball:
        ...     radius: float = 1.0
        >>> from_dict({"ball": Ball}, "ball")
        Ball(radius=1.0)
        >>> from_dict(Ball, {"radios": 2.0}, path="shape")
        Traceback (most recent call last):
        ...
        vigmm.core.errors.ConfigError: shape.radios: unknown key; did you mean radius?
    """
    reader = _Reader()
    where: Path = tuple(path.split(".")) if path else ()
    if isinstance(cls_or_table, Mapping):
        made = reader.row(cls_or_table, data, where, default)
    else:
        made = reader.fields(cls_or_table, data, where)
    if reader.problems:
        raise ConfigError(problems=reader.problems)
    return cast(T, made)


def _row_name(spec: Any, table: Table) -> str:
    for name, row in table.items():
        if row is type(spec):
            return name
    raise TypeError(f"{type(spec).__name__} is no row of the table {', '.join(table)}")


def _plain(value: Any, table: Table | None) -> Any:
    if is_spec_class(type(value)):
        return to_dict(value, table)
    if isinstance(value, tuple):
        return [_plain(item, table) for item in value]
    if isinstance(value, Given):
        return value.describe()
    return value.value if isinstance(value, enum.Enum) else value


def is_spec_class(value: Any) -> bool:
    """Whether `value` is the class of a Spec."""
    return bool(getattr(value, "__vigmm_spec__", False))


class _Reader:
    """One reading, which goes on after a problem: `_MISSING` stands for what could not be read."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def row(self, table: Table, data: Any, path: Path, default: str | None) -> Any:
        """A Spec of the row that `data` names."""
        if isinstance(data, str):
            kind, values, at = data, {}, path
        elif isinstance(data, Mapping):
            kind = data.get("kind", default)
            values = {key: value for key, value in data.items() if key != "kind"}
            at = (*path, "kind")
        else:
            return self._wrong(path, f"must be one of {', '.join(table)}, or a section with a kind", data)
        if not isinstance(kind, str) or kind not in table:
            name, rows = _dotted(at) or "kind", ", ".join(table)
            if kind is None:
                return self._add(at, f"{name} is missing; it is one of {rows}")
            hint = _did_you_mean(str(kind), table)
            return self._add(at, f"{name} must be one of {rows}, got {_short(kind)}{hint}")
        return self.fields(table[kind], values, path, kind=kind, table=table)

    def fields(
        self, cls: type[Any], data: Any, path: Path, *, kind: str | None = None, table: Table | None = None
    ) -> Any:
        """A Spec of class `cls` from its fields' values."""
        known = {field.name: field for field in dataclasses.fields(cls) if field.init}
        if not isinstance(data, Mapping):
            return self._wrong(
                path, f"must be a section with keys such as {', '.join(list(known)[:4])}", data
            )
        before = len(self.problems)
        for key in data:
            if key not in known:
                hint = _unknown(str(key), known, kind, table)
                self._add((*path, str(key)), f"{_dotted((*path, str(key)))}: unknown key{hint}")
        hints = typing.get_type_hints(cls)
        values: dict[str, Any] = {}
        for name, field in known.items():
            if name in data:
                values[name] = self._value(field, hints[name], data[name], (*path, name))
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                self._add((*path, name), f"{_dotted((*path, name))} is missing")
                values[name] = _MISSING
        return self._construct(cls, values, path, sound=len(self.problems) == before)

    def _value(self, field: dataclasses.Field[Any], hint: Any, value: Any, path: Path) -> Any:
        table = field.metadata.get("table")
        if table is not None and typing.get_origin(hint) is tuple:
            return self._rows(table, value, path)
        if table is not None:
            return self.row(table, value, path, field.metadata.get("default"))
        classes = [arm for arm in arms(hint) if is_spec_class(arm)]
        plain = [arm for arm in arms(hint) if not is_spec_class(arm)]
        # A section is a Spec; anything else must be one of the plain alternatives, where there are any.
        section = isinstance(value, Mapping) or not set(plain) - {type(None)}
        if classes and section and not (value is None and type(None) in plain):
            return self.fields(classes[0], value, path)
        if classes:
            hint = functools.reduce(operator.or_, plain)
        checked = _checked(hint, value)
        return checked if checked is not _MISSING else self._wrong(path, f"must be {_words(hint)}", value)

    def _rows(self, table: Table, data: Any, path: Path) -> Any:
        """A tuple of Specs from a list of rows; one row alone needs no list."""
        if not isinstance(data, list | tuple):
            made = (self.row(table, data, path, None),)
        else:
            made = tuple(self.row(table, item, (*path, i), None) for i, item in enumerate(data))
        return _MISSING if any(one is _MISSING for one in made) else made

    def _construct(self, cls: type[Any], values: dict[str, Any], path: Path, *, sound: bool) -> Any:
        """The Spec, its own checks run; one that fails does not hide the failures of other fields."""
        if sound:
            try:
                return cls(**values)
            except SpecError as error:
                self._refused(error, path)
        given = {name: value for name, value in values.items() if value is not _MISSING}
        required = {
            field.name
            for field in dataclasses.fields(cls)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
        base = {name: value for name, value in given.items() if name in required}
        for name, value in given.items():
            # Alone among defaults, a field can only be refused for its own value, not for one that
            # stands in for another's mistake. A Spec has been judged: only others can make it wrong.
            if is_spec_class(type(value)):
                continue
            try:
                cls(**{**base, name: value})
            except SpecError as error:
                if error.field == name:
                    self._refused(error, path)
            except TypeError:
                break  # a required field is missing or wrong, which has been said
        return _MISSING

    def _refused(self, error: SpecError, path: Path) -> None:
        where = (*path, error.field)
        if all(problem.path != where for problem in self.problems):
            self._add(where, f"{_dotted(where)} must be {error.must}, got {_short(_plain(error.got, None))}")

    def _wrong(self, path: Path, rule: str, got: Any) -> Any:
        return self._add(path, f"{_dotted(path) or 'this'} {rule}, got {_short(got)}")

    def _add(self, path: Path, message: str) -> Any:
        self.problems.append(Problem(path=path, message=message))
        return _MISSING


def _checked(hint: Any, value: Any) -> Any:
    """`value` as the type `hint`, strictly (no text for a number, no 1.5 for an integer), or `_MISSING`."""
    from pydantic import ValidationError

    adapter = _adapter(hint)
    for attempt in (_tuples(value), _tuples(value, exponents=True)):
        try:
            return adapter.validate_python(attempt, strict=True)
        except ValidationError:
            continue
    return _MISSING


@functools.lru_cache(maxsize=256)
def _adapter(hint: Any) -> Any:
    """Pydantic's validator of a type; imported here because the command line's help needs none of it."""
    from pydantic import TypeAdapter

    return TypeAdapter(hint)


def _tuples(value: Any, *, exponents: bool = False) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_tuples(item, exponents=exponents) for item in value)
    if exponents and isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    return value


def arms(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the one type."""
    union = typing.get_origin(hint) in (Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _words(hint: Any, *, many: bool = False) -> str:
    """A type for people: ``an integer or null``, ``a list of numbers``."""
    one_many = {
        bool: ("true or false", "trues and falses"),
        int: ("an integer", "integers"),
        float: ("a number", "numbers"),
        str: ("text", "texts"),
        type(None): ("null", "nulls"),
    }
    choices = arms(hint)
    if len(choices) > 1:
        return " or ".join(_words(arm, many=many) for arm in choices)
    if typing.get_origin(hint) is Literal:
        return " or ".join(repr(value) for value in typing.get_args(hint))
    if typing.get_origin(hint) is tuple:
        first, *rest = typing.get_args(hint)
        if any(one not in (first, Ellipsis) for one in rest):
            return f"{'lists' if many else 'a list'} [{', '.join(map(_words, (first, *rest)))}]"
        return f"{'lists' if many else 'a list'} of {_words(first, many=True)}"
    return one_many[hint][many] if hint in one_many else f"of type {getattr(hint, '__name__', hint)}"


def _unknown(key: str, known: Iterable[str], kind: str | None, table: Table | None) -> str:
    """What to say about an unknown key: the nearest known one, or the row that has it."""
    names = list(known)
    near = _did_you_mean(key, names)
    owners = [
        other
        for other, row in (table or {}).items()
        if key in {field.name for field in dataclasses.fields(row)}
    ]
    if owners and not near:
        return f" for kind {kind}; kind {' or '.join(owners)} has it"
    listed = f"; the keys are {', '.join(names)}" if names else "; there are no keys here"
    return near or listed


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _dotted(path: Path) -> str:
    return ".".join(str(step) for step in path)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
