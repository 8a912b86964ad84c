"""From a configuration file and overrides to a `Job`, and back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path as FilePath
from typing import Any

import yaml

from vigmm.config.job import Job, default_kinds
from vigmm.config.reader import CORE_SCALARS, Document, Path, parse
from vigmm.core.errors import ConfigError
from vigmm.core.specdict import from_dict, to_dict
from vigmm.families import FAMILIES
from vigmm.models import Mixture

__all__ = ["load_job", "read_job", "to_yaml"]


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


def _text_of(path: FilePath) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{path} is a folder; name the configuration file in it") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file in UTF-8, so it cannot be a configuration") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error


def _fill_in(values: dict[str, Any]) -> None:
    """Put in the kinds that follow from others, so that the resolved configuration shows them.

    Where a section is wrong this does nothing: reading it properly will say what is wrong with it.
    """
    try:
        family = from_dict(FAMILIES, values.get("family", "conjugate"))
        model = from_dict(Mixture, values.get("model", {}))
    except ConfigError:
        return
    kinds = default_kinds(model, family, estimator=_kind(values.get("estimator")))
    for name, kind in kinds.items():
        section = values.get(name)
        if section is None:
            values[name] = kind
        elif isinstance(section, dict) and "kind" not in section:
            values[name] = {"kind": kind, **section}


def _kind(section: Any) -> str | None:
    kind = section.get("kind") if isinstance(section, dict) else section
    return kind if isinstance(kind, str) else None


def _located(error: ConfigError, document: Document) -> ConfigError:
    """The same problems, each with the place in the file, or the override, that it comes from."""
    problems = getattr(error, "problems", ())
    lines = [f"{document.place(_steps(problem.path))}: {problem.message}" for problem in problems]
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

