"""What the doctor finds, and what it makes of it."""

from __future__ import annotations

import importlib.metadata
import json
import platform

import pytest

from vigmm import __version__
from vigmm.cli import doctoring

ABOUT = {
    "jax": "0.10.2",
    "numpy": "2.4.6",
    "matplotlib": "3.0",
}


class About:
    """Metadata of a package, as far as the doctor looks."""

    def __getitem__(self, name):
        return {"Requires-Python": "<3.9"}[name]

    def get_all(self, name):
        return ["plot", "duckdb", "sane", "tpu", "test"]


@pytest.fixture
def found(monkeypatch):
    """All checks by name, without asking the devices."""

    def checks(devices=False):
        if not devices:
            monkeypatch.setattr(doctoring, "_devices", lambda: iter(()))
        return {check.name: check for check in doctoring._checks()}

    return checks


def test_here_all_is_well(vigmm, monkeypatch):
    monkeypatch.setenv("VIGMM_CACHE", "off")
    done = vigmm("doctor", "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["ok"] is True
    checks = {check["name"]: check for check in answer["checks"]}
    assert checks["vigmm"]["text"] == __version__
    assert checks["python"]["text"] == platform.python_version()
    assert checks["jax"]["text"] == importlib.metadata.version("jax")
    assert checks["devices"]["text"].startswith("4 x cpu")  # as the tests have it
    assert "off" in checks["cache"]["text"]
    assert {"numpy", "pyarrow", "typer", "extra plot", "temporary", "here", "cores", "memory"} <= set(checks)
    told = vigmm("doctor")
    assert told.exit_code == 0
    assert told.stdout.splitlines()[-1] == "All is well."
    assert "BAD" not in told.stdout


def test_wrong_and_missing_packages(found, monkeypatch, vigmm):
    rows = ["jax!=0.10.*,!=0.11.0,>=0.9.2", "numpy>=2.4", "optax>=0.2.8", 'matplotlib>=3.11; extra == "plot"',
            'duckdb>=2.0; extra == "duckdb"', 'numpy>=2.4; extra == "sane"',
            'tpu-driver; extra == "tpu"', 'pytest; extra == "test"', 'old; python_version < "3"']  # fmt: skip
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: rows)
    monkeypatch.setattr(importlib.metadata, "metadata", lambda _: About())

    def version(name):
        if name in ("optax", "duckdb"):
            raise importlib.metadata.PackageNotFoundError(name)
        return ABOUT.get(name) or real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    checks = found()
    assert checks["jax"].state == "bad"
    assert "0.10.2, which must be" in checks["jax"].text
    assert "deadlock" in checks["jax"].text
    assert checks["jax"].remedy == "pip install 'jax!=0.10.*,!=0.11.0,>=0.9.2'"
    assert (checks["optax"].state, checks["optax"].text) == ("bad", "missing")
    assert checks["numpy"].state == "ok"
    plot, duckdb = checks["extra plot"], checks["extra duckdb"]
    assert (plot.state, plot.text) == ("note", "matplotlib 3.0")
    assert (duckdb.state, duckdb.text) == ("note", "duckdb missing")
    assert duckdb.remedy == "for it, pip install 'vigmm[duckdb]'"
    assert checks["extra sane"].state == "ok"
    assert not {"extra tpu", "extra test", "old"} & set(checks)
    assert checks["python"].state == "bad"
    assert checks["python"].remedy == "it must be <3.9"
    done = vigmm("doctor")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == "Something will not work: see the lines marked BAD."
    assert json.loads(vigmm("doctor", "--json").stdout)["ok"] is False


def test_devices_that_fail(found, monkeypatch):
    def fails():
        raise RuntimeError("Unable to initialize backend 'tpu'\nand much more")

    monkeypatch.setattr("jax.devices", fails)
    check = found(devices=True)["devices"]
    assert check.state == "bad"
    assert check.text == "JAX cannot compute: Unable to initialize backend 'tpu'"


def test_a_gpu_that_is_not_used(found, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    check = found(devices=True)["devices"]
    assert (check.state, check.remedy) == ("note", "for it, pip install 'vigmm[cuda12]'")


def test_the_cache(found, monkeypatch, tmp_path):
    monkeypatch.setenv("VIGMM_CACHE", str(tmp_path / "none" / "yet"))
    assert found()["cache"].text.endswith("yet, empty yet")
    (tmp_path / "a-cache").write_bytes(bytes(3 * 2**20))
    monkeypatch.setenv("VIGMM_CACHE", str(tmp_path))
    assert found()["cache"].text.endswith("1 files, 3 MiB")
    monkeypatch.setenv("VIGMM_CACHE", str(tmp_path / "a-cache" / "below"))
    check = found()["cache"]
    assert (check.state, check.remedy) == ("note", "set VIGMM_CACHE to a folder")
    assert not (tmp_path / "none").exists()


def test_nowhere_to_write(found, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    monkeypatch.setattr("os.access", lambda *_: False)
    checks = found()
    assert checks["temporary"].state == "bad"
    assert "No space left" in checks["temporary"].text
    assert checks["here"].state == "note"
    assert "--out" in checks["here"].remedy


def test_not_installed(found, monkeypatch):
    def unknown(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "metadata", unknown)
    assert found()["vigmm"].state == "bad"
