"""How commands print tables."""

from __future__ import annotations

import sys

from rich.console import Console

__all__ = ["page"]


def page(*, width: int = 160) -> Console:
    """Where tables go: the terminal's width, or in a pipe, where nobody is served by cut cells, `width`.

    What users called their columns and folders is printed as it is, brackets and colons included.
    """
    wide = None if sys.stdout.isatty() else width
    return Console(width=wide, highlight=False, markup=False, emoji=False)
