"""The external shuffle: the same rows, every order equally likely, in bounded memory, whole or not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from tests.cli.conftest import PEAK
from vigmm.core.errors import OutputError
from vigmm.data.arrays import ArraySource
from vigmm.data.audit import shuffle_audit
from vigmm.data.sources import DataFile
from vigmm.rundir import shuffle as module
from vigmm.rundir.shuffle import FORMATS, shuffle

N = 40_000
LABELS = np.arange(N) * 8 // N
RNG = np.random.default_rng(0)
SORTED = np.column_stack([RNG.normal(size=(N, 2)) + 5 * RNG.normal(size=(8, 2))[LABELS], np.arange(N)])
SMALL = N * 24 // 6  # bytes per bucket


def in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.argsort(rows[:, 2])]


@pytest.mark.parametrize("format", FORMATS)
def test_the_same_rows_in_random_order(tmp_path, format):
    source = ArraySource(SORTED, columns=("a", "b", "n"))
    assert shuffle_audit(source).effect > 100
    told: list[int] = []
    parts = shuffle(source, tmp_path / "out", format=format, bucket=SMALL, progress=told.append)
    assert [path.name for path in parts] == [f"part-{i:05}.{format}" for i in range(6)]
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "out", *parts]
    found = DataFile(str(tmp_path / "out")).open()
    assert found.columns == (("a", "b", "n") if format == "parquet" else ("x0", "x1", "x2"))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(in_order(found[:]), SORTED)
    assert shuffle_audit(found).effect < 2
    # No part is like another, and neighbours are strangers: the order has no correlation with the old one.
    places = found[:][:, 2]
    assert abs(np.corrcoef(places[1:], places[:-1])[0, 1]) < 5 / np.sqrt(N)
    assert abs(np.corrcoef(places, np.arange(N))[0, 1]) < 5 / np.sqrt(N)
    assert told == sorted(told)
    assert told[-1] == 2 * N


def test_the_seed_chooses_the_order(tmp_path):
    def order(name, seed):
        shuffle(ArraySource(SORTED), tmp_path / name, format="npy", bucket=SMALL, seed=seed)
        return DataFile(str(tmp_path / name)).open()[:].tobytes()

    first = order("a", 1)
    assert order("b", 1) == first
    assert order("c", 2) != first


def test_all_orders_are_equally_likely(tmp_path, monkeypatch):
    """Four rows in two buckets: 24 orders, by chi-square."""
    monkeypatch.setattr(module.os, "fsync", lambda file: None)  # hundreds of times it takes seconds
    source, counts, times = ArraySource(np.arange(4.0)[:, None]), {}, 480
    for seed in range(times):
        parts = shuffle(source, tmp_path / "out", format="npy", bucket=16, seed=seed)
        order = tuple(np.concatenate([np.load(part) for part in parts])[:, 0].tolist())
        counts[order] = counts.get(order, 0) + 1
        shutil.rmtree(tmp_path / "out")
    expected = times / 24
    square = sum((count - expected) ** 2 / expected for count in counts.values())
    square += expected * (24 - len(counts))
    assert square < 23 + 5 * np.sqrt(2 * 23)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32])
def test_types_and_gaps_stay(tmp_path, dtype):
    rows = np.arange(300).reshape(100, 3).astype(dtype)
    if dtype is np.float32:
        rows[3, 1] = np.nan
    shuffle(ArraySource(rows), tmp_path / "out", format="parquet", bucket=400)
    found = DataFile(str(tmp_path / "out")).open()
    assert found.dtype == dtype
    np.testing.assert_array_equal(np.sort(found[:], axis=0), np.sort(rows, axis=0))


def test_an_error_leaves_nothing(tmp_path, monkeypatch):
    class Broken(ArraySource):
        def __getitem__(self, index):
            if index.start > 100:
                raise OSError(28, "No space left on device")
            return super().__getitem__(index)

    stale = tmp_path / ".out.0a1b2c3d.tmp"
    stale.mkdir()
    (stale / "bucket-0").touch()
    with pytest.raises(OutputError, match=r"out cannot be written: No space left on device"):
        shuffle(Broken(SORTED), tmp_path / "out", format="npy", bucket=SMALL)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(OutputError, match=r"shuffling needs .* GB there, and 1e-06 GB are free; make room"):
        shuffle(ArraySource(SORTED), tmp_path / "out", format="npy")
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="out already exists; choose another folder"):
        shuffle(ArraySource(SORTED), tmp_path / "out", format="npy")
    with pytest.raises(OutputError, match="there is no folder"):
        shuffle(ArraySource(SORTED), tmp_path / "no" / "out", format="npy")


@pytest.mark.slow
def test_memory_is_bounded(tmp_path):
    """896 MiB of numbers are shuffled in 512 MiB above what a few rows take."""
    first = tmp_path / "few" / "part-0.parquet"
    first.parent.mkdir()
    rows = np.random.default_rng(0).normal(size=(1 << 19, 8))
    table = pa.table({f"c{i}": rows[:, i] for i in range(8)})
    pq.write_table(table, first, row_group_size=1 << 17, compression="none", use_dictionary=False)
    (tmp_path / "many").mkdir()
    for i in range(28):
        os.link(first, tmp_path / "many" / f"part-{i}.parquet")

    def peak(data: str) -> int:
        args = ("shuffle", tmp_path / data, "--out", tmp_path / f"{data}-out", "--quiet")
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *map(str, args)], capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        return int(done.stderr.split()[-1])

    few, many = peak("few"), peak("many")
    print(f"peak {few} MiB for 32 MiB, {many} MiB for 896 MiB")
    assert len(list((tmp_path / "many-out").iterdir())) == 14
    assert many < few + 512


class TestCommand:
    def test_it_says_how_ordered_they_are(self, vigmm, tmp_path):
        np.save(tmp_path / "x.npy", SORTED)
        done = vigmm("shuffle", tmp_path / "x.npy")
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith(f"{tmp_path / 'x.npy'}: the rows are ordered: ")
        assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]

    def test_it_shuffles(self, vigmm, tmp_path):
        table = {name: SORTED[:, i] for i, name in enumerate("abn")}
        pq.write_table(pa.table({**table, "w": ["x"] * N}), tmp_path / "x.parquet")
        done = vigmm(
            "shuffle", tmp_path / "x.parquet", "--out", tmp_path / "out", "--columns", "b,n", "--seed", 3
        )
        assert done.exit_code == 0, (done.output, done.exception)
        assert f"{tmp_path / 'out'}: 40,000 rows in 1 parts; now the rows are well mixed" in done.stdout
        found = pq.read_table(tmp_path / "out").sort_by("n")
        assert found.column_names == ["b", "n"]
        np.testing.assert_array_equal(found["b"], SORTED[:, 1])
        again = vigmm("shuffle", tmp_path / "x.parquet", "--out", tmp_path / "out", "-q")
        assert again.exit_code == 4
        assert "already exists" in again.stderr

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (["--format", "csv"], "--format must be one of npy, parquet"),
            (["--seed", "-1"], "--seed must be >= 0"),
        ],
    )
    def test_what_is_refused(self, vigmm, tmp_path, more, words):
        np.save(tmp_path / "x.npy", SORTED[:10])
        done = vigmm("shuffle", tmp_path / "x.npy", "--out", tmp_path / "out", *more)
        assert done.exit_code == 2
        assert words in done.stderr

    def test_not_into_the_folder_itself(self, vigmm, tmp_path):
        np.save(tmp_path / "x.npy", SORTED[:10])
        done = vigmm("shuffle", tmp_path, "--out", tmp_path / "out")
        assert done.exit_code == 4
        assert "lies in the folder of the rows" in done.stderr

    @pytest.mark.slow
    def test_rows_that_are_elsewhere(self, vigmm, s3, tmp_path):
        system, _ = fs.FileSystem.from_uri(f"s3://rows-to-shuffle/x{s3}&allow_bucket_creation=true")
        system.create_dir("rows-to-shuffle")
        with system.open_output_stream("rows-to-shuffle/a.parquet") as stream:
            pq.write_table(pa.table({name: SORTED[:, i] for i, name in enumerate("abn")}), stream)
        done = vigmm("shuffle", f"s3://rows-to-shuffle/a.parquet{s3}", "--out", tmp_path / "out")
        assert done.exit_code == 0, (done.output, done.exception)
        np.testing.assert_array_equal(pq.read_table(tmp_path / "out").sort_by("n")["a"], SORTED[:, 0])
