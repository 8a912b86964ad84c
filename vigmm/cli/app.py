"""Commands, their arguments and their help: what each does is in a module of its own.

Help is plain text: typer's boxes of rich markup would cost three quarters of the time that help may take.
"""

from __future__ import annotations

from typing import Annotated

import typer

from vigmm import __version__
from vigmm.cli.codes import epilog
from vigmm.cli.complaints import errors
from vigmm.cli.options import Columns, Data, Json, Key, Quiet, Run, Skip

__all__ = ["app"]

app = typer.Typer(
    help="Bayesian Gaussian mixtures by stochastic variational inference.",
    epilog=epilog(),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vigmm {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Bayesian Gaussian mixtures by stochastic variational inference.

    vigmm init DATA writes a configuration, vigmm fit a run folder; the other commands read it.
    """


@app.command()
def init(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Rows: what vigmm fit reads.", show_default=False)
    ],
    out: Annotated[
        str, typer.Option("--out", metavar="FILE", help="The configuration file.")
    ] = "config.yaml",
    key: Key = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Look at data and write a configuration for them.

    The configuration says why it is as it is: which columns are left out, what is missing, how many
    components there may be.
    """
    from vigmm.cli.starting import init as run

    with errors():
        run(data, out, key=key, overwrite=overwrite, quiet=quiet)


@app.command()
def fit(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="Configuration, a YAML file.", show_default=False)
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume", metavar="RUN", help="Go on with a run that was broken off, from its folder."
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="A.B=C", help="Override one value, as in --set train.passes=4. Repeatable."
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Run folder, instead of output.folder.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the run folder if it is there.")
    ] = False,
    coordinator: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            envvar="VIGMM_COORDINATOR",
            help="Of several processes: where the first one is. Not needed under Slurm and Open MPI 4.",
        ),
    ] = None,
    processes: Annotated[
        int | None, typer.Option(metavar="N", envvar="VIGMM_PROCESSES", help="How many processes there are.")
    ] = None,
    process_id: Annotated[
        int | None,
        typer.Option(metavar="I", envvar="VIGMM_PROCESS_ID", help="Which of them this is, from 0."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Fit a mixture as CONFIG says and write a run folder.

    The folder holds the model, the assignments, pictures and summary.txt, which is the page to read first.
    A run that was broken off is gone on with by the same command, or with --resume.
    """
    from vigmm.cli.fitting import run
    from vigmm.cli.machines import Machines

    with errors():
        machines = Machines(coordinator, processes, process_id)
        code = run(
            config, overrides or [], resume=resume, out=out, overwrite=overwrite, quiet=quiet,
            machines=machines,
        )  # fmt: skip
    raise typer.Exit(code)


@app.command()
def plan(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="Configuration, a YAML file.", show_default=False)
    ],
    devices: Annotated[
        str,
        typer.Option(
            "--devices", metavar="NAME:N", help="Devices: h100:8, a100, v5e:2x4 or cpu:2; none need be here."
        ),
    ] = "cpu",
    rows: Annotated[
        int | None,
        typer.Option("--rows", metavar="N", help="Number of rows, instead of the data's.", min=1),
    ] = None,
    columns: Annotated[
        int | None,
        typer.Option("--columns", metavar="N", help="Number of columns, instead of the data's.", min=1),
    ] = None,
    read_rate: Annotated[
        float | None,
        typer.Option("--read-rate", metavar="MB/S", help="How fast a stream of rows is read.", min=1e-3),
    ] = None,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="A table of weak scaling too, up to 256 devices.")
    ] = False,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Override one value of the configuration. Repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a run will take: memory, time, what limits it.

    Of the data only the description is read, and with --rows and --columns not even that. The figures are
    those of makers and of compiled programs, so that times on accelerators are estimates from below.
    """
    from vigmm.cli.planning import plan as run

    with errors():
        run(
            config, overrides or [], devices=devices, rows=rows, columns=columns, read_rate=read_rate,
            scaling=scaling, as_json=as_json,
        )  # fmt: skip


@app.command()
def predict(
    run_folder: Run,
    data: Data,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            metavar="PATH",
            help="Where to write the assignments: a name that ends in .parquet or, if the rows are in many "
            "files, a folder.",
            show_default=False,
        ),
    ],
    columns: Columns = None,
    key: Key = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Write the probability of every component too.")
    ] = False,
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            metavar="I/N",
            help="Predict only share I, from 0, of N shares of the files, for N processes at a time.",
        ),
    ] = None,
    skip: Skip = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Assign the rows of a file, or of many, to components.

    Writes Parquet with the columns row (from 0), component, its probability, and log_density. Of many files,
    each gets a file of its own in the folder; the same command goes on where a killed one stopped.
    """
    from vigmm.cli.predicting import predict as run

    with errors():
        run(
            run_folder, data, out, columns=columns, key=key, probabilities=probabilities, part=part,
            skip=skip, overwrite=overwrite, quiet=quiet,
        )  # fmt: skip


@app.command()
def evaluate(
    run_folder: Run,
    data: Data,
    columns: Columns = None,
    key: Key = None,
    skip: Skip = False,
    as_json: Json = False,
) -> None:
    """Score the rows of a file: their mean log density.

    It is the log posterior predictive density, in nats per row and in the units of the data.
    """
    from vigmm.cli.scoring import evaluate as run

    with errors():
        run(run_folder, data, columns=columns, key=key, skip=skip, as_json=as_json)


@app.command()
def inspect(
    run_folder: Run,
    everything: Annotated[bool, typer.Option("--all", help="Show small components too.")] = False,
    as_json: Json = False,
) -> None:
    """Show outcome, prior and components of a run."""
    from vigmm.cli.inspecting import inspect as run

    with errors():
        run(run_folder, everything=everything, as_json=as_json)


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN", help="Folders that vigmm fit wrote, two or more.", show_default=False),
    ],
    as_json: Json = False,
) -> None:
    """Show runs side by side: which is best, by how much.

    Bounds are compared where the same rows were fitted, held-out densities where the data are the same.
    """
    from vigmm.cli.comparing import compare as run

    with errors():
        run(runs, as_json=as_json)


@app.command()
def export(
    run_folder: Run,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="csv or parquet: the components as a table; npz: the model's arrays; "
            "netcdf: draws for ArviZ; onnx or stablehlo: prediction as a program.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE", help="By default RUN with the format's suffix, here."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write a run as a file for other programs."""
    from vigmm.cli.exporting import export as run

    with errors():
        run(run_folder, to, out=out, overwrite=overwrite, quiet=quiet)


@app.command()
def report(
    run_folder: Run,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FILE.html", help="The file; report.html in the run folder without."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="FILE", help="Where the rows are now, if no longer where they were."),
    ] = None,
    diagnosis: Annotated[
        bool | None,
        typer.Option(
            "--diagnosis/--no-diagnosis",
            help="Whether to compute k-hat, evidence and predictive checks; by default unless there are very "
            "many rows.",
            show_default=False,
        ),
    ] = None,
    draws: Annotated[
        int | None,
        typer.Option(
            "--draws", metavar="N", help="Draws for k-hat, instead of what some seconds allow.", min=2
        ),
    ] = None,
    restarts: Annotated[
        int,
        typer.Option("--restarts", metavar="N", help="Fit again from N other seeds and compare.", min=0),
    ] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write one HTML file: how far to trust a run, and its clusters.

    The file opens offline and can be passed on; docs/report.md says how to read it.
    """
    from vigmm.cli.reporting import report as run

    with errors():
        run(
            run_folder, out=out, data=data, diagnosis=diagnosis, draws=draws, restarts=restarts,
            as_json=as_json, quiet=quiet,
        )  # fmt: skip


@app.command()
def doctor(as_json: Json = False) -> None:
    """Say what is installed, what computes and what is amiss."""
    from vigmm.cli.doctoring import doctor as run

    with errors():
        code = run(as_json=as_json)
    raise typer.Exit(code)


@app.command()
def shuffle(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="Rows: what vigmm fit reads.", show_default=False)
    ],
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="FOLDER", help="New folder for the shuffled rows, in parts."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Chooses the order.")] = 0,
    format: Annotated[
        str | None, typer.Option("--format", metavar="KIND", help="Kind of the parts: parquet or npy.")
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--columns", metavar="A,B", help="Columns to keep.")
    ] = None,
    key: Key = None,
    quiet: Quiet = False,
) -> None:
    """Say whether rows are in random order, or put them in one.

    Minibatches from files are read in blocks of neighbouring rows: rows that are sorted make them worth
    little. Without --out nothing is written. Shuffling takes half a GiB of memory, however many rows.
    """
    from vigmm.cli.shuffling import run

    with errors():
        run(data, out, seed=seed, format=format, columns=columns, key=key, quiet=quiet)


@app.command()
def schema() -> None:
    """Print the JSON Schema of configurations, for editors.

    With the line "# yaml-language-server: $schema=vigmm.schema.json" an editor completes and checks them.
    """
    import json

    from vigmm.config.schema import schema as made

    typer.echo(json.dumps(made(), indent=2))
