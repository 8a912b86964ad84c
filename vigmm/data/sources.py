"""Every kind of source in one table, and the Spec that chooses a file from it.

A new kind is one new file and one row in `SOURCES`: the file has a function like `open_npy`, which takes the
path and the kind's options and gives the rows (an `ArraySource`, `Parts`, or a `Source` of its own). If many
such files can be read as one, there is also a function for them, and a row in `MANY`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from vigmm.core.errors import DataError
from vigmm.core.processes import ALONE, Group
from vigmm.core.struct import require, spec
from vigmm.data.anndata_file import open_anndata
from vigmm.data.arrays import ArraySource, SelectColumns
from vigmm.data.arrow_files import open_arrow
from vigmm.data.chunks import open_chunks
from vigmm.data.csv_parts import open_csv
from vigmm.data.duckdb_query import PREFIX, open_duckdb
from vigmm.data.files import did_you_mean, locate, place
from vigmm.data.folders import list_files
from vigmm.data.good_rows import GoodRows
from vigmm.data.hdf5 import open_hdf5
from vigmm.data.images import ImageSource, open_image_parts
from vigmm.data.npy_parts import open_npy_parts
from vigmm.data.numpy_files import open_npy, open_npz
from vigmm.data.parquet_parts import open_parquet
from vigmm.data.protocol import Source, check_rows
from vigmm.data.remote import SCHEMES, AnyFile, is_remote, list_remote, public, size_of
from vigmm.data.shares import RowRange, check_alike, share_of
from vigmm.data.zarr_store import open_zarr

__all__ = [
    "MANY",
    "REMOTE",
    "SOURCES",
    "ArraySource",
    "DataFile",
    "FileKind",
    "SelectColumns",
    "Source",
    "as_source",
    "check_rows",
    "kind_of",
    "open_source",
    "resolve",
]


@dataclass(frozen=True)
class FileKind:
    """A row of `SOURCES`.

    Args:
        open: takes the path and the options, and gives the rows.
        suffixes: how names of such files end, in small letters.
        prefixes: how the path begins that is no file.
        options: those of `key`, `columns`, `xy` and `patch` that `open` takes.
        folder: whether what looks like one file is a folder.
    """

    open: Callable[..., Source]
    suffixes: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    folder: bool = False


_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")

SOURCES: dict[str, FileKind] = {
    "npy": FileKind(open_npy, (".npy",)),
    "npz": FileKind(open_npz, (".npz",), options=("key",)),
    "csv": FileKind(open_csv, (".csv", ".tsv", ".csv.gz"), options=("columns",)),
    "parquet": FileKind(open_parquet, (".parquet", ".pq"), options=("columns",)),
    "arrow": FileKind(open_arrow, (".arrow", ".feather", ".ipc"), options=("columns",)),
    "hdf5": FileKind(open_hdf5, (".h5", ".hdf5"), options=("key",)),
    "zarr": FileKind(open_zarr, (".zarr",), options=("key",), folder=True),
    "anndata": FileKind(open_anndata, (".h5ad",), options=("key",)),
    "image": FileKind(ImageSource, _IMAGES, options=("xy", "patch")),
    "duckdb": FileKind(open_duckdb, prefixes=(PREFIX,), options=("columns",)),
}


MANY: dict[str, Callable[..., Source]] = {
    "npy": open_npy_parts,
    "parquet": open_parquet,
    "arrow": open_arrow,
    "csv": open_csv,
    "image": open_image_parts,
}
"""Opens many files of one kind as one source: takes the files in their order, `name` for messages, and the
options that the kind lists in `SOURCES`."""

REMOTE = ("parquet", "arrow", "csv")
"""Rows of `MANY` that read files of any file system."""


@spec
class DataFile:
    """A file of rows, a folder of such files, or a query.

    Args:
        path: where it is; ``pkg://package.name/file`` is a file inside an installed package. A folder, or a
            pattern such as ``parts/*.npy``, stands for all its files (of a kind in `MANY`) in the natural
            order of their names. ``s3://bucket/...`` and ``gs://bucket/...`` are remote files, folders or
            patterns. ``duckdb:SELECT ...`` is a query.
        kind: a row of `SOURCES`; by default the suffix of the path tells.
        columns: which columns, by name and in this order; by default all (of a table, all numeric ones).
        key: which array of an ``.npz``, HDF5 or AnnData file or of a Zarr store.
        xy: whether an image's pixels get their coordinates as two more columns.
        patch: pixels along a side of the squares that are an image's rows.
        on_bad_rows: what is done about rows with a NaN (a missing value) or an infinity: ``refuse`` the data,
            or ``skip`` such rows, which one more pass over the data finds and counts.

    Example:
        >>> DataFile("pkg://sklearn.datasets.images/china.jpg").open().columns
        ('r', 'g', 'b')
    """

    path: str
    kind: str | None = None
    columns: tuple[str, ...] | None = None
    key: str | None = None
    xy: bool = False
    patch: int = 1
    on_bad_rows: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        require(isinstance(self.path, str) and self.path != "", "path", "the path of a file", self.path)
        known = self.kind is None or self.kind in SOURCES
        hint = "" if known else did_you_mean(str(self.kind), SOURCES)
        require(known, "kind", f"one of {', '.join(sorted(SOURCES))}{hint}", self.kind)
        names = self.columns
        given = isinstance(names, tuple) and len(names) > 0 and all(isinstance(name, str) for name in names)
        require(names is None or given, "columns", "a non-empty tuple of column names", names)
        require(names is None or len(set(names)) == len(names), "columns", "different names", names)
        require(self.patch >= 1, "patch", ">= 1", self.patch)
        known = self.on_bad_rows in ("refuse", "skip")
        require(known, "on_bad_rows", "'refuse' or 'skip'", self.on_bad_rows)

    def open(self, group: Group = ALONE) -> Source:
        """Open the file, or this process's share of it; see `open_source`."""
        return open_source(self, group)


def open_source(chosen: DataFile, group: Group = ALONE) -> Source:
    """The source that a `DataFile` describes.

    Args:
        chosen: where the rows are.
        group: processes that share them: each opens a run of neighbouring files, or reads a stretch of rows
            where there are fewer files than processes.

    Raises:
        DataError: if the kind cannot be told from the suffix, an option does not apply to the kind, or the
            file cannot be read.
    """
    kind, files = resolve(chosen.path, chosen.kind)
    row = SOURCES[kind]
    options: dict[str, Any] = {}
    if chosen.key is not None:
        options["key"] = chosen.key
    if chosen.xy:
        options["xy"] = True
    if chosen.patch != 1:
        options["patch"] = chosen.patch
    for option in options:
        if option not in row.options:
            able = ", ".join(other for other in SOURCES if option in SOURCES[other].options)
            raise DataError(f"{chosen.path}: {option} is for {able} files, and this one is read as {kind}")
    by_name = chosen.columns is not None and "columns" in row.options
    if by_name:
        options["columns"] = chosen.columns
    name = public(chosen.path) if is_remote(chosen.path) else chosen.path
    by_file = files is not None and len(files) >= group.count > 1
    if files is None:
        source = row.open(chosen.path, **options)
    else:
        some = share_of(files, [size_of(file) for file in files], group) if by_file else files
        source = MANY[kind](some, name=name, **options)
    if chosen.columns is not None and not by_name:
        source = SelectColumns(source, chosen.columns)
    if group.count > 1:
        source = source if by_file else RowRange.of(source, group)
        check_alike(source, group)
    return GoodRows(source) if chosen.on_bad_rows == "skip" else source


def as_source(data: Any, columns: tuple[str, ...] | None = None) -> Source:
    """Arrays, tables, paths, `DataFile` Specs, sources and iterators of chunks alike, as a source.

    Args:
        data: what somebody gave.
        columns: names of the columns, or which columns of a file.

    Example:
        >>> import numpy as np
        >>> len(as_source(np.ones((n, 2)) for n in (1, 2, 3)))
        6
    """
    if isinstance(data, str | Path):
        data = DataFile(str(data), columns=columns)
    if isinstance(data, DataFile):
        return open_source(data)
    if all(hasattr(data, name) for name in ("dim", "fingerprint", "columns", "name")):
        source: Source = data
        return source
    if isinstance(data, Iterator):  # what can be read once only; a list is rows
        return open_chunks(data, columns=columns)
    return ArraySource(data, columns=columns)


def kind_of(path: str) -> str:
    """The row of `SOURCES` that reads `path`, by its prefix or suffix or by those of the files it stands for.

    Raises:
        DataError: if that does not tell, or files of several kinds are meant.
    """
    return resolve(path)[0]


def resolve(path: str, kind: str | None = None) -> tuple[str, tuple[AnyFile, ...] | None]:
    """The row of `SOURCES` that reads `path`, and the files in order if they are many, or remote.

    Raises:
        DataError: as for `kind_of`.
    """
    lowered = path.lower()
    query = next((one for one, row in SOURCES.items() if lowered.startswith(row.prefixes)), None)
    if query is not None or (kind is not None and SOURCES[kind].prefixes):
        return kind or cast(str, query), None
    whole = kind or _kind_or_none(public(path) if is_remote(path) else path)
    if is_remote(path):
        if whole is not None and whole not in REMOTE:
            raise DataError(
                f"{public(path)}: from {' and '.join(SCHEMES)} only {', '.join(REMOTE)} files can be read; "
                f"download it first and give its path"
            )
        return _of_one_kind(public(path), kind, list_remote(path)[0], REMOTE)
    if whole is not None and SOURCES[whole].folder:
        return whole, None
    files = list_files(path)
    return (kind or _by_suffix(path), None) if files is None else _of_one_kind(path, kind, files, tuple(MANY))


def _of_one_kind(
    path: str, kind: str | None, files: tuple[AnyFile, ...], able: tuple[str, ...]
) -> tuple[str, tuple[AnyFile, ...]]:
    """The kind of some files, and those that are of it."""
    kinds = [_kind_or_none(str(file)) for file in files]
    if kind is None:
        found = sorted({one for one in kinds if one is not None})
        if len(found) > 1:
            counts = ", ".join(f"{kinds.count(one)} {one}" for one in found)
            raise DataError(f"{path} has files of several kinds ({counts}). Set kind, or give a pattern")
        kind = found[0] if found else _by_suffix(str(files[0]))
    if kind not in able:
        raise DataError(
            f"{path}: many files are read as one if they are {', '.join(able)}; name one {kind} file"
        )
    mine = tuple(file for file, one in zip(files, kinds, strict=True) if one == kind)
    if not mine and not is_remote(path) and place(path).is_dir():
        raise DataError(f"{path} is a folder without {kind} files ({', '.join(SOURCES[kind].suffixes)})")
    return kind, mine or files  # a pattern may name files without a suffix, if the kind is given


def _kind_or_none(path: str) -> str | None:
    lowered = path.lower()
    return next((kind for kind, row in SOURCES.items() if lowered.endswith(row.suffixes)), None)


def _by_suffix(path: str) -> str:
    kind = _kind_or_none(path)
    if kind is not None:
        return kind
    if not is_remote(path):
        locate(path)  # a name that is wrong is the likelier mistake, and the message says so
    known = "; ".join(f"{kind} ({', '.join(row.suffixes)})" for kind, row in SOURCES.items() if row.suffixes)
    raise DataError(f"{path}: the suffix does not tell the kind of file. Set kind to one of {known}")
