"""``vigmm plan``: what a run will take, on devices that need not be here."""

from __future__ import annotations

import dataclasses
from typing import Any

import typer
from rich.table import Table as Grid

from vigmm.cli.tables import page, print_json
from vigmm.config import Job, load_job, path_of
from vigmm.core.errors import ConfigError, DataError, SpecError
from vigmm.data.sources import resolve
from vigmm.planning import (
    READ_RATE,
    READ_SOURCE,
    SOURCE,
    Plan,
    Scaled,
    Table,
    as_dict,
    make_plan,
    parse_devices,
    weak_scaling,
)

__all__ = ["plan"]


def plan(
    config: str,
    overrides: list[str],
    *,
    devices: str,
    rows: int | None,
    columns: int | None,
    read_rate: float | None,
    scaling: bool,
    as_json: bool,
) -> None:
    """Print what a run will take.

    Args:
        config: path of the configuration.
        overrides: assignments such as ``train.passes=4``.
        devices: such as ``h100:8``.
        rows: number of rows, instead of the data's own.
        columns: number of columns, instead of the data's own.
        read_rate: MB of rows that are read per second, for a stream.
        scaling: whether to print the table of weak scaling too.
        as_json: whether to print one JSON value instead.
    """
    chosen, job = parse_devices(devices), load_job(config, overrides)
    table = _table(job, rows, columns)
    try:
        made = make_plan(job, table, chosen, read_rate=READ_RATE if read_rate is None else read_rate * 1e6)
    except SpecError as error:
        raise SpecError(path_of(job, error.field, error.got), error.must, error.got) from error
    scaled = weak_scaling(made) if scaling else []
    if as_json:
        answer = as_dict(made)
        if scaling:
            answer["scaling"] = [dataclasses.asdict(one) for one in scaled]
        print_json(answer)
        return
    lines = _lines(made, READ_RATE if read_rate is None else read_rate * 1e6, given=read_rate is not None)
    width = max(len(head) for head, _ in lines) + 2
    for head, text in lines:
        typer.echo(f"{head:<{width}}{text}")
    if scaling:
        typer.echo(f"\nWeak scaling on paper, {scaled[0].rows:,} rows on each device\n")
        page().print(_grid(scaled))
    typer.echo()
    for remark in made.remarks:
        typer.echo(f"- {remark}")
    for source in made.devices.figures.sources:
        typer.echo(f"- {source}")


def _table(job: Job, rows: int | None, columns: int | None) -> Table:
    """The data by their description; where both counts are given nothing is opened."""
    named = None if job.data.columns is None else len(job.data.columns)
    columns = named if columns is None else columns
    if rows is not None and columns is not None:
        try:
            kind: str | None = resolve(job.data.path, job.data.kind)[0]
        except DataError:
            kind = job.data.kind
        return Table(job.data.path, rows, columns, kind=kind)
    try:
        # Which rows are good is not looked at: that would be to read them.
        source = dataclasses.replace(job.data, on_bad_rows="refuse").open()
    except DataError as error:
        raise ConfigError(f"{error}. To plan without the data, give --rows and --columns") from error
    return Table(
        source.name,
        len(source) if rows is None else rows,
        source.dim if columns is None else columns,
        source.dtype.name,
        resolve(job.data.path, job.data.kind)[0],
        getattr(source, "kept_bytes", None),
    )


def _lines(made: Plan, read_rate: float, *, given: bool) -> list[tuple[str, str]]:
    """What is printed, by line. What is no count or certain size says so: about, at least, by."""
    table, step, one = made.table, made.step, made.devices.figures
    count, job = made.devices.count, made.job
    where = "streamed" if made.streamed else "stay on the device" + "s" * (count > 1)
    lines = [
        ("Data", f"{table.name}: {table.rows:,} rows of {table.columns} columns"),
        ("Devices", f"{count} x {one.title}"),
        ("Model", f"up to {job.model.num_components} components; {made.method}, {job.dtype}"),
        ("Rows", f"{where}: {made.why}"),
    ]
    if made.portion is not None:
        lines.append(("Portions", f"{made.portion:,} rows at a time, of which batches are drawn"))
    most = "" if one.compiled is None else f" of {_bytes(one.limit)}"
    lines += [
        ("Device memory", f"about {_bytes(sum(made.device.values()))}{most}: {_parts(made.device)}"),
        ("Host memory", f"about {_bytes(sum(made.host.values()))} above imports: {_parts(made.host)}"),
        ("Steps", f"{made.steps_per_pass:,} in a pass, at most {made.steps:,} in all"),
        ("Batch", f"{step.rows:,} rows, room for {step.rows_per_device:,} on each device"),
        ("At least", f"{_bytes(step.floor_bytes)} and {_flop(step.floor_flops)} a step and device"),
    ]
    if made.ratio is not None:
        moved, computed = step.bytes / step.floor_bytes, step.flops / step.floor_flops
        text = f"{_bytes(step.bytes)} ({moved:.3g}x) and {_flop(step.flops)} ({computed:.3g}x), {SOURCE}"
        lines.append(("Compiled", text))
    if count > 1:
        text = f"{_bytes(step.reduced_bytes)} added up a step: {_time(step.exchange)}"
        lines.append(("Exchange", f"{text} at {one.link / 1e9:.0f} GB/s"))
    parts = {"arithmetic": step.compute, "memory": step.memory}
    parts |= {"starting kernels": step.start} if step.start else {}
    parts |= {"picking rows": step.picking} if step.picking else {}
    parts |= {"exchange": step.exchange} if count > 1 else {}
    lines.append(("Step", ", ".join(f"{name} {_time(value)}" for name, value in parts.items())))
    if made.streamed:
        source = "as given" if given else READ_SOURCE
        text = f"{_time(made.reading)} a pass at {read_rate / 1e6:.0f} MB/s ({source})"
        lines.append(("Reading", text))
    bound = "at least" if one.compiled is not None else "about"
    whole = made.passes * made.pass_seconds
    lines += [
        ("Pass", f"{bound} {_time(made.pass_seconds)}, limited by {made.limit}"),
        ("Run", f"{bound} {_time(whole)} for {made.passes:.3g} passes, the most there will be"),
    ]
    return lines


def _grid(scaled: list[Scaled]) -> Grid:
    grid = Grid(box=None, pad_edge=False)
    heads = (
        "devices",
        "rows",
        "batch",
        "all rows",
        "efficiency",
        "picked",
        "efficiency",
        "added up",
    )
    for head in heads:
        grid.add_column(head, justify="right", no_wrap=True)
    for one in scaled:
        grid.add_row(
            f"{one.devices}", f"{one.rows:,}", f"{one.batch:,}", _time(one.whole),
            f"{one.whole_efficiency:.0%}", _time(one.picked), f"{one.picked_efficiency:.0%}",
            _time(one.reduced),
        )  # fmt: skip
    return grid


def _parts(sizes: dict[str, int]) -> str:
    """The largest first; what is below a hundredth of all is left out."""
    total = sum(sizes.values())
    ranked: list[tuple[str, Any]] = sorted(sizes.items(), key=lambda one: -one[1])
    return ", ".join(f"{name} {_bytes(size)}" for name, size in ranked if size >= total / 100)


def _bytes(size: float) -> str:
    """In binary units, three digits."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


def _flop(count: float) -> str:
    for unit in ("", "K", "M", "G"):
        if count < 1000:
            return f"{count:.3g} {unit}FLOP"
        count /= 1000
    return f"{count:.3g} TFLOP"


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} us"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 600:
        return f"{seconds:.3g} s"
    return f"{seconds / 3600:.3g} h" if seconds >= 6000 else f"{seconds / 60:.3g} min"
