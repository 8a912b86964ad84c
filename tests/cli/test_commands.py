"""What the commands write and say when all is well, and when a run ends early."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from vigmm import __version__, api
from vigmm.cli.app import app
from vigmm.config import load_job
from vigmm.core.outcome import Outcome, Status
from vigmm.posterior import load

FILES = [
    "assignments.parquet",
    "config.yaml",
    "manifest.json",
    "metrics.jsonl",
    "model.json",
    "model.safetensors",
    "plots",
    "summary.json",
    "summary.txt",
]


def strict(text):
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_version(vigmm):
    assert vigmm("--version").stdout == f"vigmm {__version__}\n"


@pytest.mark.parametrize("command", [[], ["fit"], ["predict"], ["evaluate"], ["inspect"]])
def test_help(vigmm, command):
    done = vigmm(*command, "--help")
    assert done.exit_code == 0
    assert "..." not in done.stdout.replace("[ARGS]...", ""), "a summary of a command is too long for a line"


def test_a_run_folder_holds_everything(fitted):
    assert names(fitted) == FILES
    assert names(fitted / "plots") == ["clusters.png", "trace.png", "weights.png"]
    for picture in (fitted / "plots").iterdir():
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_what_fit_says(fitted):
    told = (fitted.parent / "stdout.txt").read_text()
    last = [
        f"Run folder  {fitted} (read summary.txt first)",
        f"Next        vigmm report {fitted} writes a page to look at",
    ]
    assert told.splitlines()[-2:] == last
    for head in ("Outcome", "Data", "ELBO", "Held out", "Components", "Time"):
        assert re.search(rf"^{head}  ", told, re.M), head
    assert "600 rows of 2 (width, height)" in told


def test_the_manifest(fitted, table):
    manifest = strict((fitted / "manifest.json").read_text())
    assert (manifest["schema"], manifest["status"]) == (1, "finished")
    assert manifest["started"] <= manifest["finished"]
    assert manifest["finished"].endswith("+00:00")
    assert set(manifest["versions"]) >= {"vigmm", "python", "jax", "numpy"}
    assert set(manifest["device"]) == {"platform", "kind", "count"}
    assert manifest["data"]["name"] == str(table)
    assert (manifest["data"]["rows"], manifest["data"]["columns"]) == (600, ["width", "height"])
    assert manifest["data"]["train_rows"] + manifest["data"]["holdout_rows"] == 600
    assert manifest["data"]["fingerprint"].startswith("sha256:")
    assert manifest["outcome"]["status"] in ("budget", "converged")
    assert manifest["elbo"]["elbo"] == pytest.approx(sum(manifest["elbo"]["terms"].values()))
    assert manifest["holdout"].keys() == {"mean_log_density", "se"}
    assert [manifest[name]["kind"] for name in ("family", "estimator", "start")] == [
        "conjugate",
        "natural",
        "kmeans",
    ]
    assert manifest["prior"]["mean"] == pytest.approx([2.4, 54_000], rel=0.01)
    assert (manifest["seed"], manifest["dtype"]) == (0, "float32")
    assert manifest["skipped"] == []


def test_the_resolved_configuration_names_every_choice(fitted):
    job = load_job(fitted / "config.yaml")
    assert job.optimizer is not None
    assert job.output.folder == str(fitted)
    assert "num_components: 2" in (fitted / "config.yaml").read_text()


def test_metrics_are_a_record_a_step(fitted):
    records = [strict(line) for line in (fitted / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(len(records)))
    assert all({"elbo", "elbo_per_row", "rate", "grad_norm"} <= record.keys() for record in records)
    assert {"holdout", "effective_components", "seconds"} <= records[-1].keys()


def test_assignments_are_those_of_the_model(fitted, table):
    found = pq.read_table(fitted / "assignments.parquet")
    assert found.column_names == ["row", "component", "probability", "log_density"]
    direct = load(fitted).assign(str(table))
    assert found["row"].to_pylist() == list(range(600))
    np.testing.assert_array_equal(found["component"].to_numpy(), direct.component)
    np.testing.assert_array_equal(found["log_density"].to_numpy(), direct.log_density)
    # A third of the rows was drawn from the first of the two clusters.
    assert sorted(np.bincount(found["component"].to_numpy())) == [200, 400]


def test_the_summary_is_readable(fitted):
    text = (fitted / "summary.txt").read_text()
    assert max(map(len, text.splitlines())) <= 160
    for word in (
        "Outcome",
        "Worth a look",
        "Components, largest first",
        "width",
        "height",
        "plots/clusters.png",
    ):
        assert word in text
    summary = strict((fitted / "summary.json").read_text())
    weights = [one["weight"]["mean"] for one in summary["summary"]["components"]]
    assert weights == pytest.approx([2 / 3, 1 / 3], abs=0.02)
    assert summary["needed"] == 2
    assert summary["doubtful"] == pytest.approx(0, abs=0.01)


@pytest.mark.slow
def test_the_run_repeats_from_its_own_configuration(vigmm, fitted, tmp_path):
    done = vigmm(
        "fit", fitted / "config.yaml", "--out", tmp_path / "again", "--quiet", "--set", "output.plots=false"
    )
    assert (done.exit_code, done.output) == (0, "")
    assert names(tmp_path / "again") == [name for name in FILES if name != "plots"]
    for name in ("model.safetensors", "assignments.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (fitted / name).read_bytes()


def test_without_matplotlib_the_run_says_so(vigmm, job, monkeypatch, tmp_path):
    monkeypatch.setattr("vigmm.plot.available", lambda: False)
    done = vigmm("fit", job())
    assert done.exit_code == 0, done.output
    assert "plots" not in names(tmp_path / "run")
    for text in (done.stdout, (tmp_path / "run" / "summary.txt").read_text()):
        assert "Not written: pictures: they need matplotlib; pip install 'vigmm[plot]'" in text


def test_overwrite(vigmm, job, run_copy):
    (run_copy / "extra").write_text("x")
    done = vigmm(
        "fit", job(), "--overwrite", "--set", "output={plots: false, assignments: false}", "--out", run_copy
    )
    assert done.exit_code == 0, done.output
    assert names(run_copy) == [name for name in FILES if name not in ("plots", "assignments.parquet")]
    assert names(run_copy.parent) == ["job.yaml", "run"]


def test_a_hand_stops_a_run_and_the_model_is_kept(vigmm, job, monkeypatch, tmp_path, table):
    class Hand:
        """Presses Ctrl-C as soon as the fit has begun."""

        def start(self, total_steps, phase):
            self.phase = phase

        def update(self, step, values):
            if self.phase == "fit":
                os.kill(os.getpid(), signal.SIGINT)
                self.phase = "stopped"

        def finish(self): ...

        def close(self): ...

    monkeypatch.setattr("vigmm.cli.fitting.reporter", lambda **_: Hand())
    config = job()
    done = vigmm("fit", config, "--set", "train.passes=100000", "--set", "train.tolerance=0")
    assert done.exit_code == 130, (done.output, done.exception)
    assert "Outcome     interrupted: " in done.stdout
    assert strict((tmp_path / "run" / "manifest.json").read_text())["outcome"]["status"] == "interrupted"
    assert names(tmp_path / "run") == FILES
    assert vigmm("evaluate", tmp_path / "run", "--data", table).exit_code == 0


def test_a_hand_before_there_is_a_model_leaves_nothing(vigmm, job, monkeypatch, tmp_path):
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("vigmm.api.fit", stopped)
    done = vigmm("fit", job())
    assert done.exit_code == 130
    assert "vigmm: interrupted before there was a result, so nothing was written" in done.stderr
    assert names(tmp_path) == ["job.yaml"]


def test_a_hand_while_writing_leaves_the_model(vigmm, job, monkeypatch, tmp_path, table):
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("vigmm.rundir.results.write_metrics", stopped)
    done = vigmm("fit", job())
    assert done.exit_code == 130
    assert "the model is there and the rest is incomplete" in done.stderr
    assert strict((tmp_path / "run" / "manifest.json").read_text())["status"] == "incomplete"
    assert vigmm("evaluate", tmp_path / "run", "--data", table).exit_code == 0
    assert "incomplete since" in vigmm("inspect", tmp_path / "run").stdout


@pytest.mark.parametrize("status", [Status.NONFINITE, Status.DIVERGED])
@pytest.mark.parametrize("quiet", [False, True])
def test_a_run_that_goes_wrong_is_written_and_says_so(vigmm, job, monkeypatch, tmp_path, status, quiet):
    real = api.fit
    outcome = Outcome(status, 3, "log_lik was not finite at step 3", bad_step=3, bad_term="log_lik")

    def wrong(*args, **kwargs):
        fit = real(*args, **kwargs)
        manifest = {**fit.manifest, "outcome": {**dataclasses.asdict(outcome), "status": status.value}}
        return dataclasses.replace(fit, outcome=outcome, manifest=manifest)

    monkeypatch.setattr("vigmm.api.fit", wrong)
    done = vigmm("fit", job(), *(["--quiet"] if quiet else []))
    assert done.exit_code == 6
    assert f"{status.value}: log_lik was not finite at step 3" in done.output
    assert names(tmp_path / "run") == FILES
    assert "Do not use this model" in (tmp_path / "run" / "summary.txt").read_text()


JSON = {
    "plan": "{job} --scaling",
    "evaluate": "{run} --data {table}",
    "inspect": "{run}",
    "compare": "{run} {run}",
    "report": "{run} --no-diagnosis --out {tmp}/report.html",
    "doctor": "",
}


def test_whatever_answers_in_json_is_in_the_table():
    answering = {
        command.name or command.callback.__name__
        for command in app.registered_commands
        if "as_json" in inspect.signature(command.callback).parameters
    }
    assert answering == set(JSON)


@pytest.mark.parametrize("command", JSON)
def test_an_answer_in_json_is_one_value_and_nothing_else(vigmm, fitted, table, job, tmp_path, command):
    places = {"run": fitted, "table": table, "job": job(), "tmp": tmp_path}
    done = vigmm(command, *JSON[command].format(**places).split(), "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    assert isinstance(strict(done.stdout), dict)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_numbers_that_are_not_finite_are_null_in_an_answer(vigmm, run_copy):
    """`read_manifest` knows the NaN that other writers put into JSON."""
    text = (run_copy / "manifest.json").read_text()
    spoilt = text.replace('"per_row": ', '"per_row": NaN, "was": ', 1)
    (run_copy / "manifest.json").write_text(spoilt)
    assert strict(vigmm("inspect", run_copy, "--json").stdout)["manifest"]["elbo"]["per_row"] is None


def test_evaluate(vigmm, fitted, table):
    values = pq.read_table(fitted / "assignments.parquet")["log_density"].to_numpy().astype(np.float64)
    found = strict(vigmm("evaluate", fitted, "--data", table, "--json").stdout)
    assert found["mean_log_density"] == pytest.approx(values.mean(), rel=1e-12)
    assert found["se"] == pytest.approx(values.std(ddof=1) / np.sqrt(600), rel=1e-9)
    assert found["rows"] == 600
    told = vigmm("evaluate", fitted, "--data", table).stdout
    assert f"mean log predictive density {values.mean():.6f}" in told
    assert "600 rows" in told


def test_evaluate_takes_the_model_s_columns_of_a_folder_and_of_a_query(vigmm, fitted, table, tmp_path):
    rows = csv.read_csv(table)
    for number in (2, 10):
        part = rows.slice(0, 200) if number == 2 else rows.slice(200)
        pq.write_table(part.select(["species", "height", "width"]), tmp_path / f"part-{number}.parquet")
    whole = strict(vigmm("evaluate", fitted, "--data", table, "--json").stdout)
    query = f"duckdb:SELECT height, species, width FROM '{tmp_path}/*.parquet'"
    for data in (tmp_path, f"{tmp_path}/part-*.parquet", query):
        found = strict(vigmm("evaluate", fitted, "--data", data, "--json").stdout)
        assert found["rows"] == 600
        assert found["mean_log_density"] == pytest.approx(whole["mean_log_density"], rel=1e-12)
        assert found["se"] == pytest.approx(whole["se"], rel=1e-9)


def test_one_row_has_no_standard_error(vigmm, fitted, tmp_path):
    np.save(tmp_path / "one.npy", np.array([[2.0, 50_000.0]]))
    done = vigmm("evaluate", fitted, "--data", tmp_path / "one.npy", "--json")
    assert strict(done.stdout)["se"] is None
    assert "±" not in vigmm("evaluate", fitted, "--data", tmp_path / "one.npy").stdout


def rewrite(table, path, order, header):
    """The same rows with the columns in another order or under other names."""
    lines = [line.split(",") for line in table.read_text().splitlines()[1:]]
    path.write_text("\n".join([header, *(",".join(line[i] for i in order) for line in lines)]) + "\n")
    return path


@pytest.mark.parametrize(
    ("order", "header", "options"),
    [
        ([2, 1, 0], "species,height,width", []),
        ([0, 1, 0], "width,height,more", []),
        ([1, 0], "tall,wide", ["--columns", "wide,tall"]),
        ([1, 0], "tall,wide", ["--columns", "wide", "--columns", "tall"]),
        ([0, 1], "a,b", ["--columns", "a,b"]),
    ],
)
def test_predict_finds_the_columns(vigmm, fitted, table, tmp_path, order, header, options):
    path = rewrite(table, tmp_path / "new.csv", order, header)
    done = vigmm("predict", fitted, "--data", path, "--out", tmp_path / "out.parquet", *options)
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.stdout == f"{tmp_path / 'out.parquet'}: 600 rows\n"
    assert pq.read_table(tmp_path / "out.parquet").equals(pq.read_table(fitted / "assignments.parquet"))
    assert names(tmp_path) == ["new.csv", "out.parquet"]


def test_predict_overwrites_when_told(vigmm, fitted, table, tmp_path):
    (tmp_path / "out.parquet").write_text("old")
    args = ("predict", fitted, "--data", table, "--out", tmp_path / "out.parquet", "--overwrite", "-q")
    done = vigmm(*args)
    assert (done.exit_code, done.output) == (0, "")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 600


def test_inspect(vigmm, fitted):
    told = vigmm("inspect", fitted).stdout
    for word in (
        "Outcome",
        "conjugate, natural",
        "Prior: normal_wishart",
        "width",
        "Components, largest first",
    ):
        assert word in told
    found = strict(vigmm("inspect", fitted, "--json").stdout)
    assert found["manifest"]["status"] == "finished"
    assert len(found["summary"]["summary"]["components"]) == 2


def test_inspect_hides_small_components_unless_asked(vigmm, run_copy):
    summary = json.loads((run_copy / "summary.json").read_text())
    summary["summary"]["components"][1]["weight"]["mean"] = 1e-5
    (run_copy / "summary.json").write_text(json.dumps(summary))
    assert "1 more below 0.1% of the rows; --all shows them." in vigmm("inspect", run_copy).stdout
    assert "more below" not in vigmm("inspect", run_copy, "--all").stdout
