"""Runs as files for other programs."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
import xarray
from jax import export
from pyarrow import csv

from vigmm.cli.exporting import EXPORTS
from vigmm.posterior import load


@pytest.mark.parametrize("to", ["csv", "parquet"])
def test_the_components_as_a_table(vigmm, fitted, tmp_path, to):
    out = tmp_path / f"components.{to}"
    done = vigmm("export", fitted, "--to", to, "--out", out)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"{out}: ")
    table = (csv.read_csv if to == "csv" else pq.read_table)(out)
    found = table.to_pylist()
    assert [(row["component"], row["column"]) for row in found] == [
        (0, "width"), (0, "height"), (1, "width"), (1, "height")
    ]  # fmt: skip
    summary = json.loads((fitted / "summary.json").read_text())["summary"]
    one = summary["components"][1]
    row = found[3]
    assert row["weight"] == pytest.approx(one["weight"]["mean"], rel=1e-12)
    assert (row["weight_low"], row["weight_high"]) == (one["weight"]["low"], one["weight"]["high"])
    for quantity in ("mean", "sd"):
        told = one["features"][1][quantity]
        assert row[quantity] == pytest.approx(told["mean"], rel=1e-12)
        for part in ("sd", "low", "high"):
            assert row[f"{quantity}_{part}"] == pytest.approx(told[part], rel=1e-12)
    assert (row["level"], row["expected_rows"]) == (0.9, one["expected_rows"])


def test_the_model_s_arrays(vigmm, fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert vigmm("export", fitted, "--to", "npz", "--quiet").output == ""
    posterior = load(fitted)
    with np.load(tmp_path / "run.npz") as arrays:  # without pickles
        assert sorted(arrays) == ["columns", "covariances", "means", "weights"]
        assert arrays["columns"].tolist() == ["width", "height"]
        for name in ("weights", "means", "covariances"):
            np.testing.assert_array_equal(arrays[name], getattr(posterior, name))


def test_a_model_that_is_no_run(vigmm, fitted, tmp_path):
    load(fitted).save(tmp_path / "model")
    done = vigmm("export", tmp_path / "model", "--to", "csv", "--out", tmp_path / "c.csv")
    assert done.exit_code == 0, done.output
    rows = csv.read_csv(tmp_path / "c.csv").to_pylist()
    assert len(rows) == 4
    assert rows[0]["expected_rows"] in (None, "")
    assert rows[0]["weight"] == pytest.approx(2 / 3, abs=0.05)


def test_files_are_not_replaced_unless_told(vigmm, fitted, tmp_path):
    out = tmp_path / "c.csv"
    out.write_text("old")
    args = ("export", fitted, "--to", "csv", "--out", out)
    assert vigmm(*args).exit_code == 4
    assert out.read_text() == "old"
    assert vigmm(*args, "--overwrite").exit_code == 0
    assert out.read_text() != "old"
    assert [path.name for path in tmp_path.iterdir()] == ["c.csv"]


def test_every_format_says_what_it_holds(vigmm, fitted):
    done = vigmm("export", fitted, "--to", "fax")
    assert done.exit_code == 2
    for name, row in EXPORTS.items():
        assert f"{name} ({row.holds})" in done.stderr


def test_draws_for_arviz(vigmm, fitted, tmp_path):
    out = tmp_path / "draws.nc"
    done = vigmm("export", fitted, "--to", "netcdf", "--out", out)
    assert done.exit_code == 0, (done.output, done.exception)
    found = xarray.open_dataset(out, group="posterior", engine="h5netcdf").load()
    assert dict(found.sizes) == {"chain": 1, "draw": 1000, "component": 2, "column": 2, "other": 2}
    assert found["column"].values.tolist() == ["width", "height"]
    posterior = load(fitted)  # its means are averages of the same 1,000 draws
    np.testing.assert_allclose(found["means"].mean(("chain", "draw")), posterior.means, rtol=1e-9)
    np.testing.assert_allclose(found["covariances"].mean(("chain", "draw")), posterior.covariances, rtol=1e-6)


@pytest.mark.slow
def test_prediction_for_other_runtimes(vigmm, fitted, tmp_path):
    posterior = load(fitted)
    x = posterior.means + posterior.scale * np.array([[0.3, -0.2], [0.1, 0.5]])
    for to, out in (("onnx", tmp_path / "m.onnx"), ("stablehlo", tmp_path / "m.zip")):
        done = vigmm("export", fitted, "--to", to, "--out", out)
        assert done.exit_code == 0, (done.output, done.exception)
    labels = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(["component"], {"rows": x})[0]
    np.testing.assert_array_equal(labels, posterior.predict(x))
    with zipfile.ZipFile(tmp_path / "m.zip") as file:
        program = export.deserialize(bytearray(file.read("float32.jax")))
    found = program.call(x.astype(np.float32))
    np.testing.assert_allclose(found["log_density"], posterior.log_predictive(x), rtol=1e-3, atol=1e-3)
