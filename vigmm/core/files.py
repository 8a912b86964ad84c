"""Files that are either whole or not there, whenever a process is killed."""

from __future__ import annotations

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing", "sweep"]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write to; the file gets its own name when all of it is on the disk.

    On any error the temporary file is removed, and an older file of that name stays as it was.

    Raises:
        OSError: if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the rename itself must reach the disk
        _flush(path.parent)


def sweep(folder: Path, name: str | None = None) -> None:
    """Remove what writers that were killed left in a folder; nobody else may be writing there.

    Args:
        folder: where they wrote.
        name: the file that they wrote; None for any.
    """
    of = "" if name is None else f"{glob.escape(name)}."
    for temporary in folder.glob(f".{of}*.tmp"):
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
