"""The keys of a configuration as JSON Schema, read off the Specs: editors complete and check YAML by it.

Types, defaults and tables come from the fields, meanings from the docstrings. What a Spec checks when it is
made (a range, choices that do not fit together) is not in the schema: `vigmm fit` says it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from vigmm.config.job import Job
from vigmm.core.specdict import arms, is_spec_class, to_dict

__all__ = ["schema"]

Schema = dict[str, Any]

_NULL: Schema = {"type": "null"}
# Which row is meant without a kind depends on the family, so any may be.
_KIND_FOLLOWS = ("estimator",)
_ENTRY = re.compile(r"^ {4}(\w+): (.+(?:\n+ {8}.+)*)", re.M)


def schema() -> Schema:
    """JSON Schema (2020-12) of a configuration file.

    A Spec is a definition under ``$defs``, by the name of its class.

    Example:
        >>> found = schema()
        >>> found["properties"]["seed"]
        {'description': 'every random choice of the run follows from it.', 'default': 0, 'type': 'integer'}
        >>> found["$defs"]["Adam"]["properties"]["kind"]
        {'const': 'adam', 'description': 'chooses these keys.'}
    """
    writer = _Writer()
    top = writer.keys(Job)
    for name, value in top["properties"].items():
        # An empty section is as good as none.
        if "$ref" in value or "anyOf" in value:
            top["properties"][name] = _or(value, _NULL)
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "A configuration of vigmm fit",
        **top,
        "$defs": dict(sorted(writer.definitions.items())),
    }


class _Writer:
    """One walk over the Specs, which notes each class once."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self._classes: dict[str, Any] = {}

    def keys(self, cls: type[Any]) -> Schema:
        """The schema of a section that holds the fields of `cls`."""
        hints, meanings = typing.get_type_hints(cls), _meanings(cls)
        known = [field for field in dataclasses.fields(cls) if field.init]
        properties = {}
        for field in known:
            about: Schema = {"description": meanings.get(field.name, "")}
            if _has_default(field):
                about["default"] = _default(field)
            properties[field.name] = about | self._value(field, hints[field.name])
        made: Schema = {"type": "object", "description": _summary(cls), "properties": properties}
        made["additionalProperties"] = False
        required = [field.name for field in known if _required(field)]
        return made | ({"required": required} if required else {})

    def _value(self, field: dataclasses.Field[Any], hint: Any) -> Schema:
        table = field.metadata.get("table")
        if table is not None:
            default = field.metadata.get("default")
            kindless = tuple(table) if field.name in _KIND_FOLLOWS else (default,)
            row = self._row(table, kindless)
            if typing.get_origin(hint) is tuple:
                return _or(row, {"type": "array", "items": row})
            return _or(row, _NULL) if type(None) in arms(hint) else row
        specs = [self._section(arm) for arm in arms(hint) if is_spec_class(arm)]
        plain = [arm for arm in arms(hint) if not is_spec_class(arm)]
        return _or(*specs, *(TypeAdapter(arm).json_schema() for arm in plain))

    def _row(self, table: Mapping[str, type[Any]], kindless: tuple[str, ...]) -> Schema:
        """A row of a table: its name, or a section with its kind, which `kindless` rows can do without."""
        names = [name for name, cls in table.items() if not any(map(_required, dataclasses.fields(cls)))]
        sections = []
        for name, cls in table.items():
            section = self._section(cls, kind=name)
            sections.append(section if name in kindless else {**section, "required": ["kind"]})
        return _or({"enum": names}, *sections)

    def _section(self, cls: type[Any], *, kind: str | None = None) -> Schema:
        name = cls.__name__
        if self._classes.setdefault(name, cls) is not cls:
            raise TypeError(f"two Specs are called {name}")
        if name not in self.definitions:
            self.definitions[name] = {}  # a Spec may hold itself
            made = self.keys(cls)
            if kind is not None:
                about = {"const": kind, "description": "chooses these keys."}
                made["properties"] = {"kind": about, **made["properties"]}
            self.definitions[name] = made
        return {"$ref": f"#/$defs/{name}"}


def _or(*choices: Schema) -> Schema:
    """Any of the choices, taken apart where they are choices already; what the first is about, all are."""
    about: Schema = {}
    found: list[Schema] = []
    for number, choice in enumerate(choices):
        told = {key: value for key, value in choice.items() if key in ("description", "default")}
        rest = {key: value for key, value in choice.items() if key not in told}
        about |= told if number == 0 else {}
        found += [one for one in rest.get("anyOf", [rest]) if one not in found]
    return {**about, **found[0]} if len(found) == 1 else {**about, "anyOf": found}


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _has_default(field: dataclasses.Field[Any]) -> bool:
    """Whether there is one to tell: a section's are those of its keys."""
    return not _required(field) and ("default" in field.metadata or not is_spec_class(field.default_factory))


def _default(field: dataclasses.Field[Any]) -> Any:
    """What is meant where the key is left out: of a table the row's name, else the value."""
    if "default" in field.metadata:
        return field.metadata["default"]
    value = field.default
    if value is dataclasses.MISSING:
        assert field.default_factory is not dataclasses.MISSING
        value = field.default_factory()
    if is_spec_class(type(value)):
        return to_dict(value)
    return list(value) if isinstance(value, tuple) else value


def _summary(cls: type[Any]) -> str:
    return " ".join((inspect.getdoc(cls) or "").partition("\n\n")[0].split())


def _meanings(cls: type[Any]) -> dict[str, str]:
    """What each argument means, from the docstring's Args or those of the classes below."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        _, _, after = inspect.cleandoc(one.__doc__ or "").partition("\nArgs:\n")
        section = re.split(r"\n(?=\S)", after, maxsplit=1)[0]
        found |= {name: " ".join(text.split()) for name, text in _ENTRY.findall(section)}
    return found
