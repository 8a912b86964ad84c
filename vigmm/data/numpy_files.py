"""NumPy's own files: ``.npy``, read through a memory map, and ``.npz``. Pickles are never loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.arrays import ArraySource
from vigmm.data.files import choose_key, locate, reading

__all__ = ["open_npy", "open_npz"]

_PICKLED = "it holds Python objects, which could run code when loaded; save plain numbers instead"


def open_npy(path: str | Path) -> ArraySource:
    """An ``.npy`` file, memory-mapped: only the rows asked for are read, so it may exceed memory.

    Args:
        path: file, or ``pkg://package/file``.

    Raises:
        DataError: if there is no such file, it is damaged, or it is no non-empty table of numbers.
    """
    name, file = str(path), locate(path)
    _check_magic(file, name, b"\x93NUMPY", "npy")
    with reading(name, "npy"):
        try:
            array = np.load(file, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            if _is_pickle(error):
                raise DataError(f"{name}: {_PICKLED}") from error
            raise
    return ArraySource(array, name=name)


def open_npz(path: str | Path, *, key: str | None = None) -> ArraySource:
    """One array of an ``.npz`` archive, read into memory.

    Args:
        path: file, or ``pkg://package/file``.
        key: which array; not needed if there is only one.

    Raises:
        DataError: as for `open_npy`, and if `key` is missing or wrong, with the arrays there are.
    """
    name, file = str(path), locate(path)
    _check_magic(file, name, b"PK", "npz")
    # Our own stream: NumPy leaves one that it opened to the garbage collector if the archive is bad.
    with reading(name, "npz"), file.open("rb") as stream:
        archive = np.load(stream, allow_pickle=False)
        chosen = choose_key(key, tuple(archive.files), "array", name)
        try:
            array = archive[chosen]
        except ValueError as error:
            if _is_pickle(error):
                raise DataError(f"{name}: {_PICKLED}") from error
            raise
    return ArraySource(array, name=name)


def _is_pickle(error: ValueError) -> bool:
    return "pickle" in str(error) or "Python objects" in str(error)


def _check_magic(file: Path, name: str, magic: bytes, kind: str) -> None:
    """Refuse a foreign file, which `numpy.load` would take for a pickle or for its other format."""
    with reading(name, kind), file.open("rb") as stream:
        if stream.read(len(magic)) != magic:
            raise DataError(f"{name} is no {kind} file, by its first bytes; check the path or set the kind")
