"""What the command line says when something is wrong: one table of commands and what becomes of them.

Each row: the command, the exit code, what the message names (what is wrong, or where), the remedy, and how
things are arranged before. Places stand in braces: {fitted} is a finished run that is only read, {run} a copy
to spoil, {table} a CSV file with the columns width, height and species, {tmp} an empty folder.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import SMALL


@dataclass(frozen=True)
class Case:
    command: str
    code: int
    names: str
    remedy: str
    arrange: Callable[[Path], None] = lambda tmp: None


def text(name, content):
    return lambda tmp: (tmp / name).write_text(content)


def array(name, values):
    return lambda tmp: np.save(tmp / name, np.asarray(values, float))


def config(extra="", *, path="{table}"):
    """A small configuration in {tmp}; braces are filled in later."""
    return lambda tmp: (tmp / "job.yaml").write_text(
        SMALL.replace("{path}", path).replace("{{", "{").replace("}}", "}").replace("{folder}", "{tmp}/out")
        + extra
    )


def both(*arrangements):
    def arrange(tmp):
        for one in arrangements:
            one(tmp)

    return arrange


def manifest(**changes):
    """Another manifest in {run}."""

    def arrange(tmp):
        path = tmp / "run" / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return arrange


def spoil(name, content="{"):
    return lambda tmp: (tmp / "run" / name).write_text(content)


def remove(name):
    return lambda tmp: (tmp / "run" / name).unlink()


NEW = "--out {tmp}/new.parquet"
FIT = "fit {tmp}/job.yaml"

CASES = {
    # init
    "init: no file": Case(
        "init {tmp}/plant.csv --out {tmp}/c.yaml",
        3,
        "plant.csv: no such file",
        "did you mean 'plants.csv'",
        text("plants.csv", "a\n1\n"),
    ),
    "init: a web address": Case(
        "init https://example.org/x.csv --out {tmp}/c.yaml",
        3,
        "only local files can be read",
        "download it first",
    ),
    "init: which array": Case(
        "init {tmp}/a.npz --out {tmp}/c.yaml",
        3,
        "holds 2 arrays (x, y)",
        "choose one with key",
        lambda tmp: np.savez(tmp / "a.npz", x=np.ones((3, 1)), y=np.ones((3, 1))),
    ),
    "init: a key that is none": Case(
        "init {tmp}/a.npy --key x --out {tmp}/c.yaml",
        3,
        "key is for",
        "read as npy",
        array("a.npy", np.ones((3, 2))),
    ),
    "init: nothing to cluster": Case(
        "init {tmp}/a.csv --out {tmp}/c.yaml",
        3,
        "no column to cluster by (a: constant",
        "Give columns of measurements",
        text("a.csv", "a\n1\n1\n1\n"),
    ),
    "init: words": Case(
        "init {tmp}/a.csv --out {tmp}/c.yaml",
        3,
        "has no numeric column",
        "it has: a (string)",
        text("a.csv", "a\nx\ny\n"),
    ),
    "init: there already": Case(
        "init {table} --out {tmp}/c.yaml",
        4,
        "c.yaml already exists",
        "--out, or add --overwrite",
        text("c.yaml", ""),
    ),
    "init: a folder": Case("init {table} --out {tmp}", 4, "is a folder", "/config.yaml"),
    "init: no folder": Case(
        "init {table} --out {tmp}/none/c.yaml", 4, "there is no folder {tmp}/none", "make it, or use --out"
    ),
    # fit: configuration
    "fit: no configuration": Case(
        "fit {tmp}/none.yaml", 2, "none.yaml: no such configuration file", "vigmm init DATA writes one"
    ),
    "fit: nearly its name": Case(
        "fit {tmp}/jobs.yaml",
        2,
        "jobs.yaml: no such configuration file",
        "did you mean 'job.yaml'?",
        config(),
    ),
    "fit: a folder": Case("fit {tmp}", 2, "is a folder", "name the configuration file in it"),
    "fit: no text": Case(
        "fit {tmp}/job.yaml",
        2,
        "is not a text file in UTF-8",
        "cannot be a configuration",
        lambda tmp: (tmp / "job.yaml").write_bytes(b"\xff\xfe\x00"),
    ),
    "fit: an unknown key": Case(
        FIT, 2, "job.yaml:6:1: sed: unknown key", "did you mean seed?", config("sed: 1\n")
    ),
    "fit: a wrong type": Case(
        FIT, 2, "job.yaml:6:1: seed must be an integer", "got 'one'", config("seed: one\n")
    ),
    "fit: an unknown kind": Case(
        FIT,
        2,
        "job.yaml:6:1: family must be one of",
        "did you mean meanfield?",
        config("family: meanfeild\n"),
    ),
    "fit: parts that do not fit": Case(
        FIT,
        2,
        "job.yaml:7:1: family must be 'conjugate'",
        "for the natural estimator",
        config("estimator: natural\nfamily: meanfield\n"),
    ),
    "fit: twice": Case(
        FIT, 2, "job.yaml:6:1: the key 'model' occurs twice", "first at", config("model: {}\n")
    ),
    "fit: no YAML": Case(FIT, 2, "job.yaml:7:1: not valid YAML", "expected", config("x: [\n")),
    "fit: code": Case(
        FIT,
        2,
        "the tag !!python/name:os.system is not supported",
        "plain values",
        config("seed: !!python/name:os.system x\n"),
    ),
    "fit: no assignment": Case(
        FIT + " --set passes", 2, "--set passes: write it as section.key=value", "for example --set", config()
    ),
    "fit: too far down": Case(
        FIT + " --set seed.x=1",
        2,
        "--set seed.x=1: seed is not a section",
        "nothing can be set in it",
        config("seed: 1\n"),
    ),
    "fit: no such tracker": Case(
        FIT,
        2,
        "job.yaml:6:9: track.0 must be one of tensorboard, mlflow",
        "did you mean mlflow?",
        config("track: [mlfow]\n"),
    ),
    "fit: a folder for MLflow": Case(
        FIT,
        2,
        "track.0.uri must be a data base or a server",
        "such as sqlite:///",
        config("track: [{kind: mlflow, uri: ./mlruns}]\n"),
    ),
    # fit: data
    "fit: no data": Case(
        FIT,
        3,
        "rows.csv: no such file",
        "did you mean 'row.csv'?",
        both(config(path="{tmp}/rows.csv"), text("row.csv", "")),
    ),
    "fit: empty data": Case(
        FIT, 3, "rows.csv is empty", "0 bytes", both(config(path="{tmp}/rows.csv"), text("rows.csv", ""))
    ),
    "fit: a column that is none": Case(
        FIT + " --set data.columns=[widht]", 3, "no column 'widht'", "did you mean 'width'?", config()
    ),
    "fit: a column of words": Case(
        FIT + " --set data.columns=[species]",
        3,
        "column 'species' is not numeric",
        "Leave it out, mend that cell or encode",
        config(),
    ),
    "fit: a missing value": Case(
        FIT,
        3,
        "row 1, column 'b' is NaN (a missing value)",
        "set model.missing",
        both(config(path="{tmp}/rows.csv"), text("rows.csv", "a,b\n1,2\n3,\n2,5\n")),
    ),
    "fit: an infinite value": Case(
        FIT,
        3,
        "row 1, column 'b' is inf (infinite)",
        "Drop or impute",
        both(config(path="{tmp}/rows.csv"), text("rows.csv", "a,b\n1,2\n3,inf\n2,5\n")),
    ),
    "fit: one row": Case(
        FIT,
        3,
        "has 1 row, but at least 2 are needed",
        "give more data",
        both(config(path="{tmp}/rows.csv"), text("rows.csv", "a,b\n1,2\n")),
    ),
    "fit: an unknown suffix": Case(
        FIT,
        3,
        "rows.xyz: the suffix does not tell",
        "Set kind to one of",
        both(config(path="{tmp}/rows.xyz"), text("rows.xyz", "1 2")),
    ),
    "fit: a damaged file": Case(
        FIT,
        3,
        "rows.parquet cannot be read as parquet",
        "damaged, cut short or of another kind",
        both(config(path="{tmp}/rows.parquet"), text("rows.parquet", "PAR1 and no more")),
    ),
    "fit: an empty folder": Case(
        FIT,
        3,
        "is a folder without files",
        "check the path",
        both(config(path="{tmp}/rows"), lambda tmp: (tmp / "rows").mkdir()),
    ),
    "fit: no match": Case(
        FIT,
        3,
        "*.npy: no file matches this pattern",
        "check the folder and the suffix",
        config(path="{tmp}/*.npy"),
    ),
    "fit: two statements": Case(
        FIT, 3, "give exactly one SELECT", "nothing else is run", config(path="'duckdb:SELECT 1; SELECT 2'")
    ),
    # fit: output
    "fit: a run is there": Case(
        "fit {tmp}/job.yaml --out {run}", 4, "already exists", "replace it (--overwrite)", config()
    ),
    "fit: no run folder": Case(
        "fit {tmp}/job.yaml --out {run}/plots --overwrite",
        4,
        "is no run folder",
        "choose another folder with --out",
        config(),
    ),
    "fit: a file in the way": Case(
        "fit {tmp}/job.yaml --out {tmp}/job.yaml",
        4,
        "job.yaml is a file",
        "choose another run folder with --out",
        config(),
    ),
    # fit: choices that only data can judge
    "fit: no such value": Case(
        FIT + " --set model.num_components=0", 2, "model.num_components must be >= 1", "got 0", config()
    ),
    "fit: gaps and no family for them": Case(
        FIT + " --set model.missing=true", 2, "must be", "missing", config()
    ),
    "fit: more devices than there are": Case(
        FIT + " --set train.devices=99", 2, "train.devices must be", "got 99", config()
    ),
    # fit: where it starts
    "fit: no labels": Case(
        FIT + " --set start.kind=labels --set start.path={tmp}/l.csv",
        3,
        "{tmp}/l.csv: no such file",
        "check the path",
        config(),
    ),
    "fit: labels of other rows": Case(
        FIT + " --set start.kind=labels --set start.path={tmp}/l.csv",
        3,
        "there are 2 labels for 600 rows",
        "give one for each row of the data, and -1 where there is none",
        both(config(), text("l.csv", "label\n0\n1\n")),
    ),
    "fit: more clusters than components": Case(
        FIT + " --set start.kind=means --set start.means=[[1,2],[3,4],[5,6]]",
        2,
        "model.num_components must be >= 3, the clusters that means hold",
        "raise it, got 2",
        config(),
    ),
    "fit: means of other columns": Case(
        FIT + " --set start.kind=means --set start.means=[[1,2,3]]",
        3,
        "start.means have 3 columns",
        "the data have 2",
        config(),
    ),
    "fit: no model to start from": Case(
        FIT + " --set start.kind=model --set start.path={tmp}/none", 5, "{tmp}/none", "no such", config()
    ),
    # fit: runs that go on, alone or together
    "fit: nothing to fit": Case("fit", 2, "name a configuration", "or a run folder with --resume"),
    "fit: two things to fit": Case(
        "fit {tmp}/job.yaml --resume {fitted}", 2, "name a configuration", "one of them", config()
    ),
    "fit: nothing to go on with": Case(
        "fit --resume {fitted}",
        2,
        "--resume {fitted}: this run is finished",
        "To fit anew, use its config.yaml with another --out",
    ),
    "fit: no run to go on with": Case(
        "fit --resume {tmp}/none", 5, "no such run folder", "name the folder that vigmm fit wrote"
    ),
    "fit: another run to go on with": Case(
        "fit --resume {run} --set seed=1",
        2,
        "--resume goes on with a run as it was begun",
        "leave out --set, --out and --overwrite",
    ),
    "fit: processes without an address": Case(
        FIT + " --processes 2", 2, "of --coordinator, --processes and --process-id", "all three", config()
    ),
    # plan
    "plan: no data": Case(
        "plan {tmp}/job.yaml",
        2,
        "rows.npy: no such file",
        "give --rows and --columns",
        config(path="{tmp}/rows.npy"),
    ),
    "plan: no such device": Case(
        "plan {tmp}/job.yaml --devices h900", 2, "--devices h900", "choose one of h100", config()
    ),
    "plan: no number of devices": Case(
        "plan {tmp}/job.yaml --devices h100:x", 2, "write NAME:COUNT or NAME:AxB", "such as h100:8", config()
    ),
    "plan: a choice": Case(
        "plan {tmp}/job.yaml --set train.devices=4", 2, "train.devices must be <= 1", "got 4", config()
    ),
    # predict and evaluate
    "predict: another suffix": Case(
        "predict {fitted} --data {table} --out {tmp}/new.csv", 4, "new.csv", "ends in .parquet"
    ),
    "predict: no folder": Case(
        "predict {fitted} --data {table} --out {tmp}/none/new.parquet", 4, "there is no folder", "{tmp}/none"
    ),
    "predict: there already": Case(
        "predict {fitted} --data {table} " + NEW,
        4,
        "new.parquet already exists",
        "--overwrite",
        text("new.parquet", ""),
    ),
    "predict: other columns": Case(
        "predict {fitted} --data {tmp}/a.csv " + NEW,
        3,
        "no column 'height'",
        "did you mean 'hight'?",
        text("a.csv", "width,hight\n1,2\n"),
    ),
    "predict: more columns": Case(
        "predict {fitted} --data {tmp}/a.npy " + NEW,
        3,
        "fitted on 2 columns (width, height)",
        "the data have 3",
        array("a.npy", np.ones((4, 3))),
    ),
    "predict: a missing value": Case(
        "predict {fitted} --data {tmp}/a.npy " + NEW,
        3,
        "row 1, column 'x0' is NaN",
        "Drop or impute",
        array("a.npy", [[1, 2], [np.nan, 2]]),
    ),
    "predict: no run": Case(
        "predict {tmp}/none --data {table} " + NEW,
        5,
        "none: no such run folder",
        "name the folder that vigmm fit wrote",
    ),
    "predict: no model": Case(
        "predict {run} --data {table} " + NEW, 5, "model.safetensors", "{run}", remove("model.safetensors")
    ),
    "predict: a damaged model": Case(
        "predict {run} --data {table} " + NEW, 5, "model.json", "{run}", spoil("model.json")
    ),
    "evaluate: not finished": Case(
        "evaluate {run} --data {table}",
        5,
        "has no model yet",
        "wait for it, or go on with it: vigmm fit --resume {run}",
        both(manifest(status="running"), remove("model.json")),
    ),
    "evaluate: no such array": Case(
        "evaluate {fitted} --data {tmp}/a.npz --key z",
        3,
        "has no array 'z'",
        "It has: x",
        lambda tmp: np.savez(tmp / "a.npz", x=np.ones((3, 2))),
    ),
    "predict: a share of one file": Case(
        "predict {fitted} --data {table} --part 0/2 " + NEW,
        2,
        "--part is for rows in many files",
        "an output folder",
    ),
    "predict: no share": Case(
        "predict {fitted} --data {tmp}/*.npy --part 2/2 --out {tmp}/out",
        2,
        "--part must be I/N with I from 0 to N - 1",
        "such as 0/4, got '2/2'",
        both(array("a.npy", np.ones((3, 2))), array("b.npy", np.ones((3, 2)))),
    ),
    "predict: a folder for a file": Case(
        "predict {fitted} --data {table} --overwrite " + NEW,
        4,
        "new.parquet is a folder",
        "name a file",
        lambda tmp: (tmp / "new.parquet").mkdir(),
    ),
    "evaluate: nothing left": Case(
        "evaluate {fitted} --data {tmp}/a.npy --skip-bad-rows",
        3,
        "a.npy",
        "NaN",
        array("a.npy", [[np.nan, 1.0], [1.0, np.inf]]),
    ),
    # inspect, compare and export
    "inspect: no run": Case(
        "inspect {tmp}/none", 5, "no such run folder", "name the folder that vigmm fit wrote"
    ),
    "inspect: no manifest": Case(
        "inspect {tmp}", 5, "has no manifest.json", "name the folder that vigmm fit wrote"
    ),
    "inspect: damaged": Case(
        "inspect {run}",
        5,
        "summary.json cannot be read",
        "The run folder is damaged: fit again",
        spoil("summary.json"),
    ),
    "inspect: incomplete": Case(
        "inspect {run}", 5, "has no summary.json", "incomplete", remove("summary.json")
    ),
    "compare: one": Case("compare {fitted}", 2, "vigmm compare {fitted}", "name two run folders or more"),
    "compare: not finished": Case(
        "compare {fitted} {run}",
        5,
        "{run} has no results to compare: it is running",
        "leave it out until it has finished",
        manifest(status="running"),
    ),
    "compare: damaged": Case(
        "compare {fitted} {run}",
        5,
        "lacks 'data'",
        "damaged, or of another version",
        lambda tmp: (tmp / "run" / "manifest.json").write_text('{"status": "finished"}'),
    ),
    "export: an unknown format": Case("export {fitted} --to fax", 2, "--to must be one of csv", "got 'fax'"),
    "export: another suffix": Case(
        "export {fitted} --to npz --out {tmp}/a.csv",
        4,
        "a.csv: npz is written to a file whose name ends in .npz",
        "name one (--out)",
    ),
    "export: there already": Case(
        "export {fitted} --to csv --out {tmp}/a.csv",
        4,
        "a.csv already exists",
        "--overwrite",
        text("a.csv", ""),
    ),
    "export: no folder": Case(
        "export {fitted} --to csv --out {tmp}/none/a.csv", 4, "there is no folder {tmp}/none", "make it first"
    ),
    "export: no run": Case(
        "export {tmp}/none --to npz --out {tmp}/a.npz",
        5,
        "no such run folder",
        "name the folder that vigmm fit wrote",
    ),
    # report
    "report: no run": Case(
        "report {tmp}/none", 5, "no such run folder", "name the folder that vigmm fit wrote"
    ),
    "report: not finished": Case(
        "report {run}",
        5,
        "{run} has no results to report: the run is running",
        "wait until it has finished",
        manifest(status="running"),
    ),
    "report: other rows": Case(
        "report {fitted} --data {tmp}/a.csv --out {tmp}/r.html",
        3,
        "a.csv has 2 rows, and the run was fitted to 600",
        "say where the rows are that were fitted (--data)",
        text("a.csv", "width,height\n1,2\n3,4\n"),
    ),
    "report: in the way": Case(
        "report {fitted} --out {tmp}/notes.html",
        4,
        "notes.html exists and is no report of vigmm",
        "choose another name with --out",
        text("notes.html", "mine"),
    ),
    "report: no folder": Case(
        "report {fitted} --out {tmp}/none/r.html", 4, "there is no folder {tmp}/none", "make it first"
    ),
    "report: no draws": Case("report {fitted} --draws 0", 2, "Invalid value for '--draws'", "equal to 2"),
    # shuffle
    "shuffle: another format": Case(
        "shuffle {table} --format csv --out {tmp}/out", 2, "--format must be one of npy, parquet", "got 'csv'"
    ),
    "shuffle: no seed": Case("shuffle {table} --seed -1", 2, "--seed must be >= 0", "got -1"),
    "shuffle: there already": Case(
        "shuffle {table} --out {tmp}/out -q",
        4,
        "out already exists",
        "choose another folder, or delete it first",
        lambda tmp: (tmp / "out").mkdir(),
    ),
    "shuffle: no folder": Case(
        "shuffle {table} --out {tmp}/none/out -q", 4, "there is no folder {tmp}/none", "make it first"
    ),
    "shuffle: into itself": Case(
        "shuffle {tmp}/rows --out {tmp}/rows/out -q",
        4,
        "lies in the folder of the rows",
        "choose one outside it with --out",
        both(lambda tmp: (tmp / "rows").mkdir(), array("rows/a.npy", np.ones((3, 2)))),
    ),
    # usage
    "no such command": Case("fti", 2, "No such command 'fti'", "--help"),
    "no such option": Case("fit a.yaml --sett a=1", 2, "No such option", "--set"),
    "nothing to predict": Case("predict {fitted} --out a.parquet", 2, "Missing option", "--data"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_what_is_said(case, vigmm, fitted, table, run_copy, tmp_path):
    tmp = tmp_path / "here"
    tmp.mkdir()
    run_copy.rename(tmp / "run")
    places = {"fitted": fitted, "table": table, "tmp": tmp, "run": tmp / "run"}
    case.arrange(tmp)
    job = tmp / "job.yaml"
    if job.exists() and b"\xff" not in job.read_bytes():
        job.write_text(fill(job.read_text(), places))
    before = {path: path.read_bytes() for path in tmp.rglob("*") if path.is_file()}
    done = vigmm(*(fill(word, places) for word in case.command.split()))
    assert done.exit_code == case.code, (done.output, done.exception)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for fragment in (case.names, case.remedy):
        assert fill(fragment, places) in done.stderr
    # Nothing was made, changed or lost.
    assert {path: path.read_bytes() for path in tmp.rglob("*") if path.is_file()} == before


def fill(words, places):
    for name, place in places.items():
        words = words.replace(f"{{{name}}}", str(place))
    return words


def test_what_is_not_installed_says_how(vigmm, table, tmp_path, monkeypatch):
    """Extras, each by what needs it."""
    for name in ("duckdb", "h5py", "PIL", "tensorboardX", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    for data, extra in (
        ("duckdb:SELECT 1", "duckdb"),
        (tmp_path / "a.h5", "hdf5"),
        (tmp_path / "a.png", "image"),
    ):
        done = vigmm("init", data, "--out", tmp_path / "c.yaml")
        assert done.exit_code == 3
        assert f"pip install 'vigmm[{extra}]'" in done.stderr
    assert not (tmp_path / "c.yaml").exists()


def test_how_long_to_wait_for_others_is_a_number(vigmm, job, tmp_path, monkeypatch):
    monkeypatch.setenv("VIGMM_MEET_SECONDS", "soon")
    together = ("--coordinator", "localhost:1", "--processes", 2, "--process-id", 0)
    done = vigmm("fit", job(), *together)
    assert done.exit_code == 2
    assert "VIGMM_MEET_SECONDS must be a whole number of seconds, got 'soon'" in done.stderr
    assert not (tmp_path / "run").exists()
