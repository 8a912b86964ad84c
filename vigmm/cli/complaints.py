"""How the command line says what went wrong, and with which exit code it ends."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from vigmm.core.errors import VigmmError

__all__ = ["complain", "errors"]


@contextmanager
def errors() -> Iterator[None]:
    """Errors that a user can act on, without a traceback; any other is a bug and keeps its own."""
    try:
        yield
    except VigmmError as error:
        complain(str(error))
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        complain("interrupted before there was a result, so nothing was written")
        raise typer.Exit(130) from error


def complain(text: str) -> None:
    """Each line with the program's name before it, in red on a terminal."""
    plain = bool(os.environ.get("NO_COLOR")) or not sys.stderr.isatty()
    head = "vigmm: " if plain else typer.style("vigmm: ", fg=typer.colors.RED, bold=True)
    typer.echo("\n".join(head + line for line in text.splitlines()), err=True)
