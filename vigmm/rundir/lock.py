"""One process at a time may work on a run folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from vigmm.core.errors import OutputError

__all__ = ["locked"]

_NAME = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock. The system gives it back however the process ends.

    Raises:
        OutputError: if another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    path = folder / _NAME
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have removed the file, and its lock, between the two lines above.
            if not path.exists() or path.stat().st_ino != os.fstat(file.fileno()).st_ino:
                raise BlockingIOError
        except OSError as error:
            raise OutputError(
                f"another process is at work on the run folder {folder}: wait for it, or choose another "
                "folder with --out"
            ) from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
