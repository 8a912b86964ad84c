"""The memory that a plan states, against that of a fit in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vigmm.config import Job
from vigmm.data.sources import DataFile
from vigmm.models import Mixture
from vigmm.planning import Table, make_plan, parse_devices
from vigmm.train import RandomStart, Train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peaks of memory are read from /proc"),
]

ROWS, DIM = 1_200_000, 32
# Peaks of resident memory in MiB: of the imports, with a first program, and of the whole process.
FIT = """
import json, sys
import jax, pyarrow.dataset
import vigmm
jax.jit(lambda x: x + 1.0)(1.0).block_until_ready()
def peak():
    # Not of getrusage: what that says is at least what the parent had when it forked.
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
imports = peak()
fit = vigmm.fit(
    sys.argv[1], model=vigmm.Mixture(num_components=2), train=vigmm.Train(**json.loads(sys.argv[2])),
    start=vigmm.RandomStart(rows=2_000, steps=20, restarts=2), moves=None,
)
assert fit.outcome.ok
print(json.dumps({"imports": imports, "peak": peak()}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows")
    x = np.random.default_rng(0).standard_normal((ROWS // 4, DIM), dtype=np.float32)
    table = pa.table({f"x{i}": x[:, i] for i in range(DIM)})
    for number in range(4):
        pq.write_table(
            table, path / f"{number}.parquet", row_group_size=65_536, use_dictionary=False, compression="none"
        )
    return path


@pytest.mark.parametrize(
    "choices",
    [
        {"stream": False, "batch_size": 4_096, "max_steps": 60, "min_steps": 1},
        {"stream": True, "portion_mb": 32.0, "batch_size": 4_096, "max_steps": 320, "min_steps": 1},
    ],
    ids=["resident", "streamed"],
)
def test_a_fit_takes_the_memory_that_its_plan_states(folder, choices):
    """Within 20 %."""
    done = subprocess.run(
        [sys.executable, "-c", FIT, str(folder), json.dumps(choices)], capture_output=True, text=True,
        timeout=115, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    job = Job(
        DataFile(str(folder)), model=Mixture(num_components=2), train=Train(**choices),
        start=RandomStart(rows=2_000, steps=20, restarts=2), moves=None,
    )  # fmt: skip
    made = make_plan(job, Table("rows", ROWS, DIM, kind="parquet"), parse_devices("cpu"))
    predicted = sum(made.host.values()) / 2**20
    assert predicted == pytest.approx(found["peak"] - found["imports"], rel=0.2), (found, made.host)
