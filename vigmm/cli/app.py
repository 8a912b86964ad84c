"""Commands, their arguments and their help: what each does is in a module of its own.

Help is plain text: typer's boxes of rich markup would cost three quarters of the time that help may take.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from vigmm import __version__
from vigmm.core.errors import VigmmError

__all__ = ["app"]

app = typer.Typer(
    help="Bayesian Gaussian mixtures by stochastic variational inference.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Run = Annotated[str, typer.Argument(metavar="RUN", help="Folder that vigmm fit wrote.", show_default=False)]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="FILE",
        help="Rows: .npy, .npz, .csv, .parquet, .arrow, .h5 or an image; a folder or a quoted pattern of "
        "files; a query after duckdb: or pkg://package/file for a file of a package.",
        show_default=False,
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--columns",
        metavar="A,B",
        help="Columns of the file to read; if their names are not the model's, in the model's order.",
    ),
]
Key = Annotated[str | None, typer.Option("--key", metavar="NAME", help="Which array of an .npz or .h5 file.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Answer as JSON, for programs.")]


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

    vigmm fit CONFIG writes a run folder; the other commands read it.
    """


@app.command()
def fit(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="Configuration, a YAML file.", show_default=False)
    ],
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
    quiet: Quiet = False,
) -> None:
    """Fit a mixture as CONFIG says and write a run folder.

    The folder holds the model, the assignments, pictures and summary.txt, which is the page to read first.
    """
    from vigmm.cli.fitting import run

    with _errors():
        code = run(config, overrides or [], out=out, overwrite=overwrite, quiet=quiet)
    raise typer.Exit(code)


@app.command()
def predict(
    run_folder: Run,
    data: Data,
    out: Annotated[
        str,
        typer.Option(
            "--out", metavar="FILE.parquet", help="Where to write the assignments.", show_default=False
        ),
    ],
    columns: Columns = None,
    key: Key = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Assign the rows of a file to components.

    Writes a Parquet file with the columns row (from 0), component, its probability, and log_density.
    """
    from vigmm.cli.scoring import predict as run

    with _errors():
        run(run_folder, data, out, columns=columns, key=key, overwrite=overwrite, quiet=quiet)


@app.command()
def evaluate(
    run_folder: Run, data: Data, columns: Columns = None, key: Key = None, as_json: Json = False
) -> None:
    """Score the rows of a file: their mean log density.

    It is the log posterior predictive density, in nats per row and in the units of the data.
    """
    from vigmm.cli.scoring import evaluate as run

    with _errors():
        run(run_folder, data, columns=columns, key=key, as_json=as_json)


@app.command()
def inspect(
    run_folder: Run,
    everything: Annotated[bool, typer.Option("--all", help="Show small components too.")] = False,
    as_json: Json = False,
) -> None:
    """Show outcome, prior and components of a run."""
    from vigmm.cli.inspecting import inspect as run

    with _errors():
        run(run_folder, everything=everything, as_json=as_json)


@contextmanager
def _errors() -> Iterator[None]:
    """Errors that a user can act on, without a traceback; any other is a bug and keeps its own."""
    try:
        yield
    except VigmmError as error:
        _complain(str(error))
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt as error:
        _complain("interrupted before there was a model, so nothing was written")
        raise typer.Exit(130) from error


def _complain(text: str) -> None:
    plain = bool(os.environ.get("NO_COLOR")) or not sys.stderr.isatty()
    head = "vigmm: " if plain else typer.style("vigmm: ", fg=typer.colors.RED, bold=True)
    typer.echo("\n".join(head + line for line in text.splitlines()), err=True)
