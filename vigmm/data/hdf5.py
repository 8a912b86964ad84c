"""One data set of an HDF5 file, read as it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.files import choose_key, locate, reading
from vigmm.data.protocol import Index, Rows2D
from vigmm.data.slices import SlicedParts

__all__ = ["Hdf5Source", "hdf5_library"]


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
        library = hdf5_library(self.name)
        with reading(self.name, "hdf5"), library.File(file, "r") as opened:
            chosen = choose_key(
                None if key is None else key.strip("/"),
                _paths(opened, library.Dataset),
                "data set",
                self.name,
            )
            shape, chunks = opened[chosen].shape, opened[chosen].chunks

        def read(start: int, stop: int) -> np.ndarray:
            with reading(self.name, "hdf5"), library.File(file, "r") as opened:
                rows: np.ndarray = opened[chosen][start:stop]
                return rows

        self._rows = SlicedParts(file, shape, read, name=self.name, chunk=chunks[0] if chunks else 1)
        self.piece_ends = self._rows.piece_ends
        self.dim, self.dtype, self.columns = self._rows.dim, self._rows.dtype, self._rows.columns

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Index) -> Rows2D:
        return self._rows[index]

    def fingerprint(self) -> str:
        """Digest of the content; see `vigmm.data.parts.Parts.fingerprint`."""
        return self._rows.fingerprint()


def hdf5_library(name: str) -> Any:
    """h5py, or a sentence that says how to get it."""
    try:
        import h5py
    except ImportError as error:
        raise DataError(f"{name}: reading HDF5 needs h5py; pip install 'vigmm[hdf5]'") from error
    return h5py


def _paths(file: Any, kind: type) -> tuple[str, ...]:
    found: list[str] = []
    file.visititems(lambda path, item: found.append(path) if isinstance(item, kind) else None)
    return tuple(found)
