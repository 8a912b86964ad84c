"""One data set of an HDF5 file, read as it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.files import choose_key, locate, reading
from vigmm.data.parts import Parts
from vigmm.data.slices import open_slices

__all__ = ["hdf5_library", "open_hdf5"]


def open_hdf5(path: str | Path, *, key: str | None = None) -> Parts:
    """A data set of one or two dimensions; only blocks that hold rows asked for are read.

    Args:
        path: file, or ``pkg://package/file``.
        key: path of the data set inside the file; not needed if there is only one.

    Raises:
        DataError: as for `vigmm.data.numpy_files.open_npz`, and if h5py is not installed.
    """
    name, file = str(path), locate(path)
    library = hdf5_library(name)
    with reading(name, "hdf5"), library.File(file, "r") as opened:
        keys = _paths(opened, library.Dataset)
        chosen = choose_key(None if key is None else key.strip("/"), keys, "data set", name)
        shape, chunks = opened[chosen].shape, opened[chosen].chunks

    def read(start: int, stop: int) -> np.ndarray:
        with reading(name, "hdf5"), library.File(file, "r") as opened:
            rows: np.ndarray = opened[chosen][start:stop]
            return rows

    return open_slices(file, shape, read, name=name, chunk=chunks[0] if chunks else 1)


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
