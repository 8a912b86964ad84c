"""Files on S3 and GCS, by servers on this machine: the same rows as here, and words for what is not there."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv, fs

from tests.conftest import free_port
from vigmm.core.errors import DataError
from vigmm.data.remote import RemoteFile, _reaching, list_remote, public
from vigmm.data.sources import DataFile, as_source, kind_of

ROWS = np.random.default_rng(0).normal(size=(60, 3))
CUTS = (0, 11, 40, 60)


def table(rows: np.ndarray) -> pa.Table:
    return pa.table({name: rows[:, i] for i, name in enumerate("abc")})


def write_parquet(rows: np.ndarray, path: Any) -> None:
    pq.write_table(table(rows), path, row_group_size=7)


def write_arrow(rows: np.ndarray, path: Any) -> None:
    with pa.ipc.new_file(path, table(rows).schema) as file:
        file.write_table(table(rows), max_chunksize=7)


def write_csv(rows: np.ndarray, path: Any) -> None:
    csv.write_csv(table(rows), path)


WRITERS: dict[str, Callable[[np.ndarray, Any], None]] = {
    "parquet": write_parquet,
    "arrow": write_arrow,
    "csv": write_csv,
}


class TestAddresses:
    def test_what_is_shown_holds_no_secret(self) -> None:
        address = "s3://name:secret@bucket/a%20b/*.parquet?region=eu&scheme=http"
        assert public(address) == "s3://bucket/a b/*.parquet"
        assert str(RemoteFile("gs://k@b/x.csv?a=1", "b/x.csv", None)) == "gs://b/x.csv"

    @pytest.mark.parametrize(
        "address",
        ["s3://name:ses/a+me@bucket/a b.csv?scheme=http", "s3://name:sesame@bucket/a^b.csv?nonsense=1"],
    )
    def test_a_key_is_no_part_of_any_message(self, address: str) -> None:
        """Not even one with a slash, which Arrow takes for the end of the bucket's name, and repeats."""
        nobody = f"{address}&endpoint_override=127.0.0.1:1&connect_timeout=1"
        with pytest.raises(
            DataError, match=r"s3://bucket/a.b.csv cannot be reached: (?!Cannot parse)"
        ) as caught:
            DataFile(nobody).open()
        assert "ses" not in str(caught.value)
        with pytest.raises(DataError) as caught, _reaching("s3://bucket"):
            raise OSError(f"Cannot parse URI: '{address}'")
        assert "ses" not in str(caught.value)

    @pytest.mark.parametrize("path", ["s3://b/rows.npy", "gs://k:s@b/x.h5?a=b", "s3://b/i.png"])
    def test_other_kinds_are_refused_without_a_look(self, path: str) -> None:
        with pytest.raises(DataError, match=r"only parquet, arrow, csv can be read|only parquet, arrow, csv"):
            DataFile(path).open()
        with pytest.raises(DataError, match="only local files can be read; download it first"):
            DataFile("https://host/rows.npy").open()


@pytest.fixture(scope="module")
def bucket(s3: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bucket with three parts of each kind: 1, 2 and 10, which is not the order of the alphabet."""
    system, _ = fs.FileSystem.from_uri(f"s3://rows/x{s3}&allow_bucket_creation=true")
    system.create_dir("rows")
    here = tmp_path_factory.mktemp("here")
    for kind, write in WRITERS.items():
        for number, low, high in zip((1, 2, 10), CUTS, CUTS[1:], strict=False):
            name = f"part-{number}.{kind}"
            write(ROWS[low:high], str(here / name))
            with system.open_output_stream(f"rows/{kind}/in/{name}") as stream:
                stream.write((here / name).read_bytes())
    for name in ("parquet/_SUCCESS", "mixed/a.csv", "mixed/b.arrow"):
        with system.open_output_stream(f"rows/{name}") as stream:
            stream.write(b"x")
    return "s3://rows"


@pytest.mark.slow
class TestServer:
    @pytest.mark.parametrize("kind", WRITERS)
    @pytest.mark.parametrize("what", ["", "/in/", "/in/part-*.{kind}", "/**/*.{kind}"])
    def test_folders_and_patterns(self, bucket: str, s3: str, kind: str, what: str) -> None:
        address = f"{bucket}/{kind}{what.format(kind=kind)}{s3}"
        assert kind_of(address) == kind
        source = as_source(address)
        assert (len(source), source.columns, source.dtype) == (60, ("a", "b", "c"), np.float64)
        assert source.name == public(address)
        np.testing.assert_array_equal(source[:], ROWS)
        index = np.array([59, 0, 11, 40, 39, 0])
        np.testing.assert_array_equal(source[index], ROWS[index])
        assert source.place(41).startswith(f"row 1 of s3://rows/{kind}/in/part-10.{kind}")
        assert source.fingerprint() == as_source(ROWS).fingerprint()

    @pytest.mark.parametrize("kind", WRITERS)
    def test_one_file(self, bucket: str, s3: str, kind: str) -> None:
        source = DataFile(f"{bucket}/{kind}/in/part-2.{kind}{s3}", columns=("c", "a")).open()
        np.testing.assert_array_equal(source[:], ROWS[11:40][:, [2, 0]])

    def test_what_is_not_there(self, bucket: str, s3: str) -> None:
        for path, words in (
            ("parquet/none.parquet", r"s3://rows/parquet/none.parquet: no such file or folder"),
            ("parquet/none*.parquet", "no file matches this pattern"),
            ("mixed", r"files of several kinds \(1 arrow, 1 csv\)"),
            ("mixed/b.arrow", r"s3://rows/mixed/b.arrow cannot be read as arrow"),
        ):
            with pytest.raises(DataError, match=words) as caught:
                DataFile(f"{bucket}/{path}{s3}").open()
            assert "endpoint" not in str(caught.value)
        with pytest.raises(DataError, match=r"s3://none/x.csv: no such file|cannot be reached"):
            DataFile(f"s3://none/x.csv{s3}").open()
        nobody = s3.rpartition(":")[0] + ":1"
        with pytest.raises(DataError, match=r"s3://rows/x.csv cannot be reached: .*credentials"):
            DataFile(f"{bucket}/x.csv{nobody}&connect_timeout=1").open()

    def test_a_file_that_changes(self, bucket: str, s3: str) -> None:
        (file,), base = list_remote(f"{bucket}/csv/in/part-1.csv{s3}")
        assert base == "rows/csv/in"
        before = file.stat()
        with file.filesystem.open_output_stream("rows/csv/in/gone.csv") as stream:
            stream.write(b"a\n1\n")
        assert file.stat() == before
        (gone,), _ = list_remote(f"{bucket}/csv/in/gone.csv{s3}")
        source = DataFile(f"{bucket}/csv/in/gone.csv{s3}").open()
        file.filesystem.delete_file("rows/csv/in/gone.csv")
        for read in (gone.stat, lambda: source[:]):
            with pytest.raises(DataError, match=r"s3://rows/csv/in/gone.csv: no such file"):
                read()


@pytest.fixture(scope="module")
def gcs() -> Iterator[str]:
    """A GCS server on this machine: the options that lead to it, as the end of an address."""
    port = free_port()
    # A process of its own: Arrow may wait for an answer without letting other threads of Python go on.
    words = ["gcp_storage_emulator", "start", "--host=127.0.0.1", f"--port={port}", "--in-memory", "--quiet"]
    server = subprocess.Popen([sys.executable, "-m", *words, "--default-bucket=rows"])
    options = f"?scheme=http&endpoint_override=127.0.0.1:{port}&retry_limit_seconds=5"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            patch.delenv(name, raising=False)
        try:
            until = time.monotonic() + 30
            while time.monotonic() < until:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                time.sleep(0.1)
            system, _ = fs.FileSystem.from_uri(f"gs://anonymous@rows/x{options}")
            for kind, write in WRITERS.items():
                for number, low, high in zip((1, 2, 10), CUTS, CUTS[1:], strict=False):
                    with system.open_output_stream(f"rows/{kind}/in/part-{number}.{kind}") as stream:
                        write(ROWS[low:high], stream)
            with system.open_output_stream("rows/parquet/_SUCCESS") as stream:
                stream.write(b"x")
            yield options
        finally:
            server.kill()
            server.wait()


@pytest.mark.slow
class TestGoogle:
    @pytest.mark.parametrize("kind", WRITERS)
    def test_rows(self, gcs: str, kind: str) -> None:
        for what in ("", "/in/part-*.{kind}"):
            address = f"gs://anonymous@rows/{kind}{what.format(kind=kind)}{gcs}"
            source = as_source(address)
            assert (source.name, source.columns) == (public(address), ("a", "b", "c"))
            assert "anonymous" not in source.name
            np.testing.assert_array_equal(source[:], ROWS)
            index = np.array([59, 0, 11, 40, 39, 0])
            np.testing.assert_array_equal(source[index], ROWS[index])
            assert source.place(41).startswith(f"row 1 of gs://rows/{kind}/in/part-10.{kind}")
            assert source.fingerprint() == as_source(ROWS).fingerprint()
        one = DataFile(f"gs://anonymous@rows/{kind}/in/part-2.{kind}{gcs}", columns=("c", "a")).open()
        np.testing.assert_array_equal(one[:], ROWS[11:40][:, [2, 0]])

    def test_what_is_not_there(self, gcs: str) -> None:
        nobody = "?scheme=http&endpoint_override=127.0.0.1:1&retry_limit_seconds=1"
        for address, words in (
            (f"rows/parquet/none.parquet{gcs}", r"gs://rows/parquet/none.parquet: no such file or folder"),
            (f"rows/parquet/none*.parquet{gcs}", "no file matches this pattern"),
            (f"none/x.csv{gcs}", r"gs://none/x.csv: no such file"),
            (f"rows/x.csv{nobody}", r"gs://rows/x.csv cannot be reached: .*credentials"),
        ):
            with pytest.raises(DataError, match=words) as caught:
                DataFile(f"gs://anonymous@{address}").open()
            assert "endpoint" not in str(caught.value)
            assert "anonymous" not in str(caught.value)
