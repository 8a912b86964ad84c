"""Compiled programs, kept between runs of the command line: the second run of a shape compiles nothing.

JAX keeps them in a folder, under a key that covers the program, the versions of JAX and its compiler, and
every feature of the processor: a machine is only given what was compiled for its kind. They are in the user's
cache folder, or where the environment variable ``VIGMM_CACHE`` says; ``VIGMM_CACHE=off``, or ``cache: false``
in a configuration, does without. A folder that JAX was given already stays. The folder may be deleted at any
time.

Only commands do this. Whoever imports vigmm decides for their own process.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

__all__ = ["FOLDER", "compiled_programs", "folder", "quiet_loader", "shorten"]

FOLDER = "VIGMM_CACHE"
_OFF = ("", "0", "false", "no", "none", "off")
# A fit leaves some thirty programs, one or two MB; what was written first is dropped first.
_MOST_BYTES = 2**29
_SUFFIX = "-cache"
_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_TROUBLE = r"Error (reading|writing) persistent compilation cache entry for '([\w.\-]+)'"


def folder() -> Path | None:
    """Where programs are kept, or None for nowhere.

    Example:
        >>> import os
        >>> os.environ["VIGMM_CACHE"] = "off"
        >>> folder() is None
        True
    """
    told = os.environ.get(FOLDER)
    if told is not None:
        return None if told.strip().lower() in _OFF else Path(told).expanduser()
    home = {"darwin": "~/Library/Caches", "win32": os.environ.get("LOCALAPPDATA", "~/AppData/Local")}
    usual = home.get(sys.platform) or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    # The rule of the XDG specification: a path that is not absolute is to be ignored.
    base = Path(usual).expanduser()
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "vigmm" / "programs"


def quiet_loader() -> None:
    """Keep the compiler's own log to itself; called before JAX is imported, which is when it looks.

    Whenever it loads a program for a CPU, it complains at length that hints which it gave itself (such as
    ``prefer-no-gather``) are no features of the processor. It is the same processor: see above. Errors that
    matter reach Python. Who sets this variable to 0 sees it all; 1 is what JAX sets, for its children too.
    """
    if os.environ.get(_LEVEL, "1") == "1":
        os.environ[_LEVEL] = "3"


@contextmanager
def compiled_programs(*, wanted: bool = True) -> Iterator[None]:
    """Read and keep compiled programs inside this context.

    Nothing that goes wrong with the folder may stop a run: a program that cannot be read is compiled anew,
    and what cannot be written is not kept.

    Args:
        wanted: whether to.
    """
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    path = folder() if wanted else None
    settings: dict[str, Any] = {
        "jax_compilation_cache_dir": str(path),
        # Small programs too: there are more of them than of large ones.
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    if path is None or before["jax_compilation_cache_dir"] is not None or not _usable(path):
        yield
        return
    show = warnings.showwarning

    def told(message: Warning | str, *about: Any, **more: Any) -> None:
        found = re.match(_TROUBLE, str(message))
        if found is None:
            show(message, *about, **more)
        elif found[1] == "reading":
            _forget(path, found[2])

    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=_TROUBLE)
        warnings.showwarning = told
        for name, value in settings.items():
            jax.config.update(name, value)  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)  # type: ignore[no-untyped-call]
            compilation_cache.reset_cache()


def _usable(path: Path) -> bool:
    """Whether the folder is there, or can be made; it is brought below the largest size."""
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        shorten(path)
    except OSError:
        return False
    return True


def shorten(path: Path) -> None:
    """Bring a folder of programs below its largest size; what was written first goes first.

    Args:
        path: the folder.
    """
    found = []
    for entry in os.scandir(path):
        if entry.name.endswith(_SUFFIX):
            with suppress(OSError):  # another run may have dropped it
                stat = entry.stat()
                found.append((stat.st_mtime, stat.st_size, Path(entry.path)))
    total = sum(size for _, size, _ in found)
    for _, size, one in sorted(found):
        if total <= _MOST_BYTES:
            break
        with suppress(OSError):
            one.unlink(missing_ok=True)
        total -= size


def _forget(path: Path, name: str) -> None:
    """Drop what is kept under the name of a program that could not be read: JAX replaces no entry."""
    with suppress(OSError):
        for entry in path.glob(f"{name}-*{_SUFFIX}"):
            entry.unlink(missing_ok=True)
