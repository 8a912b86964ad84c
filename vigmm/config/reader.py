"""YAML into plain values, with the place where each was written and nothing ever executed.

Scalars follow the core schema of YAML 1.2, not PyYAML's YAML 1.1: ``1e-3`` is a number, ``no`` and ``on``
are words, ``0o17`` is octal and ``017`` is not. Keys are words and occur once; aliases and tags of
programming languages are refused. The nodes are walked here and no constructor of PyYAML is called.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from vigmm.core.errors import ConfigError

__all__ = ["CORE_SCALARS", "Document", "Path", "parse", "parse_override"]

Path: TypeAlias = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"

CORE_SCALARS: dict[str, tuple[re.Pattern[str], str]] = {
    "null": (re.compile(r"^(?:~|null|Null|NULL|)$"), "~nN\0"),
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    "int": (re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), "-+0123456789"),
    "float": (
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        "-+.0123456789",
    ),
}
"""What an unquoted scalar is, and the characters it can begin with (``\\0`` stands for an empty one)."""


class _CoreLoader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own protocol)


for _kind, (_pattern, _first) in CORE_SCALARS.items():
    _CoreLoader.add_implicit_resolver(_TAG + _kind, _pattern, [c if c != "\0" else "" for c in _first])


@dataclass
class Document:
    """Plain values and where they were written.

    Args:
        values: nested dicts, lists, strings, numbers, bools and None.
        name: the file, or how else to call what was read.
        places: for each path the place of its key, as ``file:line:column``.
    """

    values: Any
    name: str
    places: dict[Path, str] = field(default_factory=dict)

    def place(self, path: Path) -> str:
        """Where `path`, or else the nearest section around it, was written."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.name

    def override(self, text: str, *, flag: str = "--set") -> None:
        """Apply ``a.b=c``: the value is read as YAML, and sections that are missing are made.

        A section that is only the name of its kind (``estimator: pathwise``) becomes
        ``{kind: pathwise}`` before a key is put into it.

        Raises:
            ConfigError: if the text is no assignment, its value no YAML, or its path leads through a value.
        """
        place = f"{flag} {text}"
        dotted, equals, value = text.partition("=")
        path = tuple(dotted.strip().split("."))
        if not equals or not all(path):
            raise ConfigError(f"{place}: write it as section.key=value, for example {flag} train.passes=4")
        section = self.values
        for depth, key in enumerate(path[:-1], start=1):
            below = section.get(key)
            if isinstance(below, str):
                below = {"kind": below}
            elif below is None:
                below = {}
            elif not isinstance(below, dict):
                raise ConfigError(
                    f"{place}: {'.'.join(path[:depth])} is not a section, so nothing can be set in it"
                )
            section[key] = below
            self.places.setdefault(path[:depth], place)
            section = below
        section[path[-1]] = parse_override(value, place)
        for known in [known for known in self.places if known[: len(path)] == path]:
            del self.places[known]
        self.places[path] = place


def parse(text: str, name: str) -> Document:
    r"""The document in `text`, which is called `name` in messages.

    Raises:
        ConfigError: naming the place, if it is no YAML, has a repeated key, an alias or a foreign tag.

    Example:
        >>> document = parse("train:\n  passes: 1e1\n", "job.yaml")
        >>> document.values, document.place(("train", "passes"))
        ({'train': {'passes': 10.0}}, 'job.yaml:2:3')
    """
    document = Document(values=None, name=name)
    node = _compose(text, name, marks=True)
    if node is not None:
        document.values = _Walk(document).value(node, ())
    return document


def parse_override(text: str, place: str) -> Any:
    """One value, by the same rules as in a file.

    Example:
        >>> parse_override("1e-3", ""), parse_override("no", ""), parse_override("[a, 2]", "")
        (0.001, 'no', ['a', 2])
    """
    node = _compose(text, place, marks=False)
    if node is None:
        return None
    return _Walk(Document(values=None, name=place), fixed=place).value(node, ())


def _compose(text: str, name: str, *, marks: bool) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark and marks else name
        reason = " ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"{place}: not valid YAML: {reason}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise ConfigError(f"{name}: nested too deeply to be a configuration") from error
    return node


class _Walk:
    """One walk over the nodes of a document, which notes places and refuses what has no place there."""

    def __init__(self, document: Document, *, fixed: str | None = None) -> None:
        self._document, self._fixed = document, fixed
        self._seen: set[int] = set()

    def value(self, node: yaml.Node, path: Path) -> Any:
        if id(node) in self._seen:
            raise ConfigError(f"{self._at(node)}: aliases (*name) are not supported; write the value out")
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq")
            for index, item in enumerate(node.value):
                self._document.places[(*path, index)] = self._at(item)
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        self._check_tag(node, "map")
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise ConfigError(f"{self._at(key_node)}: a key must be a word")
            key = key_node.value
            if key in values:
                first = self._document.places[(*path, key)]
                raise ConfigError(f"{self._at(key_node)}: the key {key!r} occurs twice (first at {first})")
            self._document.places[(*path, key)] = self._at(key_node)
            values[key] = self.value(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.Node) -> str | int | float | bool | None:
        text = str(node.value)
        kind = node.tag.removeprefix(_TAG)
        self._check_tag(node, "str", *CORE_SCALARS)
        if kind == "str":
            return text
        if not CORE_SCALARS[kind][0].match(text):  # only an explicit tag can disagree with the text
            raise ConfigError(f"{self._at(node)}: {text!r} is no {kind}")
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        try:
            if kind == "int":
                return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
            return float(re.sub(r"\.(inf|nan)$", r"\1", text.lower()))
        except ValueError as error:  # an integer of thousands of digits
            raise ConfigError(f"{self._at(node)}: {text[:20]}... is too long for a number") from error

    def _check_tag(self, node: yaml.Node, *allowed: str) -> None:
        if node.tag not in {_TAG + kind for kind in allowed}:
            shown = node.tag.replace(_TAG, "!!")
            raise ConfigError(
                f"{self._at(node)}: the tag {shown} is not supported; a configuration holds plain values"
            )

    def _at(self, node: yaml.Node) -> str:
        if self._fixed is not None:
            return self._fixed
        return f"{self._document.name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
