"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

__all__ = ["Columns", "Data", "Json", "Key", "Quiet", "Run", "Skip", "names"]

Run = Annotated[str, typer.Argument(metavar="RUN", help="Folder that vigmm fit wrote.", show_default=False)]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="FILE",
        help="Rows: .npy, .npz, .csv, .parquet, .arrow, .h5, .zarr, .h5ad or an image; a folder or a quoted "
        "pattern of files, also on s3:// and gs://; a query after duckdb: or pkg://package/file for a file "
        "of a package.",
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
Key = Annotated[
    str | None,
    typer.Option("--key", metavar="NAME", help="Which array of an .npz, .h5, .zarr or .h5ad file."),
]
Skip = Annotated[
    bool,
    typer.Option("--skip-bad-rows", help="Leave out rows with a NaN or an infinity, and count them."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Answer as JSON, for programs.")]


def names(columns: Iterable[str]) -> tuple[str, ...]:
    """What ``--columns`` says, given once or more.

    Example:
        >>> names(["a, b", "c"])
        ('a', 'b', 'c')
    """
    return tuple(name.strip() for one in columns for name in one.split(","))
