"""A stream needs the memory that `docs/large-data.md` states, however many rows there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vigmm.config import load_job
from vigmm.planning import Table, make_plan, parse_devices

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

GIB = 2**30
DIM, FILES, ROWS = 32, 24, 500_000
CONFIG = """
data: {{path: {data}}}
model: {{num_components: 3}}
start: {{kind: random, rows: 5000, restarts: 2, steps: 50}}
moves: null
train: {{stream: {stream}, batch_size: 8192, max_steps: 700, min_steps: 1, portion_mb: 64}}
output: {{folder: {out}, plots: false, assignments: false}}
"""


# By a small process in between: the peak of a child is at least what its parent had when it forked.
WATCH = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


IMPORTS = """
import jax, pyarrow.dataset, vigmm.api, vigmm.cli.fitting
jax.jit(lambda x: x + 1.0)(1.0).block_until_ready()
"""


def peak_of(command):
    """Bytes that a command had at its largest."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH, *command], capture_output=True, text=True, timeout=590,
        env={**os.environ, "VIGMM_CACHE": "off"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1]) * 1024


@pytest.fixture
def place(tmp_path):
    """One file of rows under many names: 1.5 GB of them, and little to write."""
    folder = tmp_path / "rows"
    folder.mkdir()
    x = np.random.default_rng(0).standard_normal((ROWS, DIM), dtype=np.float32)
    first = folder / "00.parquet"
    table = pa.table({f"x{i}": x[:, i] for i in range(DIM)})
    pq.write_table(table, first, row_group_size=65_536, use_dictionary=False, compression="none")
    for number in range(1, FILES):
        os.link(first, folder / f"{number:02}.parquet")
    (tmp_path / "job.yaml").write_text(CONFIG.format(data=folder, out=tmp_path / "run", stream="true"))
    return tmp_path


@pytest.mark.timeout(600)
def test_a_stream_stays_within_two_gibibytes(place):
    imports = peak_of([sys.executable, "-c", IMPORTS])
    command = str(Path(sys.executable).with_name("vigmm"))
    peak = peak_of([command, "fit", str(place / "job.yaml"), "--quiet"])

    table = Table("rows", FILES * ROWS, DIM, kind="parquet")
    job = load_job(place / "job.yaml")
    streamed = make_plan(job, table, parse_devices("cpu"))
    resident = make_plan(load_job(place / "job.yaml", ["train.stream=false"]), table, parse_devices("cpu"))
    # Kept on the device they would be 1.5 GB, and as much again on their way there.
    assert resident.device["rows"] > 1.4 * GIB
    assert sum(resident.host.values()) > 2.5 * GIB
    assert peak < 2 * GIB
    stated = sum(streamed.host.values())
    assert 0.7 * stated < peak - imports < 1.2 * stated, (peak, imports, streamed.host)
