"""Sharded ``.npy``: many files of the same columns, each memory-mapped when a row of it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vigmm.core.errors import DataError
from vigmm.data.arrays import ArraySource
from vigmm.data.numpy_files import open_npy
from vigmm.data.parts import Parts
from vigmm.data.remote import AnyFile

__all__ = ["open_npy_parts"]


@dataclass(frozen=True)
class _NpyPiece:
    file: Path
    rows: int
    first: int = 0

    def open(self) -> ArraySource:
        source = open_npy(self.file)
        if len(source) != self.rows:
            raise DataError(f"{self.file} had {self.rows} rows and has {len(source)} now; start again")
        return source


def open_npy_parts(files: Sequence[AnyFile], *, name: str) -> Parts:
    """Rows of many ``.npy`` files, in the order of `files`.

    Raises:
        DataError: naming the file that cannot be read, or has another number of columns than the first.
    """
    pieces, dtypes, columns = [], [], None
    for file in files:
        header = open_npy(str(file))  # reads the header, and lets go of the map
        columns = header.columns if columns is None else columns
        if header.columns != columns:
            raise DataError(
                f"{file} has {header.dim} columns, but {files[0]} has {len(columns)}: "
                f"all parts need the same columns. Take it out, or give a pattern that leaves it out"
            )
        pieces.append(_NpyPiece(Path(str(file)), len(header)))
        dtypes.append(header.dtype)
    dtype = np.result_type(*dtypes)
    return Parts(pieces, columns=columns or (), dtype=dtype, name=name, read_whole=False)
