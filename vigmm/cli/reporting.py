"""``vigmm report``: one HTML file that tells what a run found and how far to trust it."""

from __future__ import annotations

import typer

from vigmm.cli.cache import compiled_programs
from vigmm.cli.tables import print_json
from vigmm.report import write_report

__all__ = ["report"]


def report(
    run: str,
    *,
    out: str | None,
    data: str | None,
    diagnosis: bool | None,
    draws: int | None,
    restarts: int,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write the report of a run, and say where it is and what it says first.

    Args:
        run: its folder.
        out: the file; by default ``report.html`` in the folder.
        data: where the rows are now.
        diagnosis: whether to compute what needs all rows in memory.
        draws: draws for importance weights.
        restarts: further fits to compare this one with.
        as_json: whether to answer as JSON.
        quiet: whether to say nothing.
    """
    silent = quiet or as_json

    def tell(text: str) -> None:
        if not silent:
            typer.echo(text, err=True)

    with compiled_programs():
        made = write_report(
            run, out, data=data, diagnosis=diagnosis, num_draws=draws, restarts=restarts, tell=tell
        )
    if as_json:
        answer = {"report": str(made.path), "bytes": made.size, "verdict": made.verdict}
        answer |= {"sentence": made.sentence, "left_out": made.left_out}
        print_json(answer)
    elif not quiet:
        typer.echo(f"{made.path}: {made.size / 1e6:.1f} MB. {made.sentence}")
        for what in made.left_out:
            typer.echo(f"Left out: {what}")
