"""``vigmm predict`` of many files: a part for a part, whatever interrupts it."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from pyarrow import csv, fs

from tests.cli.conftest import PEAK
from vigmm.cli import predicting
from vigmm.data.sources import DataFile
from vigmm.posterior import load
from vigmm.rundir.prediction import RECORD

CUTS = {
    "y=2/part-1": (0, 100),
    "y=2/part-2": (100, 100),
    "y=10/part-1": (100, 350),
    "y=10/part-9": (350, 600),
}


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


OUTS = sorted([RECORD, *(f"{name}.parquet" for name in CUTS)])


@pytest.fixture
def parts(table, tmp_path):
    """The table of the run in four files, one of them without rows."""
    rows = csv.read_csv(table).select(["species", "height", "width"])
    for name, (low, high) in CUTS.items():
        path = tmp_path / "parts" / f"{name}.pq"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.slice(low, high - low), path)
    return tmp_path / "parts"


@pytest.fixture
def predict(vigmm, fitted, parts, tmp_path):
    """Predicts the parts; fails unless that is what it does."""

    def call(*more, data=None, run=None, code=0):
        args = (run or fitted, "--data", data or parts, "--out", tmp_path / "out", *more)
        done = vigmm("predict", *args)
        assert done.exit_code == code, (done.output, done.exception)
        return done

    return call


def record(folder: Path) -> dict:
    return json.loads((folder / RECORD).read_text())


def test_a_part_for_a_part(predict, fitted, tmp_path):
    done = predict()
    assert done.stdout == f"{tmp_path / 'out'}: 600 rows in 4 parts\n"
    assert listing(tmp_path / "out") == OUTS
    whole = pq.read_table(fitted / "assignments.parquet")
    for name, (low, high) in CUTS.items():
        found = pq.read_table(tmp_path / "out" / f"{name}.parquet")
        assert found.column("row").to_pylist() == list(range(high - low))
        expected = whole.slice(low, high - low)
        assert found.schema == expected.schema
        assert found.drop(["row"]).equals(expected.drop(["row"]))
    told = record(tmp_path / "out")
    assert (told["status"], told["rows"]) == ("finished", 600)
    counts = {one["file"]: one["rows"] for one in told["parts"]}
    assert counts == {f"{name}.pq": high - low for name, (low, high) in CUTS.items()}


def test_one_file_of_a_folder(vigmm, fitted, parts, tmp_path):
    done = vigmm("predict", fitted, "--data", f"{parts}/y=10/*.pq", "--out", tmp_path / "one.parquet")
    assert done.exit_code == 0, (done.output, done.exception)
    assert pq.read_table(tmp_path / "one.parquet").column("row").to_pylist() == list(range(500))


def test_all_probabilities(predict, fitted, parts, tmp_path):
    predict("--probabilities", data=f"{parts}/y=2/*")
    found = pq.read_table(tmp_path / "out" / "part-1.parquet")
    assert found.column_names == ["row", "component", "probability", "log_density", "p0", "p1"]
    assert pq.read_table(tmp_path / "out" / "part-2.parquet").schema == found.schema
    shares = np.column_stack([found["p0"], found["p1"]])
    expected = load(fitted).responsibilities(str(parts / "y=2" / "part-1.pq"))
    np.testing.assert_array_equal(shares, expected)
    np.testing.assert_array_equal(shares.argmax(axis=1), found["component"])


def test_what_is_missing_is_done_and_no_more(predict, tmp_path):
    predict()
    out = tmp_path / "out"
    before = {name: (out / name).read_bytes() for name in OUTS}
    missing, kept = out / "y=2" / "part-1.parquet", out / "y=10" / "part-1.parquet"
    missing.unlink()
    kept.write_bytes(b"not to be touched")
    stale = [missing.with_name(".part-1.parquet.0a1b2c3d.tmp"), out / f".{RECORD}.0a1b2c3d.tmp"]
    for path in stale:
        path.write_bytes(b"half")
    done = predict("--quiet", code=4)
    assert f"{kept} is damaged" in done.stderr, "the rows of a part are counted by its footer"
    kept.write_bytes(before["y=10/part-1.parquet"])
    done = predict()
    assert "4 of 4 parts are there" in done.stderr
    assert listing(out) == OUTS
    assert {name: (out / name).read_bytes() for name in OUTS} == before


def test_shares(predict, parts, tmp_path):
    done = predict("--part", "1/2")
    assert done.stdout == f"{tmp_path / 'out'}: 250 rows in 2 parts (share 1 of 2)\n"
    assert listing(tmp_path / "out") == [RECORD, "y=10/part-9.parquet", "y=2/part-2.parquet"]
    assert record(tmp_path / "out")["status"] == "unfinished"
    done = predict("--part", "0/2")
    assert done.stdout.endswith(": 350 rows in 2 parts (share 0 of 2); all 4 parts are there\n")
    assert listing(tmp_path / "out") == OUTS
    assert record(tmp_path / "out")["rows"] == 600
    # More processes than parts: some have nothing to do.
    assert predict("--part", "7/8").stdout.endswith(
        ": 0 rows in 0 parts (share 7 of 8); all 4 parts are there\n"
    )


@pytest.mark.parametrize("part", ["2/2", "1", "a/b", "-1/2", "0/0"])
def test_shares_that_are_none(predict, part, tmp_path):
    done = predict(f"--part={part}", code=2)
    assert f"--part must be I/N with I from 0 to N - 1, such as 0/4, got {part!r}" in done.stderr
    assert not (tmp_path / "out").exists()


def test_shares_of_the_processes_that_jax_knows(monkeypatch):
    monkeypatch.setattr("jax.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("jax.process_index", lambda: 2)
    monkeypatch.setattr("jax.process_count", lambda: 3)
    assert predicting.share(None) == (2, 3)
    assert predicting.share("0/1") == (0, 1)


def test_shares_of_the_tasks_that_a_scheduler_started():
    batch = {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}
    assert predicting.share(None, batch) == (0, 1), "a batch script by itself is one process"
    assert predicting.share(None, {**batch, "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5"}) == (5, 8)
    assert predicting.share(None, {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}) == (1, 2)
    assert predicting.share(None, {}) == (0, 1)


def other_model(run, parts):
    told = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps(told))


def other_rows(run, parts):
    os.utime(parts / "y=2" / "part-1.pq", ns=(1, 1))


def more_rows(run, parts):
    shutil.copy(parts / "y=2" / "part-1.pq", parts / "y=2" / "part-3.pq")


def fewer_rows(run, parts):
    (parts / "y=2" / "part-1.pq").unlink()


OTHERS = {
    "model": (other_model, [], "it was made by another model"),
    "rows": (other_rows, [], "the input part y=2/part-1.pq has changed"),
    "more": (more_rows, [], "the input part y=2/part-3.pq is new"),
    "fewer": (fewer_rows, [], "the input part y=2/part-1.pq is no longer there"),
    "columns": (lambda *_: None, ["--columns", "width,height"], "columns was None and is width,height now"),
    "probabilities": (lambda *_: None, ["--probabilities"], "probabilities was False and is True now"),
}


@pytest.mark.parametrize(("change", "more", "words"), OTHERS.values(), ids=OTHERS.keys())
def test_another_prediction_is_refused(predict, run_copy, parts, tmp_path, change, more, words):
    out = tmp_path / "out"
    predict("--part", "0/2", run=run_copy)
    before = {name: (out / name).read_bytes() for name in listing(out)}
    change(run_copy, parts)
    done = predict(*more, run=run_copy, code=4)
    assert f"{out} holds an unfinished prediction, but {words}" in done.stderr
    assert "add --overwrite to begin anew" in done.stderr
    assert {name: (out / name).read_bytes() for name in listing(out)} == before
    (out / "y=10" / "mine.txt").write_text("x")
    assert "rows in" in predict("--overwrite", *more, run=run_copy).stdout
    expected = {RECORD, "y=10/mine.txt", *(one["out"] for one in record(out)["parts"])}
    assert set(listing(out)) == expected
    assert record(out)["status"] == "finished"


def test_where_parts_cannot_go(predict, vigmm, fitted, parts, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "x").write_text("mine")
    assert "holds no prediction (it has no _prediction.json), so it is left alone" in predict(code=4).stderr
    (out / "x").unlink()
    (out / RECORD).write_text("{")
    assert "_prediction.json cannot be read" in predict(code=4).stderr
    (out / RECORD).write_text('{"schema": 99}')
    assert "is of another version of vigmm" in predict(code=4).stderr
    shutil.rmtree(out)
    out.write_text("mine")
    assert f"{out} is a file" in predict(code=4).stderr
    out.unlink()
    assert f"delete {out} first" in predict("--part", "0/2", "--overwrite", code=2).stderr
    done = vigmm("predict", fitted, "--data", parts, "--out", parts / "out")
    assert done.exit_code == 4
    assert "lies in the folder of the rows" in done.stderr
    done = vigmm("predict", fitted, "--data", parts, "--out", tmp_path / "a.parquet", "--part", "0/2")
    assert done.exit_code == 2
    assert "--part is for rows in many files and an output folder" in done.stderr
    assert not out.exists()


def test_a_bad_part_stops_it_and_the_others_stay(predict, parts, tmp_path):
    good, out = pq.read_table(parts / "y=10" / "part-9.pq"), tmp_path / "out"
    bad = good.set_column(1, "height", pa.array([1.0] * 7 + [None] * 243))
    pq.write_table(bad, parts / "y=10" / "part-9.pq")
    done = predict(code=3)
    assert "y=10/part-9.pq: row 7, column 'height' is NaN" in done.stderr
    assert listing(out) == [name for name in OUTS if name != "y=10/part-9.parquet"]
    assert record(out)["status"] == "unfinished"


def test_bad_rows_are_skipped_if_that_is_wanted(predict, vigmm, fitted, parts, tmp_path):
    predict()
    whole = {name: pq.read_table(tmp_path / "out" / f"{name}.parquet") for name in CUTS}
    good = pq.read_table(parts / "y=10" / "part-9.pq")
    heights = good["height"].to_pylist()
    heights[7], heights[249] = None, float("inf")
    pq.write_table(good.set_column(1, "height", pa.array(heights)), parts / "y=10" / "part-9.pq")
    pq.write_table(
        good.slice(0, 2).set_column(1, "height", pa.array([None, None], "float64")), parts / "z.pq"
    )
    shutil.rmtree(tmp_path / "out")
    told = predict("--skip-bad-rows").stdout
    assert told == f"{tmp_path / 'out'}: 598 rows (4 more were skipped) in 5 parts\n"
    assert record(tmp_path / "out")["skipped_rows"] == 4
    kept = np.delete(np.arange(250), [7, 249])
    for name, expected in whole.items():
        expected = expected.take(kept) if name.endswith("9") else expected
        assert pq.read_table(tmp_path / "out" / f"{name}.parquet").equals(expected)
    args = ("--data", parts / "y=10", "--skip-bad-rows")
    done = vigmm("predict", fitted, *args, "--out", tmp_path / "one.parquet")
    assert done.stdout == f"{tmp_path / 'one.parquet'}: 498 rows (2 more were skipped)\n"
    found = json.loads(vigmm("evaluate", fitted, *args, "--json").stdout)
    assert (found["rows"], found["skipped_rows"]) == (498, 2)
    assert "498 rows of" in vigmm("evaluate", fitted, *args).stdout


def test_a_part_that_changes_meanwhile(predict, tmp_path, monkeypatch):
    real = predicting.open_for
    (tmp_path / "rows").mkdir()
    np.save(tmp_path / "rows" / "a.npy", np.tile([2.0, 5e4], (10, 1)))

    def touched(posterior, path, **how):
        source = real(posterior, path, **how)
        os.utime(path, ns=(1, 1))
        return source

    monkeypatch.setattr(predicting, "open_for", touched)
    told = predict(data=tmp_path / "rows", code=3).stderr
    assert "a.npy has changed since the prediction began" in told
    assert listing(tmp_path / "out") == [RECORD]


def test_a_full_disk_leaves_what_is_whole(predict, tmp_path, monkeypatch):
    real, written = pq.ParquetWriter.write_table, []

    def write(self, table, *args):
        written.append(table.num_rows)
        if len(written) == 4:
            raise OSError(28, "No space left on device")
        real(self, table, *args)

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", write)
        done = predict(code=4)
    assert "part-9.parquet cannot be written: No space left on device" in done.stderr
    assert listing(tmp_path / "out") == [name for name in OUTS if "part-9" not in name]
    assert "3 of 4 parts are there" in predict().stderr


def test_a_hand_stops_it(predict, tmp_path, monkeypatch):
    real, seen = predicting.open_for, []

    def stopped(posterior, path, **how):
        seen.append(path)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(posterior, path, **how)

    with monkeypatch.context() as patch:
        patch.setattr(predicting, "open_for", stopped)
        told = predict(code=130).stderr
    assert f"interrupted: 2 of 4 parts are in {tmp_path / 'out'}; the same command goes on" in told
    assert "2 of 4 parts are there" in predict().stderr
    assert listing(tmp_path / "out") == OUTS


def test_names_that_would_meet_are_kept_whole(vigmm, fitted, tmp_path):
    for name in ("a.pq", "a.parquet"):
        pq.write_table(pa.table({"width": [2.0], "height": [5e4]}), tmp_path / name)
    done = vigmm("predict", fitted, "--data", f"{tmp_path}/a.*", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert listing(tmp_path / "out") == [RECORD, "a.parquet.parquet", "a.pq.parquet"]


def test_patches_are_told_by_the_model_s_columns(tmp_path):
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.png")
    for patch, xy in ((2, False), (2, True), (1, True)):
        fitted_on = DataFile(str(tmp_path / "a.png"), patch=patch, xy=xy).open()
        model = SimpleNamespace(columns=fitted_on.columns, dim=fitted_on.dim)
        for path in (tmp_path / "a.png", tmp_path):
            found = predicting.open_for(model, str(path), columns=None, key=None)
            assert (found.columns, len(found)) == (fitted_on.columns, len(fitted_on))


@pytest.mark.slow
def test_parts_that_are_elsewhere(predict, parts, s3, tmp_path):
    predict()
    here = {name: (tmp_path / "out" / name).read_bytes() for name in OUTS if name != RECORD}
    shutil.rmtree(tmp_path / "out")
    system, _ = fs.FileSystem.from_uri(f"s3://parts/x{s3}&allow_bucket_creation=true")
    system.create_dir("parts")
    for path in parts.rglob("*.pq"):
        with system.open_output_stream(f"parts/in/{path.relative_to(parts)}") as stream:
            stream.write(path.read_bytes())
    predict(data=f"s3://parts/in{s3}")
    assert listing(tmp_path / "out") == OUTS
    assert {name: (tmp_path / "out" / name).read_bytes() for name in here} == here
    assert record(tmp_path / "out")["data"] == "s3://parts/in"
    assert "4 of 4 parts are there" in predict(data=f"s3://parts/in{s3}").stderr


# Real processes ---------------------------------------------------------------------------

ROWS, PARTS = 60_000, 16


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "vigmm", *map(str, args)]


@pytest.fixture(scope="module")
def job(fitted, tmp_path_factory):
    """A command without its output folder, what it needs, and what it writes if nothing happens."""
    home, rng = tmp_path_factory.mktemp("job"), np.random.default_rng(5)
    (home / "shards").mkdir()
    rows = rng.normal(size=(ROWS, 2)) * [0.3, 3000.0] + [2.0, 50_000.0]
    for i in range(PARTS):
        np.save(home / "shards" / f"part-{i}.npy", np.roll(rows, 1000 * i, axis=0))
    environment = {**os.environ, "VIGMM_CACHE": str(home / "cache"), "JAX_PLATFORMS": "cpu"}
    args = ("predict", fitted, "--data", home / "shards", "--quiet", "--out")
    subprocess.run(command(*args, home / "whole"), check=True, timeout=100, env=environment)
    assert listing(home / "whole") == sorted([RECORD, *(f"part-{i}.parquet" for i in range(PARTS))])
    assert pq.read_table(home / "whole").num_rows == PARTS * ROWS
    return args, environment, home / "whole"


def same(found: Path, expected: Path) -> None:
    assert listing(found) == listing(expected)
    assert record(found) == record(expected)
    for name in listing(expected):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


def halted(process: subprocess.Popen) -> bool:
    """Whether it stands still; False if it has ended. Its exit code is left for `wait`."""
    os.kill(process.pid, signal.SIGSTOP)
    state = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return state.si_code == os.CLD_STOPPED


def half_written(folder: Path) -> set[tuple[Path, int]]:
    """Files that are not complete; by their inodes too, for a later run may begin the same one anew."""
    return {(path, path.stat().st_ino) for path in folder.rglob("*.tmp")}


def kill_at_random(process: subprocess.Popen, out: Path, moments: random.Random) -> bool:
    """Soon after something new is there; False if the process has ended before."""
    before = set(listing(out))
    while process.poll() is None and set(listing(out)) <= before:
        time.sleep(0.002)
    time.sleep(moments.uniform(0, 0.05))
    process.kill()
    return process.wait(timeout=30) == -signal.SIGKILL


def kill_in_a_file(process: subprocess.Popen, out: Path, moments: random.Random) -> bool:
    """While a file is half written, looked for while the process stands still; False if it ended before."""
    before = half_written(out)
    while halted(process) and not half_written(out) - before:
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(moments.uniform(0, 0.005))
    process.kill()
    return process.wait(timeout=30) == -signal.SIGKILL


@pytest.mark.slow
def test_killed_and_rerun_is_as_if_never_killed(job, tmp_path):
    args, environment, whole = job
    out, moments = tmp_path / "broken", random.Random(int(time.time()))
    killed, halves = 0, 0
    for kill in (kill_in_a_file, kill_at_random) * 3:
        before = half_written(out)
        process = subprocess.Popen(command(*args, out), env=environment)
        if not kill(process, out, moments):
            break
        killed += 1
        halves += bool(half_written(out) - before)
    subprocess.run(command(*args, out), check=True, timeout=60, env=environment)
    print(f"{killed} kills, {halves} of them in the middle of a file")
    assert killed >= 3
    assert halves >= 2, "too few kills hit a file that was being written: this test shows less than it should"
    same(out, whole)


@pytest.mark.slow
def test_one_of_two_that_share_the_parts_is_killed(job, tmp_path):
    args, environment, whole = job
    out = tmp_path / "shared"
    both = [subprocess.Popen(command(*args, out, "--part", f"{i}/2"), env=environment) for i in (0, 1)]
    while not out.exists() or len(listing(out)) < 4:
        assert both[0].poll() in (None, 0)
        time.sleep(0.002)
    both[1].kill()
    assert both[0].wait(timeout=60) == 0
    both[1].wait(timeout=60)
    subprocess.run(command(*args, out, "--part", "1/2"), check=True, timeout=60, env=environment)
    same(out, whole)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(fitted, tmp_path):
    """A Parquet folder of 384 MiB of numbers takes not even 100 MiB more than one part of 16 MiB."""
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(1 << 20, 2)) * [0.3, 3000.0] + [2.0, 50_000.0]
    names = {"width": rows[:, 0], "height": rows[:, 1]}
    first = tmp_path / "one" / "part-0.parquet"
    first.parent.mkdir()
    pq.write_table(pa.table(names), first, row_group_size=1 << 17, compression="none")
    (tmp_path / "many").mkdir()
    for i in range(24):
        os.link(first, tmp_path / "many" / f"part-{i}.parquet")

    def peak(data: Path, out: str) -> int:
        args = ("predict", fitted, "--data", data, "--out", tmp_path / out, "--quiet")
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *map(str, args)], capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        return int(done.stderr.split()[-1])

    one, many = peak(tmp_path / "one", "out1"), peak(tmp_path / "many", "out2")
    print(f"peak {one} MiB for one part, {many} MiB for 24")
    assert many < one + 100
