"""Every kind of source in one table, and the Spec that chooses a file from it.

A new kind is one file with a class like `NpySource` (attributes `prefixes`, `suffixes` and `options`, a
constructor that takes the path, those options and `name`) and one row in `SOURCES`; if many such files can be
read as one, also a function and a row in `MANY`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

from vigmm.core.errors import DataError
from vigmm.core.struct import require, spec
from vigmm.data.arrays import ArraySource, SelectColumns
from vigmm.data.arrow_files import ArrowSource, open_arrow_parts
from vigmm.data.duckdb_query import DuckdbSource
from vigmm.data.files import did_you_mean, locate, place
from vigmm.data.folders import list_files
from vigmm.data.hdf5 import Hdf5Source
from vigmm.data.images import ImageSource
from vigmm.data.npy_parts import open_npy_parts
from vigmm.data.numpy_files import NpySource, NpzSource
from vigmm.data.parquet_parts import open_parquet_parts
from vigmm.data.protocol import Source, check_rows
from vigmm.data.tables import CsvSource, ParquetSource

__all__ = [
    "MANY",
    "SOURCES",
    "ArraySource",
    "ArrowSource",
    "CsvSource",
    "DataFile",
    "DuckdbSource",
    "FileKind",
    "Hdf5Source",
    "ImageSource",
    "ManyFiles",
    "NpySource",
    "NpzSource",
    "ParquetSource",
    "SelectColumns",
    "Source",
    "check_rows",
    "kind_of",
    "open_source",
]


class FileKind(Protocol):
    """A row of `SOURCES`: a class whose instances are Sources."""

    prefixes: ClassVar[tuple[str, ...]]
    suffixes: ClassVar[tuple[str, ...]]
    options: ClassVar[tuple[str, ...]]

    def __call__(self, path: str, /, **options: Any) -> Source:
        """Open the file at `path`; `options` are `name` and those that the class lists."""
        ...


SOURCES: dict[str, FileKind] = {
    kind: cast(FileKind, source)
    for kind, source in {
        "npy": NpySource,
        "npz": NpzSource,
        "csv": CsvSource,
        "parquet": ParquetSource,
        "arrow": ArrowSource,
        "hdf5": Hdf5Source,
        "image": ImageSource,
        "duckdb": DuckdbSource,
    }.items()
}


class ManyFiles(Protocol):
    """A row of `MANY`: opens many files of one kind as one source."""

    def __call__(self, files: Sequence[Path], /, *, name: str, **options: Any) -> Source:
        """Open the files, in this order; `options` are those that the kind lists in `SOURCES`."""
        ...


MANY: dict[str, ManyFiles] = {
    kind: cast(ManyFiles, opens)
    for kind, opens in {
        "npy": open_npy_parts,
        "parquet": open_parquet_parts,
        "arrow": open_arrow_parts,
    }.items()
}


@spec
class DataFile:
    """A file of rows, a folder of such files, or a query.

    Args:
        path: where it is; ``pkg://package.name/file`` is a file inside an installed package. A folder, or a
            pattern such as ``parts/*.npy``, stands for all its files (of a kind in `MANY`) in the natural
            order of their names. ``duckdb:SELECT ...`` is a query.
        kind: a row of `SOURCES`; by default the suffix of the path tells.
        columns: which columns, by name and in this order; by default all (of a table, all numeric ones).
        key: which array of an ``.npz`` or HDF5 file.
        xy: whether an image's pixels get their coordinates as two more columns.

    Example:
        >>> DataFile("pkg://sklearn.datasets.images/china.jpg").open().columns
        ('r', 'g', 'b')
    """

    path: str
    kind: str | None = None
    columns: tuple[str, ...] | None = None
    key: str | None = None
    xy: bool = False

    def __post_init__(self) -> None:
        require(isinstance(self.path, str) and self.path != "", "path", "the path of a file", self.path)
        known = self.kind is None or self.kind in SOURCES
        hint = "" if known else did_you_mean(str(self.kind), SOURCES)
        require(known, "kind", f"one of {', '.join(sorted(SOURCES))}{hint}", self.kind)
        names = self.columns
        given = isinstance(names, tuple) and len(names) > 0 and all(isinstance(name, str) for name in names)
        require(names is None or given, "columns", "a non-empty tuple of column names", names)
        require(names is None or len(set(names)) == len(names), "columns", "different names", names)

    def open(self) -> Source:
        """Open the file; see `open_source`."""
        return open_source(self)


def open_source(chosen: DataFile) -> Source:
    """The source that a `DataFile` describes.

    Raises:
        DataError: if the kind cannot be told from the suffix, an option does not apply to the kind, or the
            file cannot be read.
    """
    kind, files = _resolve(chosen.path, chosen.kind)
    row = SOURCES[kind]
    options: dict[str, Any] = {}
    if chosen.key is not None:
        options["key"] = chosen.key
    if chosen.xy:
        options["xy"] = True
    for option in options:
        if option not in row.options:
            able = ", ".join(other for other in SOURCES if option in SOURCES[other].options)
            raise DataError(f"{chosen.path}: {option} is for {able} files, and this one is read as {kind}")
    by_name = chosen.columns is not None and "columns" in row.options
    if by_name:
        options["columns"] = chosen.columns
    source = row(chosen.path, **options) if files is None else MANY[kind](files, name=chosen.path, **options)
    return source if chosen.columns is None or by_name else SelectColumns(source, chosen.columns)


def kind_of(path: str) -> str:
    """The row of `SOURCES` that reads `path`, by its prefix or suffix or by those of the files it stands for.

    Raises:
        DataError: if that does not tell, or files of several kinds are meant.
    """
    return _resolve(path, None)[0]


def _resolve(path: str, kind: str | None) -> tuple[str, tuple[Path, ...] | None]:
    """The kind, and the files if `path` stands for many."""
    lowered = path.lower()
    query = next((one for one, row in SOURCES.items() if lowered.startswith(row.prefixes)), None)
    if query is not None or (kind is not None and SOURCES[kind].prefixes):
        return kind or cast(str, query), None
    files = list_files(path)
    if files is None:
        return kind or _by_suffix(path), None
    kinds = [_kind_or_none(str(file)) for file in files]
    if kind is None:
        found = sorted({one for one in kinds if one is not None})
        if len(found) > 1:
            counts = ", ".join(f"{kinds.count(one)} {one}" for one in found)
            raise DataError(f"{path} has files of several kinds ({counts}). Set kind, or give a pattern")
        kind = found[0] if found else _by_suffix(str(files[0]))
    if kind not in MANY:
        raise DataError(
            f"{path}: many files are read as one if they are {', '.join(MANY)}; name one {kind} file"
        )
    mine = tuple(file for file, one in zip(files, kinds, strict=True) if one == kind)
    if not mine and place(path).is_dir():
        raise DataError(f"{path} is a folder without {kind} files ({', '.join(SOURCES[kind].suffixes)})")
    return kind, mine or files  # a pattern may name files without a suffix, if the kind is given


def _kind_or_none(path: str) -> str | None:
    lowered = path.lower()
    return next((kind for kind, row in SOURCES.items() if lowered.endswith(row.suffixes)), None)


def _by_suffix(path: str) -> str:
    kind = _kind_or_none(path)
    if kind is not None:
        return kind
    locate(path)  # a name that is wrong is the likelier mistake, and the message says so
    known = "; ".join(f"{kind} ({', '.join(row.suffixes)})" for kind, row in SOURCES.items() if row.suffixes)
    raise DataError(f"{path}: the suffix does not tell the kind of file. Set kind to one of {known}")
