"""``vigmm inspect``: what a run folder says of itself. Reads text files only, so it answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from vigmm.cli.tables import page, print_json
from vigmm.rundir import read_manifest, read_summary
from vigmm.rundir.words import Facts

__all__ = ["inspect"]

_SMALL = 1e-3
_COLUMNS = 6
_PRIOR_COLUMNS = 20


def inspect(run: str, *, everything: bool, as_json: bool) -> None:
    """Print outcome, prior and sizes of a run.

    Args:
        run: its folder.
        everything: whether to list components below a per mille of the rows too.
        as_json: whether to print manifest and summary as one JSON value instead.
    """
    folder = Path(run).expanduser()
    manifest = read_manifest(folder)
    finished = manifest.get("status") == "finished"
    summary = read_summary(folder) if finished else None
    if as_json:
        print_json({"manifest": manifest, "summary": summary})
        return
    if summary is None:
        typer.echo(
            f"{run}: {manifest.get('status')} since {manifest.get('started')}; there are no results yet"
        )
        return
    table = summary["summary"]
    facts = Facts.of(manifest, table, doubtful=summary.get("doubtful"))
    lines = [("Run", f"{run}, finished {manifest['finished']}"), *facts.lines(), *_how(manifest)]
    width = max(len(head) for head, _ in lines) + 2
    for head, text in lines:
        typer.echo(f"{head:<{width}}{text}")
    typer.echo()
    console = page()
    typer.echo(f"Prior: {_scalars(manifest['prior'])}\n")
    console.print(_prior(manifest["prior"], table["columns"]))
    typer.echo("\nComponents, largest first\n")
    shown, notes = _components(table, everything=everything)
    console.print(shown)
    typer.echo()
    for line in [*notes, *facts.advice()]:
        typer.echo(f"- {line}")


def _how(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    device, versions = manifest["device"], manifest["versions"]
    kinds = [manifest[name]["kind"] for name in ("family", "estimator", "optimizer")]
    return [
        ("Method", f"{', '.join(kinds)}; seed {manifest['seed']}, {manifest['dtype']}"),
        ("Device", f"{device['count']} x {device['kind']}; vigmm {versions['vigmm']}, jax {versions['jax']}"),
    ]


def _scalars(prior: dict[str, Any]) -> str:
    numbers = [f"{key} {value:g}" for key, value in prior.items() if isinstance(value, int | float)]
    return ", ".join([str(prior.get("kind", "")), *numbers])


def _prior(prior: dict[str, Any], columns: list[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("column")
    table.add_column("mean", justify="right")
    table.add_column("expected sd of a component", justify="right")
    cov, mean = prior.get("expected_covariance"), prior.get("mean")
    if cov is not None and mean is not None:
        for i, name in enumerate(columns[:_PRIOR_COLUMNS]):
            table.add_row(name, f"{mean[i]:.5g}", f"{cov[i][i] ** 0.5:.4g}")
    if len(columns) > _PRIOR_COLUMNS:
        table.add_row("...", "", "")
    return table


def _components(summary: dict[str, Any], *, everything: bool) -> tuple[Table, list[str]]:
    level, columns = summary["level"], summary["columns"]
    rows = [one for one in summary["components"] if everything or one["weight"]["mean"] >= _SMALL]
    table = Table(box=None, pad_edge=False)
    for head in ("component", "weight", f"{level:.0%} interval", "rows", *columns[:_COLUMNS]):
        table.add_column(head, justify="right", no_wrap=True)
    for one in rows:
        weight = one["weight"]
        features = [f"{f['mean']['mean']:.4g} ± {f['sd']['mean']:.3g}" for f in one["features"][:_COLUMNS]]
        table.add_row(
            str(one["component"]),
            f"{weight['mean']:.4f}",
            f"{weight['low']:.4f} to {weight['high']:.4f}",
            f"{one['expected_rows']:,.0f}" if one["expected_rows"] is not None else "",
            *features,
        )
    notes = []
    hidden = len(summary["components"]) - len(rows)
    if hidden:
        notes.append(f"{hidden} more below {_SMALL:.1%} of the rows; --all shows them.")
    if len(columns) > _COLUMNS:
        notes.append(f"{len(columns) - _COLUMNS} more columns are in summary.json.")
    return table, notes
