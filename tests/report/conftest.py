"""Runs to report on: small ones, made once. Column names try to break out of the page."""

from __future__ import annotations

import functools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from vigmm.cli.app import app

HOSTILE = (
    "</script><script>alert(1)</script>",
    "a \"b\" 'c' & <i>d</i>",
    "-->${x}<img src=x onerror=alert(2)>",
)

# The shapes of the runs of tests/cli, so that one process compiles them once.
CONFIG = """\
data: {{path: {path}}}
model: {{num_components: {num}, weights: dirichlet}}
start: {{kind: kmeans, passes: 0}}
train: {{batch_size: 200, passes: 3, holdout: 0.1}}
output: {{folder: {folder}, plots: false}}
"""


@pytest.fixture(scope="session")
def vigmm():
    """Calls the command line in this process; returns exit code, stdout and stderr."""

    def call(*args):
        return CliRunner().invoke(app, [str(arg) for arg in args], prog_name="vigmm")

    return call


def make_run(home: Path, *, vigmm, dim: int, num: int) -> Path:
    rng = np.random.default_rng(3)
    centre = np.array([[0.0] * dim, [6.0] * dim, [-6.0, 6.0] + [0.0] * (dim - 2)])[:num]
    rows = rng.normal(size=(600, dim)) + centre[np.minimum(np.arange(600) % 3, num - 1)]
    # Two equal rows far from all others, and values of the second column on a lattice.
    rows[:, 1] = np.round(rows[:, 1], 1)
    rows[-2:] = 9.5
    quoted = ['"' + name.replace('"', '""') + '"' for name in HOSTILE[:dim]]
    lines = [",".join(quoted), *(",".join(f"{value:.6f}" for value in row) for row in rows)]
    (home / "rows.csv").write_text("\n".join(lines) + "\n")
    (home / "job.yaml").write_text(CONFIG.format(path=home / "rows.csv", folder=home / "run", num=num))
    done = vigmm("fit", home / "job.yaml", "--quiet")
    assert done.exit_code == 0, (done.output, done.exception)
    return home / "run"


@pytest.fixture(scope="session")
def fitted(tmp_path_factory, vigmm):
    """A finished run with two columns and two clusters, which no test may change."""
    return make_run(tmp_path_factory.mktemp("report"), vigmm=vigmm, dim=2, num=2)


@pytest.fixture
def run_copy(fitted, tmp_path):
    """A copy of the finished run, to be maltreated."""
    return Path(shutil.copytree(fitted, tmp_path / "run"))


def payload_of(page: str):
    """What the page's script draws from."""
    (text,) = re.findall(r'<script type="application/json" id="payload">(.*?)</script>', page, re.S)
    return json.loads(text)


@pytest.fixture(scope="session")
def payload():
    """Reads the payload of a page."""
    return payload_of


@pytest.fixture(scope="session")
def made_run(vigmm):
    """Makes a run in a folder, of so many columns and clusters."""
    return functools.partial(make_run, vigmm=vigmm)
