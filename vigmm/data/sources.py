"""Every kind of source in one table, and the Spec that chooses a file from it.

A new kind is one file with a class like `NpySource` (attributes `suffixes` and `options`, a constructor that
takes the path, those options and `name`) and one row in `SOURCES`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, cast

from vigmm.core.errors import DataError
from vigmm.core.struct import require, spec
from vigmm.data.arrays import ArraySource, SelectColumns
from vigmm.data.files import did_you_mean
from vigmm.data.images import ImageSource
from vigmm.data.numpy_files import NpySource, NpzSource
from vigmm.data.protocol import Source, check_rows
from vigmm.data.tables import CsvSource, ParquetSource

__all__ = [
    "SOURCES",
    "ArraySource",
    "CsvSource",
    "DataFile",
    "FileKind",
    "ImageSource",
    "NpySource",
    "NpzSource",
    "ParquetSource",
    "SelectColumns",
    "Source",
    "check_rows",
    "open_source",
]


class FileKind(Protocol):
    """A row of `SOURCES`: a class whose instances are Sources."""

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
        "image": ImageSource,
    }.items()
}


@spec
class DataFile:
    """A file of rows.

    Args:
        path: where it is; ``pkg://package.name/file`` is a file inside an installed package.
        kind: a row of `SOURCES`; by default the suffix of the path tells.
        columns: which columns, by name and in this order; by default all (of a table, all numeric ones).
        key: which array of an ``.npz`` file.
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
    kind = chosen.kind if chosen.kind is not None else _kind_of(chosen.path)
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
    if chosen.columns is None:
        return row(chosen.path, **options)
    if "columns" in row.options:
        return row(chosen.path, columns=chosen.columns, **options)
    return SelectColumns(row(chosen.path, **options), chosen.columns)


def _kind_of(path: str) -> str:
    lowered = path.lower()
    for kind, row in SOURCES.items():
        if lowered.endswith(row.suffixes):
            return kind
    known = "; ".join(f"{kind} ({', '.join(row.suffixes)})" for kind, row in SOURCES.items())
    raise DataError(f"{path}: the suffix does not tell the kind of file. Set kind to one of {known}")
