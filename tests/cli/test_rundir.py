"""Run folders appear whole or not at all, and nobody's files are deleted."""

from __future__ import annotations

import errno
import json
import os
from functools import partial

import numpy as np
import pytest

from vigmm.core.errors import ModelFileError, OutputError
from vigmm.rundir import CONFIG, MANIFEST, RunFolder, appearing, locked, read_manifest, write_json
from vigmm.rundir.prediction import RECORD, PredictionFolder, list_parts
from vigmm.rundir.results import write_metrics
from vigmm.rundir.words import Facts, covariance


def make(path, *, note="new", overwrite=False):
    return RunFolder.create(path, config="a: 1\n", manifest={"note": note}, overwrite=overwrite)


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fail_after(do, *args):
    do(*args)
    raise RuntimeError("the disk is full")


def test_a_new_folder_has_its_manifest_at_once(tmp_path):
    folder = make(tmp_path / "deep" / "er" / "run")
    assert read_manifest(folder.path) == {"note": "new"}
    assert (folder.path / CONFIG).read_text() == "a: 1\n"
    assert everything(folder.path) == [CONFIG, MANIFEST]


def test_an_error_leaves_no_trace(tmp_path):
    with pytest.raises(RuntimeError), make(tmp_path / "deep" / "run") as folder:
        fail_after((folder.path / "half").write_text, "x")
    assert everything(tmp_path) == []


def test_folders_that_were_there_stay(tmp_path):
    (tmp_path / "deep").mkdir()
    with pytest.raises(RuntimeError), make(tmp_path / "deep" / "run"):
        raise RuntimeError
    assert everything(tmp_path) == ["deep"]


def test_success_keeps_it(tmp_path):
    with make(tmp_path / "run"):
        pass
    assert read_manifest(tmp_path / "run") == {"note": "new"}


def test_an_existing_run_is_refused(tmp_path):
    with make(tmp_path / "run", note="old"):
        pass
    with pytest.raises(OutputError, match=r"already exists.*--out.*--overwrite"):
        make(tmp_path / "run")
    assert read_manifest(tmp_path / "run") == {"note": "old"}


def test_overwrite_replaces_a_run_and_all_in_it(tmp_path):
    with make(tmp_path / "run", note="old") as folder:
        (folder.path / "extra").write_text("x")
    with make(tmp_path / "run", overwrite=True):
        pass
    assert everything(tmp_path) == ["run", f"run/{CONFIG}", f"run/{MANIFEST}"]
    assert read_manifest(tmp_path / "run") == {"note": "new"}


def test_a_failed_run_gives_the_old_one_back(tmp_path):
    with make(tmp_path / "run", note="old") as folder:
        (folder.path / "extra").write_text("x")
    with pytest.raises(RuntimeError), make(tmp_path / "run", overwrite=True):
        raise RuntimeError
    assert everything(tmp_path) == ["run", f"run/{CONFIG}", "run/extra", f"run/{MANIFEST}"]
    assert read_manifest(tmp_path / "run") == {"note": "old"}


def test_a_run_that_was_replaced_outlives_a_kill(tmp_path):
    with make(tmp_path / "run", note="old"):
        pass
    make(tmp_path / "run", overwrite=True)  # and the process is killed
    # Whoever goes on with it and fails gives the old one back,
    write_json(tmp_path / "run" / MANIFEST, {"status": "running"})
    with pytest.raises(RuntimeError), RunFolder.unfinished(tmp_path / "run"):
        raise RuntimeError
    assert read_manifest(tmp_path / "run") == {"note": "old"}
    # and so does whoever replaces what was left; with success both are gone.
    make(tmp_path / "run", overwrite=True)
    with pytest.raises(RuntimeError), make(tmp_path / "run", overwrite=True):
        raise RuntimeError
    assert read_manifest(tmp_path / "run") == {"note": "old"}
    make(tmp_path / "run", overwrite=True)
    with make(tmp_path / "run", note="third", overwrite=True):
        pass
    assert read_manifest(tmp_path / "run") == {"note": "third"}
    # Killed between two renames, which nobody asks to see.
    (tmp_path / "run").rename(tmp_path / ".run.old")
    with pytest.raises(OutputError, match="already exists"):
        make(tmp_path / "run")
    assert everything(tmp_path) == ["run", f"run/{CONFIG}", f"run/{MANIFEST}"]


def test_a_run_that_is_at_work_is_not_replaced(tmp_path):
    with make(tmp_path / "run", note="old") as folder:
        with locked(folder.path), pytest.raises(OutputError, match="another process is at work"):
            make(tmp_path / "run", overwrite=True)
        assert everything(tmp_path) == ["run", f"run/{CONFIG}", f"run/{MANIFEST}"]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    """As those of many clusters."""

    def refuse(*_):
        raise OSError(number, "no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path):
        pass
    with pytest.raises(OutputError, match="cannot be written: No such file"), locked(tmp_path / "none"):
        pass


def test_what_is_kept_survives_an_error_and_says_so(tmp_path):
    with pytest.raises(RuntimeError), make(tmp_path / "run") as folder:
        fail_after(folder.keep)
    assert read_manifest(tmp_path / "run") == {
        "note": "new",
        "status": "incomplete",
        "error": "the disk is full",
    }


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_folders_are_never_replaced(tmp_path, overwrite):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter").write_text("x")
    with pytest.raises(OutputError, match="is no run folder"):
        make(tmp_path / "thesis", overwrite=overwrite)
    assert everything(tmp_path) == ["thesis", "thesis/chapter"]


def test_an_empty_folder_may_be_used(tmp_path):
    (tmp_path / "run").mkdir()
    with make(tmp_path / "run"):
        pass
    assert read_manifest(tmp_path / "run") == {"note": "new"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_way(tmp_path, overwrite):
    (tmp_path / "run").write_text("x")
    with pytest.raises(OutputError, match="is a file"):
        make(tmp_path / "run", overwrite=overwrite)
    with pytest.raises(OutputError, match=r"cannot make .*run is a file; .*--out"):
        make(tmp_path / "run" / "deeper", overwrite=overwrite)
    assert everything(tmp_path) == ["run"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_parent(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        make(tmp_path / "locked" / "run")


def test_permission_denied(tmp_path, monkeypatch):
    def deny(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", deny)
    with pytest.raises(OutputError, match="Permission denied; choose another place with --out"):
        make(tmp_path / "run")
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "is no run folder"), ("{", "damaged"), ("[]", "damaged"), ("\x80", "damaged")],
)
def test_reading_what_is_no_run(tmp_path, content, words):
    (tmp_path / "run").mkdir()
    if content is not None:
        (tmp_path / "run" / MANIFEST).write_bytes(content.encode("latin-1"))
    with pytest.raises(ModelFileError, match=words):
        read_manifest(tmp_path / "run")
    with pytest.raises(ModelFileError, match="no such run folder"):
        read_manifest(tmp_path / "elsewhere")


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), appearing(path) as temporary:
        fail_after(temporary.write_text, "half")
    assert path.read_text() == "old"
    assert everything(tmp_path) == ["file"]
    with pytest.raises(OutputError, match="already exists"), appearing(path, overwrite=False):
        pass
    with pytest.raises(OutputError, match="No space left"), appearing(path):
        raise OSError(28, "No space left on device")
    assert everything(tmp_path) == ["file"]


def test_json_has_no_nan(tmp_path):
    write_json(
        tmp_path / "a.json", {"x": np.nan, "y": np.array([1.0, np.inf]), "z": np.float32(2), "n": (1, True)}
    )
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {
        "x": None,
        "y": [1.0, None],
        "z": 2.0,
        "n": [1, True],
    }


def test_metrics_have_a_line_a_step_and_chunk_values_on_their_step(tmp_path):
    metrics = {
        "step": np.arange(5),
        "elbo": np.array([1.0, 2.0, np.nan, 4.0, 5.0]),
        "bad": np.array([-1, -1, 0, -1, -1]),
        "chunk_step": np.array([2.0, 4.0, 5.0]),
        "holdout": np.array([0.1, np.nan, 0.3]),
    }
    write_metrics(tmp_path / "m.jsonl", metrics)
    records = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert records == [
        {"step": 0, "elbo": 1.0},
        {"step": 1, "elbo": 2.0, "holdout": 0.1},
        {"step": 2, "elbo": None, "bad": 0},
        {"step": 3, "elbo": 4.0, "holdout": None},
        {"step": 4, "elbo": 5.0, "holdout": 0.3},
    ]


def test_metrics_of_chunks_of_one_step(tmp_path):
    metrics = {
        "step": np.arange(2),
        "elbo": np.array([1.0, 2.0]),
        "chunk_step": np.array([1.0, 2.0]),
        "holdout": np.array([3.0, 4.0]),
    }
    write_metrics(tmp_path / "m.jsonl", metrics)
    records = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [record["holdout"] for record in records] == [3.0, 4.0]


@pytest.mark.parametrize("out", ["../thesis.txt", "{}/thesis.txt", "a/../../thesis.txt"])
def test_a_record_of_a_prediction_leads_nowhere_else(tmp_path, out):
    """Who replaces a prediction deletes what its record names, as far as that is in the folder."""
    (tmp_path / "thesis.txt").write_text("x")
    (tmp_path / "rows.csv").write_text("a\n1\n")
    parts = list_parts([tmp_path / "rows.csv"], tmp_path)
    begin = partial(PredictionFolder.begin, tmp_path / "out", parts, about={"model": "m"}, note={})
    begin()
    (tmp_path / "out" / parts[0].out).write_text("x")
    record = json.loads((tmp_path / "out" / RECORD).read_text())
    record["parts"] += [{**record["parts"][0], "out": out.format(tmp_path)}]
    write_json(tmp_path / "out" / RECORD, record)
    begin(overwrite=True)
    assert everything(tmp_path) == ["out", f"out/{RECORD}", "rows.csv", "thesis.txt"]
    write_json(tmp_path / "out" / RECORD, {"schema": 1, "parts": [1]})
    with pytest.raises(OutputError, match="is damaged: it does not list its parts"):
        begin()


def test_passes_are_those_of_the_run():
    """A stream reads held-out rows too, and begins a batch with every portion."""
    manifest = {
        "outcome": {"status": "budget", "message": "", "step": 1_000},
        "data": {"rows": 450_000, "train_rows": 445_000},
        "elbo": {"elbo": -1.0, "per_row": -1.0, "se": 0.0},
        "train": {"batch_size": 4_096},
        "model": {"num_components": 1, "covariance": {"kind": "full"}},
        **{name: {"kind": ""} for name in ("family", "estimator")},
        **{name: {} for name in ("notes", "seconds")},
        **dict.fromkeys(("holdout", "dtype", "seed", "device")),
    }
    summary = {"components": [{"weight": {"mean": 1.0}}]}
    of_a_stream = Facts.of({**manifest, "steps_per_pass": 112}, summary, doubtful=None)
    assert of_a_stream.passes == pytest.approx(1_000 / 112)
    assert Facts.of(manifest, summary, doubtful=None).passes == pytest.approx(1_000 / 109)


FULL = "full, which the search chose"
ABOVE = "its bound is 3.0 nats above that of diag"


@pytest.mark.parametrize(
    ("asked", "bounds", "promised", "words"),
    [
        ("diag", None, {}, "diag"),
        ("auto", None, {}, "full, for no other was looked for"),
        ("auto", {"full": -9.0}, {}, "full, for it costs little here: no other was asked for"),
        ("auto", {"full": -9.0}, {"diag": -3.0}, FULL),
        ("auto", {"full": -9.0, "diag": -12.0}, {"diag": 3.0}, f"{FULL}: {ABOVE}"),
        ("auto", {"full": -9.0, "diag": -8.5}, {"diag": 3.0}, f"{FULL}: diag was tried"),
        ("auto", {"full": -9.0, "diag": float("nan")}, {"diag": 3.0}, f"{FULL}: diag was tried"),
    ],
)
def test_the_covariance_in_words(asked, bounds, promised, words):
    told = {"found": "full", "bounds": bounds, "promised": promised}
    moves = {} if bounds is None else {"covariance": told}
    manifest = {"model": {"covariance": {"kind": asked}}, "notes": {"moves": moves}}
    assert covariance(manifest) == words
