"""Every kind of bad input ends in a sentence with what, where and what to do, and leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

GOOD = [(1.0, 2.0), (3.0, 4.0), (2.5, 1.0), (0.5, 3.5)]


def csv(rows, header="a,b"):
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n"


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def refused(done, code, *words):
    assert done.exit_code == code, (done.output, done.exception)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("vigmm: ")]
    assert lines, done.stderr
    for word in words:
        assert any(word in line for line in lines), (word, done.stderr)


DATA = {
    "an empty file": (b"", "rows.csv", [], ["rows.csv is empty"]),
    "a header only": (b"a,b\n", "rows.csv", [], ["rows.csv has no rows"]),
    "a wrong column name": (
        csv(GOOD, "width,height").encode(),
        "rows.csv",
        ["--set", "data.columns=[widht]"],
        ["no column 'widht'", "did you mean 'width'", "It has: width, height"],
    ),
    "a column of words": (
        csv([(1, "x"), (2, "y")]).encode(),
        "rows.csv",
        ["--set", "data.columns=[a, b]"],
        ["column 'b' is not numeric", "row 0 holds 'x'", "Leave it out"],
    ),
    "words only": (csv([("x", "y")]).encode(), "rows.csv", [], ["no numeric column"]),
    "a missing value": (
        csv([*GOOD, (1.0, "")]).encode(),
        "rows.csv",
        [],
        ["rows.csv: row 4, column 'b' is NaN (a missing value)", "Drop or impute"],
    ),
    "an infinite value": (
        csv([*GOOD, ("inf", 1.0)]).encode(),
        "rows.csv",
        [],
        ["rows.csv: row 4, column 'a' is inf (infinite)"],
    ),
    "one row": (csv(GOOD[:1]).encode(), "rows.csv", [], ["has 1 row", "at least 2 are needed"]),
    "a cut array": (
        b"\x93NUMPY\x01\x00v\x00{'descr'",
        "rows.npy",
        [],
        ["rows.npy cannot be read", "damaged"],
    ),
    "no image": (b"no image", "rows.png", [], ["rows.png cannot be read as an image"]),
    "an unknown suffix": (b"1 2 3", "rows.xyz", [], ["rows.xyz: the suffix does not tell", "npy"]),
}


@pytest.mark.parametrize(("content", "name", "extra", "words"), DATA.values(), ids=DATA.keys())
def test_data(vigmm, job, tmp_path, content, name, extra, words):
    (tmp_path / name).write_bytes(content)
    config = job(path=tmp_path / name, folder=tmp_path / "runs" / "deep")
    before = listing(tmp_path)
    refused(vigmm("fit", config, *extra), 3, *words)
    assert listing(tmp_path) == before


def test_missing_data(vigmm, job, tmp_path, table):
    wrong = table.with_name("plant.csv")
    refused(vigmm("fit", job(path=wrong)), 3, "plant.csv: no such file; did you mean 'plants.csv'?")
    refused(vigmm("fit", job(path="pkg://nowhere_at_all/x.csv")), 3, "no installed package 'nowhere_at_all'")
    assert listing(tmp_path) == ["job.yaml"]


CONFIG = {
    "an unknown key": (["model.num_componentz=3"], ["model.num_componentz: unknown key", "num_components?"]),
    "a wrong type": (["train.passes=often"], ["train.passes must be a number, got 'often'"]),
    "half a component": (["model.num_components=2.5"], ["model.num_components must be an integer, got 2.5"]),
    "no component": (["model.num_components=0"], ["model.num_components must be >= 1, got 0"]),
    "a negative concentration": (
        ["model.weights={kind: dirichlet, concentration: -1}"],
        ["model.weights.concentration must be > 0 and finite, got -1"],
    ),
    "a concentration of NaN": (
        ["model.weights.concentration=.nan"],
        ["concentration must be > 0", "got nan"],
    ),
    "an unknown kind": (["family=meanfeild"], ["family", "meanfield?"]),
    "a family for another estimator": (
        ["family=meanfield", "estimator=natural"],
        ["family must be 'conjugate' for the natural estimator"],
    ),
    "no assignment": (["train.passes"], ["--set train.passes: write it as section.key=value"]),
    "a path through a value": (["seed.x=1"], ["--set seed.x=1: seed is not a section"]),
    "no YAML": (["data.columns=[a"], ["--set data.columns=[a: not valid YAML"]),
    "a prior for other data": (["model.prior.dof=2.5"], ["model.prior.dof must be > D + 1 = 3", "got 2.5"]),
}


@pytest.mark.parametrize(("sets", "words"), CONFIG.values(), ids=CONFIG.keys())
def test_configuration(vigmm, job, tmp_path, sets, words):
    config = job("seed: 1\n")
    before = listing(tmp_path)
    refused(vigmm("fit", config, *(arg for text in sets for arg in ("--set", text))), 2, *words)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "job.yaml: no such configuration file"),
        (b"model: {num_components: 2}\n", "data is missing"),
        (b"", "data is missing"),
        (b"data: [\n", "job.yaml:2:1: not valid YAML"),
        (b"data: {path: x}\ndata: {path: y}\n", "job.yaml:2:1: the key 'data' occurs twice"),
        (b"\xff\xfe\x00", "is not a text file in UTF-8"),
        (b"data: {path: x.csv}\nmodel:\n  covarianse: full\n", "job.yaml:3:3: model.covarianse: unknown key"),
    ],
)
def test_configuration_files(vigmm, tmp_path, content, words):
    path = tmp_path / "job.yaml"
    if content is not None:
        path.write_bytes(content)
    refused(vigmm("fit", path, "--out", tmp_path / "run"), 2, words)
    assert listing(tmp_path) == ([] if content is None else ["job.yaml"])


def test_the_output_folder_is_checked_before_the_data_are(vigmm, job, tmp_path, run_copy):
    config = job(path=tmp_path / "missing.csv")
    before = listing(tmp_path)
    refused(vigmm("fit", config), 4, "already exists; choose another (--out) or replace it (--overwrite)")
    refused(vigmm("fit", config, "--out", tmp_path / "job.yaml"), 4, "is a file")
    refused(
        vigmm("fit", config, "--out", tmp_path / "job.yaml" / "run"),
        4,
        "job.yaml is a file; choose another place",
    )
    refused(
        vigmm("fit", config, "--out", run_copy / "plots", "--overwrite"), 4, "is no run folder", "left alone"
    )
    assert listing(tmp_path) == before


def test_an_overwriting_run_that_fails_gives_the_old_run_back(vigmm, job, tmp_path, run_copy):
    config = job(path=tmp_path / "missing.csv")
    before = listing(tmp_path)
    refused(vigmm("fit", config, "--overwrite"), 3, "missing.csv: no such file")
    assert listing(tmp_path) == before
    assert json.loads((run_copy / "manifest.json").read_text())["status"] == "finished"


PREDICT = {
    "another number of columns": (
        np.ones((5, 3)),
        "the model was fitted on 2 columns (width, height), the data have 3",
    ),
    "a NaN": (np.array([[1.0, 2.0], [np.nan, 2.0]]), "row 1, column 'x0' is NaN"),
    "no rows": (np.ones((0, 2)), "is empty"),
}


@pytest.mark.parametrize(("rows", "words"), PREDICT.values(), ids=PREDICT.keys())
def test_rows_to_predict(vigmm, fitted, tmp_path, rows, words):
    np.save(tmp_path / "new.npy", rows)
    args = (fitted, "--data", tmp_path / "new.npy")
    refused(vigmm("predict", *args, "--out", tmp_path / "out.parquet"), 3, words)
    refused(vigmm("evaluate", *args), 3, words)
    assert listing(tmp_path) == ["new.npy"]


def test_tables_to_predict(vigmm, fitted, tmp_path):
    (tmp_path / "new.csv").write_text(csv(GOOD, "width,hight"))
    refused(vigmm("evaluate", fitted, "--data", tmp_path / "new.csv"), 3, "no column 'height'", "hight")
    refused(vigmm("evaluate", fitted, "--data", tmp_path / "none.csv"), 3, "none.csv: no such file")


def test_where_predictions_go(vigmm, fitted, table, tmp_path):
    args = ("predict", fitted, "--data", table, "--out")
    (tmp_path / "old.parquet").write_text("x")
    refused(vigmm(*args, tmp_path / "old.parquet"), 4, "already exists", "--overwrite")
    refused(vigmm(*args, tmp_path / "new.csv"), 4, "ends in .parquet")
    refused(vigmm(*args, tmp_path / "none" / "new.parquet"), 4, "there is no folder")
    assert (tmp_path / "old.parquet").read_text() == "x"
    assert listing(tmp_path) == ["old.parquet"]


def cut(run):
    path = run / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def flip(run):
    path = run / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))


def other_schema(run):
    path = run / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 99}))


MODEL = {
    "cut short": (cut, "model.safetensors"),
    "one bit is another": (flip, "model.safetensors"),
    "another schema": (other_schema, "99"),
    "no numbers": (lambda run: (run / "model.safetensors").unlink(), "model.safetensors"),
    "no description": (lambda run: (run / "model.json").unlink(), "model.json"),
    "no JSON": (lambda run: (run / "model.json").write_text("{"), "model.json"),
}


@pytest.mark.parametrize(("spoil", "words"), MODEL.values(), ids=MODEL.keys())
def test_model_files(vigmm, run_copy, table, tmp_path, spoil, words):
    spoil(run_copy)
    before = listing(tmp_path)
    refused(vigmm("predict", run_copy, "--data", table, "--out", tmp_path / "out.parquet"), 5, words)
    refused(vigmm("evaluate", run_copy, "--data", table), 5, words)
    assert listing(tmp_path) == before


def test_folders_that_are_no_runs(vigmm, table, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(vigmm("inspect", tmp_path / "none"), 5, "no such run folder")
    refused(vigmm("inspect", tmp_path / "empty"), 5, "is no run folder")
    refused(vigmm("evaluate", tmp_path / "none", "--data", table), 5, "no such run folder")
    refused(vigmm("evaluate", tmp_path / "empty", "--data", table), 5, "model.json")


def test_a_run_that_has_not_finished(vigmm, table, tmp_path):
    (tmp_path / "manifest.json").write_text('{"status": "running", "started": "2026-01-01T00:00:00+00:00"}')
    refused(vigmm("evaluate", tmp_path, "--data", table), 5, "has no model yet", "2026-01-01")
    assert "running since 2026-01-01" in vigmm("inspect", tmp_path).stdout


@pytest.mark.parametrize("name", ["summary.json", "manifest.json"])
def test_a_damaged_run_folder(vigmm, run_copy, name):
    (run_copy / name).write_text("{")
    refused(vigmm("inspect", run_copy), 5, name, "damaged")


@pytest.mark.parametrize(
    "args", [["fit"], ["fit", "a.yaml", "--no-such-option"], ["fti"], ["predict", "run"]]
)
def test_usage(vigmm, args):
    done = vigmm(*args)
    assert done.exit_code == 2
    assert "Usage" in done.stderr or "Error" in done.stderr


def test_exit_code_and_streams_of_the_real_command(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "vigmm", "fit", tmp_path / "none.yaml"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    what = f"{tmp_path / 'none.yaml'}: no such configuration file; vigmm init DATA writes one"
    assert done.stderr == f"vigmm: {what}\n"


def test_what_is_no_user_error_keeps_its_traceback(vigmm, job, monkeypatch, tmp_path):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("vigmm.api.fit", broken)
    config = job()
    done = vigmm("fit", config)
    assert isinstance(done.exception, ZeroDivisionError)
    assert listing(tmp_path) == ["job.yaml"]
