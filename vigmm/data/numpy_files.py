"""NumPy's own files: ``.npy``, read through a memory map, and ``.npz``. Pickles are never loaded."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.arrays import ArraySource
from vigmm.data.files import choose_key, locate, reading
from vigmm.data.protocol import Index, Rows2D, content_fingerprint

__all__ = ["NpySource", "NpzSource"]

_PICKLED = "it holds Python objects, which could run code when loaded; save plain numbers instead"


class NpySource:
    """An ``.npy`` file, memory-mapped: only the rows asked for are read, so it may exceed memory.

    Args:
        path: file, or ``pkg://package/file``.
        name: what messages call it; the path by default.

    Raises:
        DataError: if there is no such file, it is damaged, or it is no non-empty table of numbers.
    """

    prefixes: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = (".npy",)
    options: ClassVar[tuple[str, ...]] = ()

    def __init__(self, path: str | Path, *, name: str | None = None) -> None:
        self.name = str(path) if name is None else name
        file = locate(path)
        _check_magic(file, self.name, b"\x93NUMPY", "npy")
        with reading(self.name, "npy"):
            try:
                array = np.load(file, mmap_mode="r", allow_pickle=False)
            except ValueError as error:
                if _is_pickle(error):
                    raise DataError(f"{self.name}: {_PICKLED}") from error
                raise
        self._rows = ArraySource(array, name=self.name)
        self.dim, self.dtype, self.columns = self._rows.dim, self._rows.dtype, self._rows.columns

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Index) -> Rows2D:
        return self._rows[index]

    def fingerprint(self) -> str:
        """Digest of the content; see `vigmm.data.protocol.content_fingerprint`."""
        return content_fingerprint(self)


class NpzSource:
    """One array of an ``.npz`` archive, read into memory.

    Args:
        path: file, or ``pkg://package/file``.
        key: which array; not needed if there is only one.
        name: what messages call it; the path by default.

    Raises:
        DataError: as for `NpySource`, and if `key` is missing or wrong, with the arrays there are.
    """

    prefixes: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = (".npz",)
    options: ClassVar[tuple[str, ...]] = ("key",)

    def __init__(self, path: str | Path, *, key: str | None = None, name: str | None = None) -> None:
        self.name = str(path) if name is None else name
        file = locate(path)
        _check_magic(file, self.name, b"PK", "npz")
        # Our own stream: NumPy leaves one that it opened to the garbage collector if the archive is bad.
        with reading(self.name, "npz"), file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            chosen = choose_key(key, tuple(archive.files), "array", self.name)
            try:
                array = archive[chosen]
            except ValueError as error:
                if _is_pickle(error):
                    raise DataError(f"{self.name}: {_PICKLED}") from error
                raise
        self._rows = ArraySource(array, name=self.name)
        self.dim, self.dtype, self.columns = self._rows.dim, self._rows.dtype, self._rows.columns

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Index) -> Rows2D:
        return self._rows[index]

    def fingerprint(self) -> str:
        """Digest of the content; see `vigmm.data.protocol.content_fingerprint`."""
        return content_fingerprint(self)


def _is_pickle(error: ValueError) -> bool:
    return "pickle" in str(error) or "Python objects" in str(error)


def _check_magic(file: Path, name: str, magic: bytes, kind: str) -> None:
    """Refuse a foreign file, which `numpy.load` would take for a pickle or for its other format."""
    with reading(name, kind), file.open("rb") as stream:
        if stream.read(len(magic)) != magic:
            raise DataError(f"{name} is no {kind} file, by its first bytes; check the path or set the kind")
