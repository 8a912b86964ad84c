"""Files that are elsewhere, by Arrow's own file systems: ``s3://`` and ``gs://``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

from vigmm.core.errors import DataError
from vigmm.core.redact import redacted
from vigmm.data.folders import HIDDEN, natural_key

__all__ = [
    "SCHEMES",
    "AnyFile",
    "RemoteFile",
    "address_of",
    "filesystem",
    "is_remote",
    "list_remote",
    "public",
    "size_of",
    "state_of",
]

SCHEMES = ("s3://", "gs://")

# What may stand in a path as it is, and what is written as % and two digits already.
_SAFE = "/%:@!$&'()*+,;=~"
_HELP = "Check the address, the network and the credentials in the environment"


class _State(NamedTuple):
    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True)
class RemoteFile:
    """A file of a remote file system; prints as its address, without what may be secret.

    Args:
        address: where it is, as a URI with the options that lead there.
        path: where it is in its file system.
        filesystem: how it is read.
    """

    address: str
    path: str
    filesystem: Any = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.address.partition('://')[0]}://{self.path}"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    def stat(self) -> _State:
        """Size and time of the last change, as of now."""
        with _reaching(str(self)):
            info = self.filesystem.get_file_info(self.path)
        if not info.is_file:
            raise DataError(f"{self}: no such file")
        return _State(info.size, info.mtime_ns)


AnyFile: TypeAlias = Path | RemoteFile


def is_remote(path: str | Path) -> bool:
    """Whether a path is the address of a remote file."""
    return str(path).startswith(SCHEMES)


def address_of(file: AnyFile) -> str:
    """What leads to a file again, options included; not to be shown."""
    return file.address if isinstance(file, RemoteFile) else str(file)


def state_of(file: AnyFile) -> tuple[int, int]:
    """Size and time of the last change in ns: a file that has others is another one."""
    about = file.stat()
    return about.st_size, about.st_mtime_ns


def filesystem(file: AnyFile) -> tuple[Any, str]:
    """What reads a file, and the file's path there."""
    from pyarrow import fs

    return (file.filesystem, file.path) if isinstance(file, RemoteFile) else (fs.LocalFileSystem(), str(file))


def size_of(file: AnyFile) -> int:
    """Bytes of a file."""
    return state_of(file)[0]


def public(address: str) -> str:
    """An address without options and without the key that may stand before the bucket.

    Example:
        >>> public("s3://name:secret@bucket/rows.parquet?region=eu-west-1")
        's3://bucket/rows.parquet'
    """
    return f"{address.partition('://')[0]}://{unquote(_split(address)[1])}"


def list_remote(address: str) -> tuple[tuple[RemoteFile, ...], str]:
    """The files of an address, in the natural order of their names, and the folder they are all in or below.

    An address is that of a file, of a folder, which stands for all files in it and below but hidden ones, or
    a pattern, in which ``*`` stands for any part of a name and ``**`` for any folders. Options of the file
    system follow after ``?``, such as ``endpoint_override``.

    Raises:
        DataError: if there is nothing there, or it cannot be reached.
    """
    from pyarrow import fs

    (front, inner, options), shown = _split(address), public(address)
    head = inner.partition("*")[0].rpartition("/")[0] if "*" in inner else inner
    head = quote(head, safe=_SAFE)
    with _reaching(shown):
        system, base = fs.FileSystem.from_uri(f"{front}{head.rstrip('/')}{options}")
        info = system.get_file_info(base)
        if info.is_file:
            found = [base]
        else:
            selector = fs.FileSelector(base, recursive=True, allow_not_found=True)
            found = [one.path for one in system.get_file_info(selector) if one.is_file]
    if "*" in inner:
        pattern = _regex(unquote(inner))
        found = [path for path in found if pattern.fullmatch(path)]
    elif not info.is_file:
        found = [path for path in found if not _is_hidden(path.removeprefix(base))]
    if not found:
        what = "no file matches this pattern" if "*" in inner else "no such file or folder, or an empty one"
        raise DataError(f"{shown}: {what}; check the address")
    files = (RemoteFile(f"{front}{quote(path)}{options}", path, system) for path in found)
    in_order = sorted(files, key=lambda file: natural_key(file.path))
    return tuple(in_order), base.rpartition("/")[0] if info.is_file else base


def _split(address: str) -> tuple[str, str, str]:
    """Scheme and key, bucket and path, options: together they are the address."""
    scheme, _, rest = address.partition("://")
    rest, mark, options = rest.partition("?")
    authority, slash, path = rest.partition("/")
    key, at, bucket = authority.rpartition("@")
    if ":" in bucket and "@" in path:  # half of a key that has a slash: no bucket has a colon
        key, at, rest = rest.partition("@")
        bucket, slash, path = rest.partition("/")
    return f"{scheme}://{quote(key, safe=':%')}{at}", f"{bucket}{slash}{path}", f"{mark}{options}"


def _is_hidden(path: str) -> bool:
    return any(name.startswith(HIDDEN) for name in path.split("/"))


def _regex(pattern: str) -> re.Pattern[str]:
    tokens = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    pieces = re.split(r"(\*\*/|\*\*|\*)", pattern)
    return re.compile("".join(tokens.get(piece, re.escape(piece)) for piece in pieces))


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        if isinstance(error, DataError):
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(f"{address} cannot be reached: {redacted(reason)}. {_HELP}") from error
