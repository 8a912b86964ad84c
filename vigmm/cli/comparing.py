"""``vigmm compare``: run folders side by side."""

from __future__ import annotations

import json

import typer
from rich.table import Table

from vigmm.cli.tables import page, print_json
from vigmm.core.errors import ConfigError
from vigmm.rundir.comparing import Difference, Standing
from vigmm.rundir.comparing import compare as standings_of

__all__ = ["compare"]


def compare(runs: list[str], *, as_json: bool) -> None:
    """Print the standings of runs and the choices in which they differ.

    Args:
        runs: their folders.
        as_json: whether to print one JSON value instead.
    """
    if len(runs) < 2:
        raise ConfigError(f"vigmm compare {' '.join(runs)}: name two run folders or more")
    standings, differ = standings_of(runs)
    if as_json:
        answer = {"runs": [one.to_dict() for one in standings], "differ": differ}
        print_json(answer)
        return
    console = page(width=200)
    console.print(_table(standings))
    typer.echo()
    for line in _notes(standings):
        typer.echo(f"- {line}")
    if differ:
        typer.echo("\nWhat differs\n")
        console.print(_choices(standings, differ))


def _table(standings: list[Standing]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    for head in ("data", "ELBO per row", "behind, nats", "held out", "behind, nats per row", "components"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("ended", no_wrap=True)
    for one in standings:
        per_row = one.elbo["per_row"]
        held_out = one.holdout
        table.add_row(
            one.run,
            one.data,
            "not finite" if per_row is None else _marked(f"{per_row:.4f}", one.best_elbo),
            _behind(one.behind_elbo, ".1f"),
            ""
            if held_out is None or held_out["mean_log_density"] is None
            else _marked(f"{held_out['mean_log_density']:.4f} ± {held_out['se']:.2g}", one.best_holdout),
            _behind(one.behind_holdout, ".4f"),
            str(one.components),
            f"{one.seconds:.1f}",
            one.status,
        )
    return table


def _marked(text: str, best: bool | None) -> str:
    return f"{text} *" if best else text if best is None else f"{text}  "


def _behind(found: Difference | None, form: str) -> str:
    if found is None or found.value == 0.0 == found.se:
        return ""
    error = f" ± {found.se:.2g}" if found.se else ""
    return f"{found.value:{form}}{error}"


def _notes(standings: list[Standing]) -> list[str]:
    notes = []
    marked = any(one.best_elbo or one.best_holdout for one in standings)
    if marked:
        notes.append("* is the best of the runs that it may be compared with; ± is one standard error.")
    if len({one.data for one in standings}) > 1:
        notes.append("Data with different letters are different rows or columns: nothing there compares.")
    split = {one.data for one in standings if len({o.rows for o in standings if o.data == one.data}) > 1}
    if split:
        notes.append(
            "Some runs on the same data hold out other rows (seed and train.holdout decide), so their bounds "
            "are not compared."
        )
    pairs = [one.behind_holdout for one in standings if one.behind_holdout and not one.best_holdout]
    if any(pair.paired for pair in pairs):
        notes.append("Held-out densities of the same rows are compared row by row.")
    if any(not pair.paired for pair in pairs):
        notes.append(
            "Without the same held-out rows and their assignments, held-out densities are compared as two "
            "means, with a larger standard error."
        )
    return notes


def _choices(standings: list[Standing], differ: dict[str, list[object]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("choice", no_wrap=True)
    for one in standings:
        table.add_column(one.run, overflow="fold")
    for name, values in differ.items():
        table.add_row(name, *("" if value is None else json.dumps(value) for value in values))
    return table
