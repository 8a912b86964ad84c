"""From what the user wrote to a file that can be read, and from a library's error to one that helps."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vigmm.core.errors import DataError

__all__ = ["choose_key", "did_you_mean", "locate", "names_beside", "place", "reading", "resolve_columns"]

_PACKAGE = "pkg://"


def locate(path: str | Path) -> Path:
    """The existing, non-empty file that `path` names.

    ``pkg://package.name/file`` is a file inside an installed package, found without importing it (a path in a
    configuration must not execute code); anything else is a path of this machine, ``~`` included.

    Raises:
        DataError: if there is no such file or package, or it is a folder, a URL or empty.
    """
    text, file = str(path), place(path)
    if file.is_dir():
        raise DataError(f"{text} is a folder; name one file in it")
    if not file.exists():
        near = did_you_mean(file.name, names_beside(file))
        raise DataError(f"{text}: no such file{near or '; check the path'}")
    if file.stat().st_size == 0:
        raise DataError(f"{text} is empty (0 bytes); write it again, or give another file")
    return file


def place(path: str | Path) -> Path:
    """The path of this machine that `path` stands for, whatever may be there.

    Raises:
        DataError: if it is a URL, or a package that is not installed.
    """
    text = str(path)
    if text.startswith(_PACKAGE):
        return _in_package(text)
    if "://" in text:
        raise DataError(f"{text}: only local files can be read; download it first and give its path")
    return Path(text).expanduser()


def _in_package(text: str) -> Path:
    package, _, inner = text.removeprefix(_PACKAGE).partition("/")
    top, *below = package.split(".")
    parts = (*below, *inner.split("/"))
    if not inner or not all(name.isidentifier() for name in (top, *below)) or ".." in parts:
        raise DataError(f"{text}: write pkg://package.name/file")
    try:
        found = importlib.util.find_spec(top)  # of a top-level name: finds it, runs nothing
    except (ImportError, ValueError):
        found = None
    folders = None if found is None else found.submodule_search_locations
    if not folders:
        raise DataError(f"{text}: there is no installed package {top!r}; install it or give another path")
    files = [Path(folder, *parts) for folder in folders]
    return next((file for file in files if file.exists()), files[0])


def names_beside(file: Path) -> list[str]:
    """Names in the folder of a file, for `did_you_mean`; none if it cannot be read."""
    try:
        return sorted(entry.name for entry in file.parent.iterdir())
    except OSError:
        return []


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest known word, or nothing.

    Example:
        >>> did_you_mean("widht", ("width", "height"))
        "; did you mean 'width'?"
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def resolve_columns(wanted: Iterable[str], known: tuple[str, ...], name: str) -> list[int]:
    """Positions of the `wanted` columns among the `known` ones, in the order wanted.

    Raises:
        DataError: naming the first column that does not exist, or exists more than once, and what there is.
    """
    positions = []
    for column in wanted:
        count = known.count(column)
        if count == 0:
            shown = ", ".join(known[:20]) + (f", ... ({len(known)} in all)" if len(known) > 20 else "")
            hint = did_you_mean(column, known) or "."
            raise DataError(f"{name} has no column {column!r}{hint} It has: {shown}")
        if count > 1:
            raise DataError(f"{name} has {count} columns called {column!r}; give them different names")
        positions.append(known.index(column))
    return positions


def choose_key(key: str | None, keys: tuple[str, ...], what: str, name: str) -> str:
    """The one of a file's `keys` that is wanted; None will do if there is only one.

    Raises:
        DataError: naming the keys there are, each of which leads to `what`.
    """
    listed = ", ".join(keys[:20]) + (", ..." if len(keys) > 20 else "") if keys else "none"
    if key is None:
        if len(keys) == 1:
            return keys[0]
        raise DataError(f"{name} holds {len(keys)} {what}s ({listed}); choose one with key")
    if key not in keys:
        raise DataError(f"{name} has no {what} {key!r}{did_you_mean(key, keys) or '.'} It has: {listed}")
    return key


@contextmanager
def reading(name: str, kind: str) -> Iterator[None]:
    """Turn whatever a parser raises on a bad file into a `DataError` that names the file.

    The parsers (NumPy, zip, Arrow, Pillow) document no closed list of errors, hence the broad clause;
    running out of memory is not the file's fault and passes.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, FileNotFoundError) and error.errno is not None:  # the system says so, no parser
            raise DataError(f"{name} is no longer there; put it back, or begin anew without it") from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(
            f"{name} cannot be read as {kind}: {reason}. It may be damaged, cut short or of another kind"
        ) from error
