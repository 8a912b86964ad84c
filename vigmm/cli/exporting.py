"""``vigmm export``: a run in the form that another program reads.

A new format is one function and one row in `EXPORTS`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import typer

from vigmm.cli.cache import compiled_programs
from vigmm.core.errors import ConfigError, OutputError
from vigmm.rundir import appearing, read_summary

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["EXPORTS", "Export", "export"]

_DRAWS = 1000
_MOST_COVARIANCES = 1 << 25
"""Numbers (256 MiB) beyond which draws of covariances are left out."""


@dataclass(frozen=True)
class Export:
    """A format.

    Args:
        suffix: of the file's name.
        holds: what is in the file, for the list of formats.
        write: writes it; told the run folder as the user named it, and the path to write to.
    """

    suffix: str
    holds: str
    write: Callable[[str, Path], None]


def export(run: str, to: str, *, out: str | None, overwrite: bool, quiet: bool) -> None:
    """Write a run as a file.

    Args:
        run: a run folder, or a folder that `vigmm.Posterior.save` wrote.
        to: a row of `EXPORTS`.
        out: the file; by default the name of the run folder with the format's suffix, in this folder.
        overwrite: whether it may be replaced.
        quiet: whether to say nothing.
    """
    if to not in EXPORTS:
        listed = "; ".join(f"{name} ({row.holds})" for name, row in EXPORTS.items())
        raise ConfigError(f"--to must be one of {listed}; got {to!r}")
    row = EXPORTS[to]
    target = Path(out or Path(run).expanduser().resolve().name + row.suffix).expanduser()
    if target.suffix != row.suffix:
        raise OutputError(
            f"{target}: {to} is written to a file whose name ends in {row.suffix}; name one (--out)"
        )
    if not target.parent.is_dir():
        raise OutputError(f"{target} cannot be written: there is no folder {target.parent}; make it first")
    with compiled_programs(), appearing(target, overwrite=overwrite) as temporary:
        row.write(run, temporary)
    if not quiet:
        typer.echo(f"{target}: {row.holds}")


def _csv(run: str, path: Path) -> None:
    from pyarrow import csv

    csv.write_csv(_table(run), path)


def _parquet(run: str, path: Path) -> None:
    import pyarrow.parquet as pq

    pq.write_table(_table(run), path)


def _table(run: str) -> pa.Table:
    from vigmm.posterior.tables import summary_table

    return summary_table(_summary(run))


def _summary(run: str) -> dict[str, Any]:
    """What the run wrote of its components; of a model without a run, made anew."""
    if (Path(run).expanduser() / "summary.json").is_file():
        found: dict[str, Any] = read_summary(run)["summary"]
        return found
    from vigmm.cli.scoring import load_run

    return load_run(run).summary().to_dict()


def _npz(run: str, path: Path) -> None:
    from vigmm.cli.scoring import load_run

    posterior = load_run(run)
    arrays = {
        "weights": posterior.weights,
        "means": posterior.means,
        "covariances": posterior.covariances,
        "columns": np.array(posterior.columns, np.str_),
    }
    with path.open("wb") as file:  # given a name, NumPy would change its end
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _netcdf(run: str, path: Path) -> None:
    from vigmm.cli.scoring import load_run
    from vigmm.interop import to_arviz

    posterior = load_run(run)
    size = _DRAWS * posterior.num_components * posterior.dim**2
    found = to_arviz(posterior, num_draws=_DRAWS, covariances=size <= _MOST_COVARIANCES)
    try:
        found.to_netcdf(str(path), engine="h5netcdf")
    except (ImportError, ValueError) as error:
        if importlib.util.find_spec("h5netcdf") is not None and importlib.util.find_spec("h5py") is not None:
            raise
        raise OutputError("netCDF files need h5netcdf and h5py; pip install 'vigmm[arviz]'") from error


def _onnx(run: str, path: Path) -> None:
    from vigmm.cli.scoring import load_run
    from vigmm.interop import to_onnx

    path.write_bytes(to_onnx(load_run(run)).SerializeToString())


def _stablehlo(run: str, path: Path) -> None:
    from vigmm.cli.scoring import load_run
    from vigmm.interop import write_stablehlo

    write_stablehlo(load_run(run), path)


EXPORTS: dict[str, Export] = {
    "csv": Export(".csv", "weight, mean and spread of every component, with intervals", _csv),
    "parquet": Export(".parquet", "the same table", _parquet),
    "npz": Export(".npz", "posterior means of weights, means and covariances", _npz),
    "netcdf": Export(".nc", "posterior draws, as ArviZ reads them", _netcdf),
    "onnx": Export(".onnx", "prediction at the posterior means, for ONNX runtimes", _onnx),
    "stablehlo": Export(".zip", "prediction as programs for JAX, without this package", _stablehlo),
}
"""Formats by name."""
