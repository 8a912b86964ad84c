"""From a folder or a pattern to the files it stands for, in a stable natural order of their names."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from vigmm.core.errors import DataError
from vigmm.data.files import place

__all__ = ["HIDDEN", "common_folder", "list_files", "mine", "natural_key"]

T = TypeVar("T")

HIDDEN = (".", "_")
"""How names begin that other programs leave beside the parts: _SUCCESS, _metadata, .part-0.crc."""


def list_files(path: str) -> tuple[Path, ...] | None:
    """The files of a folder or of a pattern such as ``parts/*.npy``; None if `path` names one file.

    A folder stands for all files in it and in the folders below, but for those whose name (or the name of a
    folder on the way) starts with a dot or an underscore. A name that exists is never taken for a pattern.

    Raises:
        DataError: if there is nothing there.
    """
    start = place(path)
    if start.is_dir():
        found = _below(start)
        if not found:
            raise DataError(f"{path} is a folder without files; check the path")
        return tuple(found)
    if start.exists() or not glob.has_magic(str(start)):
        return None
    matches = [Path(match) for match in glob.glob(str(start), recursive=True)]
    files = {file for match in matches for file in (_below(match) if match.is_dir() else [match])}
    if not files:
        raise DataError(f"{path}: no file matches this pattern; check the folder and the suffix")
    return tuple(sorted(files, key=lambda file: natural_key(str(file))))


def common_folder(path: str) -> Path:
    """The folder that all files of a folder or of a pattern are in or below.

    Example:
        >>> common_folder("parts/y=*/part-?.npy").as_posix()
        'parts'
    """
    start = place(path)
    if start.is_dir():
        return start
    return next(folder for folder in start.parents if not glob.has_magic(str(folder)))


def mine(parts: Sequence[T], index: int, count: int) -> list[T]:
    """The share of the process `index`, from 0, of `count` that divide the parts among them.

    Example:
        >>> mine("abcde", 0, 2), mine("abcde", 1, 2)
        (['a', 'c', 'e'], ['b', 'd'])
    """
    return list(parts[index::count])


def _below(folder: Path) -> list[Path]:
    files = [
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(name.startswith(HIDDEN) for name in file.relative_to(folder).parts)
    ]
    return sorted(files, key=lambda file: natural_key(str(file.relative_to(folder))))


def natural_key(name: str) -> tuple[tuple[tuple[int, int, str], ...], str]:
    """Sorts names by the numbers in them as a reader would.

    Example:
        >>> sorted(["part-10.npy", "part-9.npy", "other.npy"], key=natural_key)
        ['other.npy', 'part-9.npy', 'part-10.npy']
    """
    pieces = re.split(r"([0-9]+)", name)
    # Numbers before letters; the whole name last, so that 1.npy and 01.npy have an order too.
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in pieces if p), name
