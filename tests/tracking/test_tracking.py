"""Runs told to TensorBoard and MLflow, each read back from what it wrote."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from vigmm.config import Job, read_job, to_yaml
from vigmm.core.errors import ConfigError, OutputError, SpecError
from vigmm.core.outcome import Outcome, Status
from vigmm.data.sources import DataFile
from vigmm.tracking import (
    TRACKERS,
    Mlflow,
    TensorBoard,
    mlflow_store,
    tensorboard_files,
    watching,
)

DATA = "data: {path: x.npy}\n"
FIT = SimpleNamespace(
    outcome=Outcome(Status.CONVERGED, 7, "it did"),
    elbo=SimpleNamespace(elbo=-1200.0, per_row=-2.5),
    posterior=SimpleNamespace(num_components=3),
    holdout=(-2.25, 0.125),
    manifest={"seconds": {"read": 1.0, "train": 2.5}},
)


class Heard:
    """A tracker, or a screen, that remembers."""

    def __init__(self, fail_at=None):
        self.heard, self._fail_at = [], fail_at

    def start(self, total_steps, phase):
        self.heard.append(("start", total_steps, phase))

    def update(self, step, values):
        self.heard.append(("update", step, values))

    def finish(self):
        self.heard.append(("finish",))

    def close(self):
        self.heard.append(("close",))

    def log(self, step, values):
        if step == self._fail_at:
            raise OSError("no space left\non the device")
        self.heard.append((step, values))

    def end(self, ending, final):
        self.heard.append((ending, final))


class Opens:
    def __init__(self, tracker):
        self.tracker = tracker

    def open(self, run):
        self.run = run
        return self.tracker


def feed(watchers):
    watchers.start(2, "search")
    watchers.update(1, {"elbo": -1500.0, "effective_components": 4.0})
    watchers.finish()
    watchers.start(100, "fit")
    for step in (50, 100):
        holdout = np.nan if step == 50 else -2.5
        watchers.update(step, {"elbo": -1400.0 + step, "holdout": holdout, "chunk_step": float(step)})
    watchers.finish()


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """Feeds trackers as a run does; returns what was complained of."""

    def go(*tracks, show=None, result=FIT, error=None):
        job, said = Job(data=DataFile("x.npy")), []
        object.__setattr__(job, "track", tracks)
        monkeypatch.setattr("vigmm.tracking.watchers.to_dict", lambda _: {"seed": 3, "model": {"kind": "a"}})
        with watching(job, tmp_path / "run", show, complain=said.append) as watchers:
            feed(watchers)
            if error is not None:
                raise error
            watchers.result(result)
        return said

    return go


def test_the_screen_hears_all_and_trackers_hear_names_with_phases(watch):
    screen, tracker = Heard(), Heard()
    opens = Opens(tracker)
    assert watch(opens, show=screen) == []
    assert screen.heard[0] == ("start", 2, "search")
    assert screen.heard[-2:] == [("finish",), ("close",)]
    assert len(screen.heard) == 8
    assert opens.run.config == {"seed": 3, "model": {"kind": "a"}}
    assert tracker.heard == [
        (1, {"search/elbo": -1500.0, "search/effective_components": 4.0}),
        (50, {"fit/elbo": -1350.0}),  # nothing was held out yet, and the step is said already
        (100, {"fit/elbo": -1300.0, "fit/holdout": -2.5}),
        ("finished", {
            "elbo": -1200.0, "elbo_per_row": -2.5, "components": 3.0, "seconds": 3.5,
            "holdout": -2.25, "holdout_se": 0.125,
        }),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "ending"),
    [(Status.BUDGET, "finished"), (Status.NONFINITE, "failed"), (Status.INTERRUPTED, "killed")],
)
def test_how_it_ended(watch, status, ending):
    tracker = Heard()
    watch(Opens(tracker), result=SimpleNamespace(**{**vars(FIT), "outcome": Outcome(status, 3, "")}))
    assert tracker.heard[-1][0] == ending


@pytest.mark.parametrize(("error", "ending"), [(KeyboardInterrupt(), "killed"), (ValueError(), "failed")])
def test_an_error_ends_it_too(watch, error, ending):
    tracker, screen = Heard(), Heard()
    with pytest.raises(type(error)):
        watch(Opens(tracker), show=screen, error=error)
    assert tracker.heard[-1] == (ending, {})
    assert screen.heard[-1] == ("close",)


def test_a_tracker_that_fails_is_let_go_and_the_run_goes_on(watch):
    bad, good = Heard(fail_at=50), Heard()
    said = watch(Opens(bad), Opens(good))
    assert said == ["Opens failed and is told no more of this run, which goes on: no space left"]
    assert len(bad.heard) == 1
    assert good.heard[-1][0] == "finished"


def test_a_tracker_that_cannot_begin_ends_those_that_have(watch):
    class Refuses:
        def open(self, run):
            raise OutputError("track: there is no server")

    first, screen = Heard(), Heard()
    with pytest.raises(OutputError, match="no server"):
        watch(Opens(first), Refuses(), show=screen)
    assert first.heard == [("failed", {})]
    assert screen.heard == [("close",)]


def test_the_configuration_chooses_trackers():
    assert read_job(DATA, name="f").track == ()
    job = read_job(DATA + "track: [tensorboard, {kind: mlflow, experiment: pixels}]\n", name="f")
    assert job.track == (TensorBoard(), Mlflow(experiment="pixels"))
    assert read_job(to_yaml(job), name="f") == job
    assert hash(job) == hash(read_job(to_yaml(job), name="f"))
    assert read_job(DATA, name="f", overrides=["track=tensorboard"]).track == (TensorBoard(),)
    assert read_job(DATA + "track: {kind: mlflow}\n", name="f").track == (Mlflow(),)
    assert read_job(DATA + "track: null\n", name="f").track == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("track: tensorbord\n", ["f:2:1: track must be one of tensorboard, mlflow", "did you mean"]),
        ("track: [tensorboard, {kind: wandb}]\n", ["f:2:23: track.1.kind must be one of"]),
        ("track: [{kind: mlflow, url: x}]\n", ["track.0.url: unknown key; did you mean uri?"]),
        ("track: [{uri: x}]\n", ["track.0.kind is missing"]),
        ("track: [{kind: mlflow, uri: ./mlruns}]\n", ["track.0.uri must be a data base or a server"]),
        ("track: [{kind: tensorboard, folder: ''}]\n", ["track.0.folder must be the path of a folder"]),
        ("track: [3]\n", ["track.0 must be one of tensorboard, mlflow, or a section with a kind, got 3"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(text, words):
    with pytest.raises(ConfigError) as error:
        read_job(DATA + text, name="f")
    for word in words:
        assert word in str(error.value)


def test_a_file_store_is_refused():
    with pytest.raises(SpecError, match="uri must be a data base or a server"):
        Mlflow(uri="file:./mlruns")


@pytest.mark.parametrize("kind", TRACKERS)
def test_what_is_not_installed_says_how(kind, watch, monkeypatch):
    for name in ("tensorboardX", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OutputError, match=rf"pip install 'vigmm\[{kind}\]', or leave {kind} out of track"):
        watch(TRACKERS[kind]())


def records(folder: Path):
    """All events of the files in a folder, in order: pairs of step and summary value."""
    import struct

    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            found += [(event.step, value) for value in event.summary.value]
            content = content[16 + length :]
    return found


def test_event_files_hold_the_run(watch, tmp_path):
    pytest.importorskip("tensorboardX")
    assert watch(TensorBoard(), TensorBoard(folder=str(tmp_path / "elsewhere"))) == []
    for folder in (tmp_path / "run" / "tensorboard", tmp_path / "elsewhere"):
        found = records(folder)
        scalars = {
            (value.tag, step): value.simple_value for step, value in found if value.HasField("simple_value")
        }
        assert scalars == {
            ("search/elbo", 1): -1500.0, ("search/effective_components", 1): 4.0,
            ("fit/elbo", 50): -1350.0, ("fit/elbo", 100): -1300.0, ("fit/holdout", 100): -2.5,
            ("final/elbo", 0): -1200.0, ("final/elbo_per_row", 0): -2.5, ("final/components", 0): 3.0,
            ("final/seconds", 0): 3.5, ("final/holdout", 0): -2.25, ("final/holdout_se", 0): 0.125,
        }  # fmt: skip
        (config,) = [
            value.tensor.string_val[0].decode() for _, value in found if value.tag.startswith("config")
        ]
        assert '| model.kind | "a" |' in config


@pytest.mark.parametrize("told", [mlflow_store._text, tensorboard_files._cell])
def test_no_password_leaves_with_the_configuration(told):
    tracks = [{"kind": "mlflow", "uri": "postgresql://me:word@host/runs"}]
    assert "postgresql://***@host/runs" in told(tracks)
    assert "word" not in told(tracks)
    assert told("SELECT a || b").replace("\\|", "|").strip('"') == "SELECT a || b"


def test_a_bar_does_not_end_the_cell_of_a_table():
    assert tensorboard_files._cell("a || b") == '"a \\|\\| b"'


# In a process of its own: MLflow starts threads, opens files and warns as it pleases.
STORED = """
    import json, logging, sys
    from types import SimpleNamespace
    from vigmm.config import read_job
    from vigmm.core.outcome import Outcome, Status
    from vigmm.tracking import watching
    job = read_job("data: {path: x.npy}\\nseed: 5\\ntrack: {kind: mlflow, experiment: pixels}\\n", name="f")
    fit = SimpleNamespace(
        outcome=Outcome(Status.CONVERGED, 7, "it did"), elbo=SimpleNamespace(elbo=-1200.0, per_row=-2.5),
        posterior=SimpleNamespace(num_components=3), holdout=None, manifest={"seconds": {"read": 1.0}},
    )
    def complain(text): raise SystemExit(text)
    for name in ("first", "second"):
        with watching(job, "runs/" + name, None, complain=complain) as watchers:
            watchers.start(3000, "fit")
            for step in range(3000):  # more than a batch
                watchers.update(step, {"elbo": float(step), "holdout": float("nan")})
            watchers.finish()
            if name == "second":
                break
            watchers.result(fit)
    from mlflow import MlflowClient
    client = MlflowClient(tracking_uri="sqlite:///mlflow.db")
    (experiment,) = [one for one in client.search_experiments() if one.name == "pixels"]
    found = {}
    for run in client.search_runs([experiment.experiment_id]):
        steps = client.get_metric_history(run.info.run_id, "fit/elbo")
        found[run.info.run_name] = {
            "status": run.info.status, "params": run.data.params, "metrics": run.data.metrics,
            "folder": run.data.tags["vigmm.run_folder"], "steps": sorted((m.step, m.value) for m in steps),
        }
    print(json.dumps(found))
"""


@pytest.mark.slow  # MLflow imports for seconds and makes a data base
def test_mlflow_holds_the_run(tmp_path):
    pytest.importorskip("mlflow")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STORED)],
        capture_output=True, text=True, timeout=110, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert sorted(found) == ["first", "second"]
    first = found["first"]
    assert (first["status"], first["folder"]) == ("FINISHED", "runs/first")
    assert first["params"]["seed"] == "5"
    assert first["params"]["model.weights.kind"] == "dirichlet_process"
    assert first["steps"] == [[step, float(step)] for step in range(3000)]
    assert first["metrics"] == {
        "fit/elbo": 2999.0, "final/elbo": -1200.0, "final/elbo_per_row": -2.5, "final/components": 3.0,
        "final/seconds": 1.0,
    }  # fmt: skip
    # Left without a result.
    assert found["second"]["status"] == "FAILED"
    assert len(found["second"]["steps"]) == 3000
    # No folder of artifacts beside the data base.
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.slow  # as above
def test_mlflow_without_a_server_says_so(tmp_path):
    pytest.importorskip("mlflow")
    (tmp_path / "file").write_text("")
    code = f"""
        from pathlib import Path
        from vigmm.core.errors import OutputError
        from vigmm.tracking import Mlflow, Run
        try:
            Mlflow(uri="sqlite:///{tmp_path}/file/x.db").open(Run(Path("run"), {{}}))
        except OutputError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=110,
        cwd=tmp_path,
    )
    assert done.stdout.startswith("track: MLflow cannot begin a run at sqlite:///"), (
        done.stdout,
        done.stderr,
    )
    assert "check the uri" in done.stdout
