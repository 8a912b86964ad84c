"""``vigmm plan``: without data, without devices, in words and in JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vigmm.data.arrays import ArraySource

ABSENT = "data: {path: nowhere.parquet}\nmodel: {num_components: 8}\n"


@pytest.fixture
def config(tmp_path):
    def write(text=ABSENT):
        path = tmp_path / "job.yaml"
        path.write_text(text)
        return path

    return write


def test_data_that_are_not_there_are_planned_by_their_size(vigmm, config):
    done = vigmm("plan", config(), "--devices", "v5e:2x4", "--rows", 3_000_000, "--columns", 16)
    assert done.exit_code == 0, done.output
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in done.stdout.splitlines() if "   " in line)
    assert lines["Data"] == "nowhere.parquet: 3,000,000 rows of 16 columns"
    assert lines["Devices"] == "8 x Google Cloud TPU v5e, one chip"
    assert lines["Steps"].startswith("2,925 in a pass, at most 58,500 in all")
    assert re.match(r"at least .* limited by (compute|memory bandwidth|collectives)$", lines["Pass"])
    assert "- Google Cloud documentation, TPU v5e" in done.stdout


def test_without_their_size_the_remedy_is_named(vigmm, config):
    done = vigmm("plan", config(), "--rows", 100)
    assert done.exit_code == 2
    assert "nowhere.parquet: no such file" in done.stderr
    assert "give --rows and --columns" in done.stderr


def test_of_the_data_only_the_description_is_read(vigmm, config, tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", np.zeros((1_234, 3), np.float32))

    def refuse(self, index):
        raise AssertionError("rows were read")

    monkeypatch.setattr(ArraySource, "__getitem__", refuse)
    done = vigmm("plan", config(ABSENT.replace("nowhere.parquet", str(tmp_path / "rows.npy"))), "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["data"]["rows"], told["data"]["columns"], told["data"]["kind"]) == (1_234, 3, "npy")
    assert told["devices"]["name"] == "cpu:1"


def test_the_files_say_what_their_pieces_take(vigmm, config, tmp_path):
    table = pa.table({"a": np.zeros(5_000, np.float32), "b": np.zeros(5_000, np.float32)})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=1_000)
    path = config(ABSENT.replace("nowhere.parquet", str(tmp_path / "rows.parquet")))
    told = json.loads(vigmm("plan", path, "--json").stdout)
    assert told["data"]["opened"] == 5_000 * 2 * 4  # less than 64 MiB, so all of it
    assert told["memory"]["host"]["pieces of files"] == int(1.4 * 40_000)
    told = json.loads(vigmm("plan", path, "--json", "--rows", 10**9, "--columns", 2).stdout)
    assert told["data"]["opened"] is None
    assert told["memory"]["host"]["pieces of files"] == int(1.4 * 2**26)


def test_json_with_scaling(vigmm, config):
    words = ["--devices", "h100:8", "--rows", 10**10, "--columns", 16, "--json", "--scaling"]
    told = json.loads(vigmm("plan", config(), *words, "--read-rate", 100).stdout)
    assert told["rows"]["streamed"] is True
    assert told["limit"] == "reading"
    assert told["seconds"]["pass"] == pytest.approx(10**10 * 64 / 100e6)
    assert [one["devices"] for one in told["scaling"]] == [2**i for i in range(9)]


def test_wrong_choices_are_refused(vigmm, config):
    done = vigmm("plan", config(), "--devices", "h900:2", "--rows", 10, "--columns", 2)
    assert done.exit_code == 2
    assert "choose one of h100, a100, v5e, cpu" in done.stderr
    words = ["--rows", 10, "--columns", 2, "--set", "train.devices=4", "--devices", "h100:2"]
    done = vigmm("plan", config(), *words)
    assert done.exit_code == 2
    assert "train.devices must be <= 2" in done.stderr


def test_help_imports_no_jax():
    code = (
        "import sys; sys.argv = ['vigmm', 'plan', '--help']\n"
        "from vigmm.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('HEAVY', sorted({'jax', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "HEAVY []", done.stderr
    assert "--scaling" in done.stdout
