"""Files that are either whole or not there."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vigmm.core.errors import OutputError
from vigmm.core.files import replacing

__all__ = ["appearing", "plain", "write_json", "write_text"]


@contextmanager
def appearing(path: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A temporary name to write to; the file gets its own name when all of it is on the disk.

    On any error the temporary file is removed, and an older file of that name stays as it was.

    Raises:
        OutputError: if it cannot be written, or it exists and `overwrite` is false.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; name a file")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} already exists; choose another name, or add --overwrite to replace it")
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}; choose another place"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8."""
    with appearing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; numbers that are not finite become null, for JSON has no word for them."""
    write_text(path, json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """`value` in what JSON has: arrays as lists, NaN and infinities as None.

    Example:
        >>> plain({"a": np.float32(1.5), "b": np.array([1.0, np.nan]), "c": (True, None)})
        {'a': 1.5, 'b': [1.0, None], 'c': [True, None]}
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
