"""Several processes do one run: each reads its own files, one result, and a loss ends them all."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import free_port
from vigmm.core.processes import Group
from vigmm.data.shares import share_of

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

COMMAND = str(Path(sys.executable).with_name("vigmm"))
EDGES = (0, 900, 1_100, 2_000, 3_300, 4_000)
CONFIG = """
data: {{path: parts}}
model: {{num_components: 6}}
family: meanfield
train: {{passes: {passes}, min_steps: 1, tolerance: 0, batch_size: 256, chunk_steps: 4}}
checkpoints: {{seconds: 0}}
output: {{folder: {out}, plots: false}}
"""
# Within so many seconds of a loss all processes of a run have ended; a silent loss is noticed after thirty.
ENDS_WITHIN = 60.0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(4, 3)) * 6
    rows = np.concatenate([centre + draw.normal(size=(1_000, 3)) for centre in centres])
    (folder / "whole" / "parts").mkdir(parents=True)
    for number, (start, stop) in enumerate(itertools.pairwise(EDGES)):
        table = pa.table({f"x{i}": rows[start:stop, i] for i in range(3)})
        pq.write_table(table, folder / "whole" / "parts" / f"part-{number}.parquet", row_group_size=250)
    return folder


def at(place: Path, index: int, count: int) -> Path:
    """A working folder for one process: of the files of others it has only names and sizes."""
    here = place / f"{index}-of-{count}"
    if not here.exists():
        shutil.copytree(place / "whole", here)
        files = sorted((here / "parts").iterdir())
        mine = share_of(files, [file.stat().st_size for file in files], Group(index, count))
        assert 0 < len(mine) < len(files)
        for file in set(files) - set(mine):
            size = file.stat().st_size
            with file.open("wb") as hollow:
                hollow.truncate(size)
    return here


def begin(place: Path, out: str, count: int, passes: int) -> list[subprocess.Popen[str]]:
    port = free_port()
    begun = []
    for index in range(count):
        here = at(place, index, count) if count > 1 else place / "whole"
        (here / f"{out}.yaml").write_text(CONFIG.format(out=place / out, passes=passes))
        words = [COMMAND, "fit", f"{out}.yaml", "--quiet"]
        if count > 1:
            words += [
                "--coordinator",
                f"127.0.0.1:{port}",
                "--processes",
                str(count),
                "--process-id",
                str(index),
            ]
        # One folder, which JAX lets process 0 write and all read. Other tests have another: a kill may leave
        # half an entry.
        environment = {**os.environ, "VIGMM_CACHE": str(place / "programs")}
        begun.append(
            subprocess.Popen(
                words, cwd=here, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
    return begun


def ended(begun: list[subprocess.Popen[str]], timeout: float = 600) -> list[tuple[int, str]]:
    found = [process.communicate(timeout=timeout) for process in begun]
    return [(process.returncode, error) for process, (_, error) in zip(begun, found, strict=True)]


def fit(place: Path, out: str, count: int, passes: int = 4) -> None:
    for code, error in ended(begin(place, out, count, passes)):
        assert code == 0, error


def facts(place: Path, out: str) -> dict:
    return json.loads((place / out / "manifest.json").read_text())


@pytest.mark.parametrize("count", [2, 4])
def test_processes_come_to_the_result_of_one(place, count):
    if not (place / "one").exists():
        fit(place, "one", 1)
    fit(place, f"of{count}", count)
    one, several = facts(place, "one"), facts(place, f"of{count}")
    assert several["data"]["rows"] == one["data"]["rows"] == 4_000
    assert several["outcome"]["step"] == one["outcome"]["step"]
    assert several["notes"]["moves"]["components"] == one["notes"]["moves"]["components"]
    # The same batches; float32 sums in another order, carried through some sixty steps. The bound is at its
    # maximum, where it feels changes of the parameters in the second order only.
    assert several["elbo"]["per_row"] == pytest.approx(one["elbo"]["per_row"], abs=1e-5)
    assert several["holdout"]["mean_log_density"] == pytest.approx(
        one["holdout"]["mean_log_density"], abs=1e-4
    )


@pytest.mark.parametrize("victim", [0, 1])
def test_a_loss_ends_all_and_the_run_goes_on_to_the_same_bits(place, victim):
    if not (place / "unbroken").exists():
        fit(place, "unbroken", 2, passes=40)
    out = f"lost{victim}"
    begun = begin(place, out, 2, passes=40)
    end = time.monotonic() + 300
    while not list((place / out / "checkpoints").glob("fit-*.json")) and time.monotonic() < end:
        time.sleep(0.02)
    begun[victim].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    results = ended(begun, timeout=ENDS_WITHIN)
    assert time.monotonic() - killed < ENDS_WITHIN
    assert results[victim][0] == -signal.SIGKILL
    code, error = results[1 - victim]
    assert code == 75, error
    assert "another process of this run is gone" in error
    assert "run the same command again" in error
    assert (place / out / "checkpoints").exists()
    fit(place, out, 2, passes=40)
    model = (place / out / "model.safetensors").read_bytes()
    assert model == (place / "unbroken" / "model.safetensors").read_bytes()


def test_an_error_of_one_process_ends_all(place):
    begun = begin(place, "bad", 2, passes=4)
    for process in begun:
        process.kill()
    ended(begun)
    broken = place / "1-of-2" / "parts"
    files = sorted(broken.iterdir())
    mine = share_of(files, [file.stat().st_size for file in files], Group(1, 2))[0]
    content = mine.read_bytes()
    mine.write_bytes(content[:-9] + bytes(9))
    try:
        first, second = ended(begin(place, "bad", 2, passes=4), timeout=120)
    finally:
        mine.write_bytes(content)
    assert second[0] == 3
    assert mine.name in second[1]
    assert first[0] == 75
    assert "another process of this run is gone" in first[1]
