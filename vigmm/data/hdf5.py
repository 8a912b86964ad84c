"""One data set of an HDF5 file, read as it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.arrays import ArraySource
from vigmm.data.files import choose_key, locate, reading
from vigmm.data.parts import Parts
from vigmm.data.protocol import CHUNK, Index, Rows2D

__all__ = ["Hdf5Source"]


@dataclass(frozen=True)
class _Rows:
    """Rows of a data set that follow each other: HDF5 reads ranges fast and lists of rows very slowly."""

    file: Path
    key: str
    first: int
    rows: int
    name: str

    def open(self) -> ArraySource:
        with reading(self.name, "hdf5"), _library(self.name).File(self.file, "r") as file:
            rows = file[self.key][self.first : self.first + self.rows]
            if len(rows) != self.rows:
                raise DataError(f"{self.name} has changed since the run began; start again")
            return ArraySource(rows, name=self.name)


class Hdf5Source:
    """A data set of one or two dimensions; only blocks that hold rows asked for are read.

    Args:
        path: file, or ``pkg://package/file``.
        key: path of the data set inside the file; not needed if there is only one.
        name: what messages call it; the path by default.

    Raises:
        DataError: as for `vigmm.data.numpy_files.NpzSource`, and if h5py is not installed.
    """

    prefixes: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = (".h5", ".hdf5")
    options: ClassVar[tuple[str, ...]] = ("key",)

    def __init__(self, path: str | Path, *, key: str | None = None, name: str | None = None) -> None:
        self.name = str(path) if name is None else name
        file = locate(path)
        library = _library(self.name)
        with reading(self.name, "hdf5"), library.File(file, "r") as opened:
            chosen = choose_key(
                None if key is None else key.strip("/"),
                _paths(opened, library.Dataset),
                "data set",
                self.name,
            )
            found = opened[chosen]
            if found.ndim not in (1, 2) or 0 in found.shape:
                ArraySource(np.empty(found.shape or ()), name=self.name)  # says what is wrong with the shape
            head = ArraySource(found[:1], name=self.name)  # and this with the type
            total = int(found.shape[0])
        starts = range(0, total, CHUNK)
        pieces = [_Rows(file, chosen, start, min(CHUNK, total - start), self.name) for start in starts]
        self._rows = Parts(pieces, columns=head.columns, dtype=head.dtype, name=self.name)
        self.dim, self.dtype, self.columns = self._rows.dim, self._rows.dtype, self._rows.columns

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Index) -> Rows2D:
        return self._rows[index]

    def fingerprint(self) -> str:
        """Digest of the content; see `vigmm.data.parts.Parts.fingerprint`."""
        return self._rows.fingerprint()


def _library(name: str) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{name}: reading HDF5 needs h5py; pip install 'vigmm[hdf5]'") from error
    return h5py


def _paths(file: Any, kind: type) -> tuple[str, ...]:
    found: list[str] = []
    file.visititems(lambda path, item: found.append(path) if isinstance(item, kind) else None)
    return tuple(found)
