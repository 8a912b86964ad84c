"""How commands print tables and JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer
from rich.console import Console

from vigmm.rundir import plain

__all__ = ["page", "print_json"]


def page(*, width: int = 160) -> Console:
    """Where tables go: the terminal's width, or in a pipe, where nobody is served by cut cells, `width`.

    What users called their columns and folders is printed as it is, brackets and colons included.
    """
    wide = None if sys.stdout.isatty() else width
    return Console(width=wide, highlight=False, markup=False, emoji=False)


def print_json(answer: Any) -> None:
    """One JSON value on one line; numbers that are not finite are null, for JSON has no word for them."""
    typer.echo(json.dumps(plain(answer), allow_nan=False))
