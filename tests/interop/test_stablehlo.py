"""Prediction exported by JAX and read in a process that has nothing but JAX."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest

import vigmm
from vigmm.core.errors import OutputError, SpecError
from vigmm.families import FAMILIES
from vigmm.interop import to_stablehlo, write_stablehlo

READER = """
import json, sys, zipfile
sys.modules["vigmm"] = None  # importing it would fail
import jax, numpy as np
jax.config.update("jax_enable_x64", True)
from jax import export
path, rows, out = sys.argv[1:]
found = {}
with zipfile.ZipFile(path) as file, np.load(rows) as given:
    about = json.loads(file.read("about.json"))
    for dtype, program in about["programs"].items():
        call = export.deserialize(bytearray(file.read(program["file"]))).call
        for size in (len(given["x"]), 7, 1):
            for name, value in call(given["x"][:size].astype(dtype)).items():
                found[f"{dtype}-{size}-{name}"] = np.asarray(value)
np.savez(out, **found)
"""


def in_a_fresh_process(path, x, tmp_path):
    np.savez(tmp_path / "rows.npz", x=x)
    command = [sys.executable, "-c", READER, path, tmp_path / "rows.npz", tmp_path / "out.npz"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=110, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as file:
        return dict(file)


def check(found, posterior, x, rows):
    """The float64 program gives our numbers; the float32 one those of the same rows in float32."""
    given = x.astype(rows)
    ours = posterior.assign(given.astype(np.float64))
    shares = posterior.responsibilities(given.astype(np.float64))
    for size in (len(x), 7, 1):
        part = {
            name: found[f"{rows}-{size}-{name}"] for name in ("log_density", "responsibilities", "component")
        }
        np.testing.assert_allclose(part["log_density"], ours.log_density[:size], rtol=1e-4, atol=2e-4)
        np.testing.assert_allclose(part["responsibilities"], shares[:size], atol=1e-4)
        np.testing.assert_array_equal(part["component"], ours.component[:size])
        assert part["log_density"].dtype == rows


@pytest.mark.slow
def test_a_fresh_process_without_this_package(conjugate, table, tmp_path):
    """The second column is 1000 with a spread of 0.04: its rows in float32 have 0.003 of that."""
    path = tmp_path / "model.zip"
    write_stablehlo(conjugate, path)
    about = json.loads(zipfile.ZipFile(path).read("about.json"))
    assert about["columns"] == ["a", "b"]
    assert about["programs"]["float32"]["platforms"] == ["cpu", "cuda", "tpu"]
    found = in_a_fresh_process(path, table, tmp_path)
    for rows in ("float32", "float64"):
        check(found, conjugate, table, rows)


@pytest.mark.slow
def test_draws_student_components_and_noise(student, table, tmp_path):
    far = np.concatenate([table, table[:3] + np.array([300.0, 0.0])])
    write_stablehlo(student, tmp_path / "model.zip")
    found = in_a_fresh_process(tmp_path / "model.zip", far, tmp_path)
    for rows in ("float32", "float64"):
        check(found, student, far, rows)
    assert found["float64-243-responsibilities"].shape == (243, 4)
    assert -1 in found["float64-243-component"]


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_no_family_needs_a_library_call(made, family):
    """A fresh process crashes in LAPACK calls (see `vigmm.interop.stablehlo`)."""
    module = to_stablehlo(made(family=family), platforms=("cpu",)).mlir_module()
    assert set(re.findall(r"custom_call @(\w+)", module)) == {"shape_assertion"}


@pytest.mark.parametrize("rows", ["float32", "float64"])
def test_the_numbers_are_ours(conjugate, table, rows):
    program = to_stablehlo(conjugate, rows=rows, platforms=("cpu",))
    with jax.enable_x64(rows == "float64"):
        calls = {size: program.call(table[:size].astype(rows)) for size in (len(table), 7, 1)}
    found = {f"{rows}-{size}-{name}": v for size, call in calls.items() for name, v in call.items()}
    check(found, conjugate, table, rows)


def test_missing_values_have_no_density(made, table):
    posterior = made(model=vigmm.Mixture(num_components=3))
    program = to_stablehlo(posterior, rows="float32", platforms=("cpu",))
    x = table[:4].astype(np.float32)
    x[2, 0] = np.nan
    assert np.isnan(program.call(x)["log_density"]).tolist() == [False, False, True, False]


def test_the_number_of_columns_is_checked(conjugate, table):
    program = to_stablehlo(conjugate, rows="float32", platforms=("cpu",))
    with pytest.raises(ValueError, match="shape"):
        program.call(np.ones((3, 5), np.float32))


def test_nothing_global_is_changed(conjugate):
    before = jax.config.jax_enable_x64
    to_stablehlo(conjugate, platforms=("cpu",))
    assert jax.config.jax_enable_x64 == before


def test_refusals(conjugate, monkeypatch):
    with pytest.raises(SpecError, match="rows must be 'float32' or 'float64'"):
        to_stablehlo(conjugate, rows="int8")
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(OutputError, match=r"pip install 'vigmm\[stablehlo\]'"):
        to_stablehlo(conjugate)
