"""From a configuration file and overrides to a `Job`, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from pathlib import Path as FilePath
from typing import Any

import yaml

from vigmm.config.job import Job
from vigmm.config.reader import CORE_SCALARS, Document, Path, parse
from vigmm.core.errors import ConfigError
from vigmm.core.specdict import from_dict, to_dict
from vigmm.data.files import did_you_mean, names_beside
from vigmm.families import FAMILIES

__all__ = ["inline", "load_job", "path_of", "read_job", "to_yaml"]


def load_job(path: str | FilePath, overrides: Iterable[str] = ()) -> Job:
    """The job that a configuration file describes.

    Args:
        path: the file.
        overrides: assignments such as ``train.passes=4``, applied in this order.

    Raises:
        ConfigError: with every problem at once, each with its place.
    """
    return read_job(_text_of(FilePath(path).expanduser()), name=str(path), overrides=overrides)


def read_job(text: str, *, name: str, overrides: Iterable[str] = ()) -> Job:
    """The job in a configuration's text, which is called `name` in messages."""
    document = parse(text, name)
    if document.values is None:
        document.values = {}
    if not isinstance(document.values, dict):
        raise ConfigError(f"{name}: a configuration is made of sections, such as data: and model:")
    for override in overrides:
        document.override(override)
    _fill_in(document.values)
    try:
        job: Job = from_dict(Job, document.values)
    except ConfigError as error:
        raise _located(error, document) from error
    return job


def to_yaml(job: Job) -> str:
    """The whole job as YAML, defaults included, that `read_job` reads back to an equal one."""
    text: str = yaml.dump(
        to_dict(job), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True
    )
    return text


def inline(value: Any, *, width: int = 10**9) -> str:
    """One value as YAML, that a configuration reads back; a list goes on lines of `width` at most.

    Example:
        >>> inline(["no", 1e-3, "a: b"])
        "['no', 0.001, 'a: b']"
    """
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=width, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def path_of(job: Job, name: str, value: Any) -> str:
    """The dotted path of the field `name` that holds `value`, or just the name if that is not one place.

    Example:
        >>> from vigmm.data.sources import DataFile
        >>> path_of(Job(data=DataFile("x.npy")), "num_components", 20)
        'model.num_components'
    """
    found: list[str] = []

    def walk(spec: Any, path: tuple[str, ...]) -> None:
        for part in fields(spec):
            inner = getattr(spec, part.name)
            if is_dataclass(inner):
                walk(inner, (*path, part.name))
            elif part.name == name and inner == value:
                found.append(".".join((*path, name)))

    walk(job, ())
    return found[0] if len(found) == 1 else name


def _text_of(path: FilePath) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        near = did_you_mean(path.name, names_beside(path))
        raise ConfigError(
            f"{path}: no such configuration file{near or '; vigmm init DATA writes one'}"
        ) from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path} is a folder; name the configuration file in it") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not a text file in UTF-8, so it cannot be a configuration; name one"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; see its permissions") from error


# Sections where null says something: that this is not to be done.
_NULLABLE = ("moves",)


def _fill_in(values: dict[str, Any]) -> None:
    """Drop empty sections, and name the estimator that suits the family where none is named.

    Where the family is wrong this does nothing: reading it properly will say what is wrong with it.
    """
    for name in [name for name, section in values.items() if section is None and name not in _NULLABLE]:
        del values[name]
    try:
        family = from_dict(FAMILIES, values.get("family", _default("family")), default=_default("family"))
    except ConfigError:
        return
    section = values.setdefault("estimator", family.default_estimator)
    if isinstance(section, dict) and "kind" not in section:
        values["estimator"] = {"kind": family.default_estimator, **section}


def _default(name: str) -> str:
    """The row that a section of a `Job` has by default."""
    return str(Job.__dataclass_fields__[name].metadata["default"])


def _located(error: ConfigError, document: Document) -> ConfigError:
    """The same problems, each with the place in the file, or the override, that it comes from."""
    order = {place: number for number, place in enumerate(document.places.values())}
    found = [(document.place(_steps(problem.path)), problem.message) for problem in error.problems]
    found.sort(key=lambda line: order.get(line[0], -1))  # as somebody reads the file, overrides last
    lines = [f"{place}: {message}" for place, message in found]
    return ConfigError("\n".join(lines) if lines else f"{document.name}: {error}")


def _steps(path: Any) -> Path:
    return tuple(path.split(".")) if isinstance(path, str) else tuple(path)


class _Dumper(yaml.SafeDumper):
    """Quotes every string that either version of YAML would read as something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's own protocol)
        first: list(rules) for first, rules in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind_name, (_pattern, _first) in CORE_SCALARS.items():
    _Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind_name}", _pattern, [c if c != "\0" else "" for c in _first]
    )
