"""A run that is killed at any moment goes on, and ends with the bits of one that was not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

COMMAND = str(Path(sys.executable).with_name("vigmm"))
KILLS = 15  # of each kind: thirty in all
# A process that sets the limit and becomes the command: set between fork and exec, it would fork the tests'
# process, which has the threads of JAX.
SMALL_FILES = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, 4_000))
os.execv(sys.argv[1], sys.argv[1:])
"""
CONFIG = """
data: {{path: {data}}}
model: {{num_components: 6}}
family: meanfield
train:
  {{passes: {passes}, tolerance: 0, batch_size: 256, chunk_steps: 10, stream: {stream}, portion_mb: 0.05}}
checkpoints: {{seconds: 0}}
output: {{folder: {out}, plots: false}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(4, 3)) * 6
    # Sorted by cluster: a stream has to mix it.
    rows = np.concatenate([centre + draw.normal(size=(2_500, 3)) for centre in centres])
    np.save(folder / "rows.npy", rows.astype(np.float32))
    return folder


def command(place: Path, out: str, stream: bool) -> list[str]:
    config = place / f"{out}.yaml"
    # Long enough to be killed in the middle: streamed steps take longer.
    passes = 10 if stream else 20
    text = CONFIG.format(data=place / "rows.npy", out=place / out, stream=str(stream).lower(), passes=passes)
    config.write_text(text)
    return [COMMAND, "fit", str(config), "--quiet"]


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "VIGMM_CACHE": str(place / "programs")}


def finish(place: Path, words: list[str]) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, env=environment(place))
    assert done.returncode == 0, done.stderr


def results(folder: Path) -> list[object]:
    """What must be the same bits: the model, and component and densities of every row."""
    table = pq.read_table(folder / "assignments.parquet").to_pydict()
    return [(folder / "model.safetensors").read_bytes(), table]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stream", [False, True])
def test_kills_at_random_moments(place, stream):
    name = f"unbroken{stream}"
    words = command(place, name, stream)
    finish(place, words)  # compiles
    began = time.monotonic()
    finish(place, [*words, "--overwrite"])
    usual = time.monotonic() - began

    broken = f"broken{stream}"
    words = command(place, broken, stream)
    moments, seed = random.Random(7), 0
    steps, kills, writing = [], 0, 0
    while kills < KILLS:
        process = subprocess.Popen(words, env=environment(place), stderr=subprocess.PIPE)
        # From the first imports to the writing of results, to which one that goes on has about half the way.
        time.sleep(moments.uniform(0.05, 0.6 if any(steps[-1:]) else 1.05) * usual)
        process.send_signal(signal.SIGKILL)
        _, error = process.communicate(timeout=60)
        saved = place / broken / "checkpoints"
        writing += any(saved.glob(".*.tmp"))
        steps.append(len(list(saved.glob("fit-*.json"))))
        # It was faster, or the kill before this one came when all was written: begin anew.
        if process.returncode == 0 or b"already exists" in error:
            assert results(place / broken) == results(place / name)
            seed += 1
            words = command(place, f"broken{stream}{seed}", stream)
            broken = f"broken{stream}{seed}"
            continue
        assert process.returncode == -signal.SIGKILL, error.decode()
        kills += 1
    finish(place, words)
    assert results(place / broken) == results(place / name)
    assert any(steps), "no kill came after a checkpoint: the test says nothing"
    left = [path.name for path in (place / broken).iterdir()]
    assert "checkpoints" not in left
    assert not [name for name in left if name.endswith(".tmp")]


@pytest.mark.timeout(900)
def test_a_full_disk_is_an_error_and_the_last_checkpoint_stays(place):
    """A limit on the size of files stands for a disk with no room: writing fails in the middle of a file."""
    name = "unbrokenFalse"
    words = command(place, name, False)
    if not (place / name).exists():
        finish(place, words)
    words = command(place, "full", False)
    process = subprocess.Popen(words, env=environment(place), stderr=subprocess.DEVNULL)
    saved = place / "full" / "checkpoints"
    end = time.monotonic() + 60
    while not list(saved.glob("fit-*.json")) and time.monotonic() < end:
        time.sleep(0.01)
    process.kill()
    process.wait()
    before = {path.name: path.read_bytes() for path in saved.iterdir() if not path.name.startswith(".")}

    done = subprocess.run(
        [sys.executable, "-c", SMALL_FILES, *words],
        capture_output=True,
        text=True,
        timeout=500,
        env=environment(place),
    )
    assert done.returncode == 4, done.stderr
    assert "cannot be written" in done.stderr
    assert "run the same command again" in done.stderr
    after = {path.name: path.read_bytes() for path in saved.iterdir() if not path.name.startswith(".")}
    assert before.items() <= after.items()
    finish(place, words)
    assert results(place / "full") == results(place / name)


@pytest.mark.timeout(900)
def test_sigterm_saves_and_says_so(place):
    words = command(place, "preempted", False)
    finish(place, words)
    expected = results(place / "preempted")
    process = subprocess.Popen(
        [*words, "--overwrite"], env=environment(place), stderr=subprocess.PIPE, text=True
    )
    saved = place / "preempted" / "checkpoints"
    end = time.monotonic() + 60
    while not list(saved.glob("fit-*.json")) and time.monotonic() < end:
        time.sleep(0.01)
    process.terminate()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75, error
    assert "run the same command again" in error
    finish(place, words)
    assert results(place / "preempted") == expected


def test_a_folder_has_one_worker_at_a_time(place):
    words = command(place, "locked", False)
    process = subprocess.Popen(words, env=environment(place), stderr=subprocess.DEVNULL)
    try:
        lock = place / "locked" / ".lock"
        end = time.monotonic() + 60
        while not lock.exists() and time.monotonic() < end:
            time.sleep(0.01)
        second = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment(place))
        assert second.returncode == 4
        assert "another process is at work" in second.stderr
    finally:
        process.kill()
        process.wait()
