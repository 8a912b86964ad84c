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

    Where the file system has no locks, as some of clusters, nothing is held.

    Raises:
        OutputError: if another process holds it, or nothing can be written there.
    """
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        yield
        return
    path = folder / _NAME
    try:
        file = path.open("a")
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}; choose another folder with --out"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have removed the file, and its lock, between the two lines above.
            held = path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino
        except (BlockingIOError, PermissionError):
            held = False
        except OSError:  # no such locks on this file system
            held = True
        if not held:
            raise OutputError(
                f"another process is at work on the run folder {folder}: wait for it, or choose another "
                "folder with --out"
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
