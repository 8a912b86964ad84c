"""A small table, a run fitted on it once, and a way to call the command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vigmm.cli.app import app

# A command, and at its end the most memory that it took, in MiB, on stderr.
PEAK = """
import sys
from pathlib import Path
from vigmm.cli.app import app
sys.argv = ["vigmm", *sys.argv[1:]]
try:
    app()
finally:
    # Of this program alone: what getrusage tells includes the process that it was forked from.
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    print(int(line.split()[1]) // 1024, file=sys.stderr)
"""

# Enough for a model, little enough to be quick.
SMALL = """\
data: {{path: {path}}}
model: {{num_components: 2, weights: dirichlet}}
start: {{kind: kmeans, passes: 0}}
train: {{batch_size: 200, passes: 3, holdout: 0.1}}
output: {{folder: {folder}}}
"""


@pytest.fixture(scope="session")
def vigmm():
    """Calls the command line in this process; returns exit code, stdout and stderr."""

    def call(*args):
        return CliRunner().invoke(app, [str(arg) for arg in args], prog_name="vigmm")

    return call


def write_table(path: Path, *, n=600, names=("width", "height")) -> np.ndarray:
    """Two clusters in metres and grams, with a column of words beside them."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, 2)) + np.where(np.arange(n)[:, None] % 3 == 0, 0.0, 6.0)
    x = x * [0.1, 1000.0] + [2.0, 50_000.0]
    lines = [",".join([*names, "species"])]
    lines += [f"{a:.6f},{b:.3f},{'odd' if i % 2 else 'even'}" for i, (a, b) in enumerate(x)]
    path.write_text("\n".join(lines) + "\n")
    return x


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """A CSV file with the columns width, height and species."""
    path = tmp_path_factory.mktemp("data") / "plants.csv"
    write_table(path)
    return path


@pytest.fixture(scope="session")
def fitted(tmp_path_factory, table, vigmm):
    """A finished run, which no test may change."""
    home = tmp_path_factory.mktemp("fitted")
    (home / "job.yaml").write_text(SMALL.format(path=table, folder=home / "run"))
    done = vigmm("fit", home / "job.yaml")
    assert done.exit_code == 0, (done.output, done.exception)
    (home / "stdout.txt").write_text(done.stdout)
    return home / "run"


@pytest.fixture
def run_copy(fitted, tmp_path):
    """A copy of the finished run, to be maltreated."""
    return Path(shutil.copytree(fitted, tmp_path / "run"))


@pytest.fixture
def job(table, tmp_path):
    """Writes a small configuration, with lines added or replaced; returns its path."""

    def make(extra="", *, text=None, **where):
        path = tmp_path / "job.yaml"
        values = {"path": table, "folder": tmp_path / "run", **where}
        path.write_text((text or SMALL.format(**values)) + extra)
        return path

    return make
