"""Model files: the same bits back, and a clear refusal of whatever is not one."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from safetensors.numpy import load as read_arrays
from safetensors.numpy import save as to_bytes

import vigmm
from vigmm.core.errors import ModelFileError, OutputError
from vigmm.models import Dirichlet, Mixture, NormalWishart
from vigmm.posterior import load, save


@pytest.fixture
def saved(conjugate, tmp_path):
    """A folder with a saved model."""
    save(conjugate, tmp_path / "model")
    return tmp_path / "model"


def change(folder, **values):
    """Rewrite entries of a saved description; None removes one."""
    path = folder / "model.json"
    data = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in data.items() if value is not None}))


def replace_arrays(folder, arrays):
    """Put in other arrays, with a description that fits them."""
    content = to_bytes(arrays)
    (folder / "model.safetensors").write_bytes(content)
    change(
        folder,
        sha256=hashlib.sha256(content).hexdigest(),
        arrays={name: {"shape": list(a.shape), "dtype": a.dtype.name} for name, a in arrays.items()},
    )


def assert_same(one, other):
    for name in ("model", "family", "columns", "seed", "dtype"):
        assert getattr(one, name) == getattr(other, name)
    assert jax.tree.structure(one.params) == jax.tree.structure(other.params)
    leaves = zip(
        jax.tree.leaves((one.params, one.prior, one.center, one.scale)),
        jax.tree.leaves((other.params, other.prior, other.center, other.scale)),
        strict=True,
    )
    for a, b in leaves:
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_what_is_loaded_is_what_was_saved(pair, rows, tmp_path):
    for posterior in pair:
        posterior.save(tmp_path / posterior.dtype)
        assert sorted(os.listdir(tmp_path / posterior.dtype)) == ["model.json", "model.safetensors"]
        again = vigmm.load(tmp_path / posterior.dtype)
        assert_same(again, posterior)
        np.testing.assert_array_equal(again.log_predictive(rows.x), posterior.log_predictive(rows.x))


def test_choices_and_odd_shapes_survive(rows, make, tmp_path):
    models = [
        Mixture(num_components=1, weights=Dirichlet(0.5)),
        Mixture(num_components=3, prior=NormalWishart(mean=(0.0, 1000.0), dof=5.5, mean_precision=1.0)),
    ]
    for model in models:
        labels = rows.labels % model.num_components
        posterior = make(rows.x, labels, model=model, columns=("größe", "b c"), seed=2**32 - 1)
        save(posterior, tmp_path)
        assert_same(load(tmp_path), posterior)


def test_a_file_name_gives_the_stem(conjugate, tmp_path):
    save(conjugate, tmp_path / "best.safetensors")
    assert sorted(os.listdir(tmp_path)) == ["best.json", "best.safetensors"]
    for name in ("best.safetensors", "best.json"):
        assert_same(load(tmp_path / name), conjugate)


def test_a_fresh_process_predicts_the_same_bits(rows, make, tmp_path):
    np.save(tmp_path / "x.npy", rows.x)
    expected = []
    for family, dtype in (("conjugate", "float32"), ("meanfield", "float64")):
        posterior = make(rows.x, rows.labels, family=family, dtype=dtype)
        save(posterior, tmp_path / family)
        values = posterior.log_predictive(rows.x)
        expected += [values.dtype.name, hashlib.sha256(values.tobytes()).hexdigest()]
    code = """
        import hashlib, sys, numpy as np, vigmm
        x = np.load(sys.argv[1] + "/x.npy")
        for family in ("conjugate", "meanfield"):
            values = vigmm.load(sys.argv[1] + "/" + family).log_predictive(x)
            print(values.dtype, hashlib.sha256(values.tobytes()).hexdigest())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=vigmm.__path__[0] + "/..",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == expected


def test_saving_again_replaces_both_files_and_leaves_nothing_else(conjugate, rows, make, saved):
    other = make(rows.x, rows.labels[::-1], seed=9)
    save(other, saved)
    assert_same(load(saved), other)
    assert sorted(os.listdir(saved)) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_model(conjugate, rows, make, saved, monkeypatch, step):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"vigmm.core.files.os.{step}", full)
    with pytest.raises(OutputError, match="the model cannot be written here: No space left on device"):
        save(make(rows.x, rows.labels[::-1]), saved)
    monkeypatch.undo()
    assert_same(load(saved), conjugate)
    assert sorted(os.listdir(saved)) == ["model.json", "model.safetensors"]


def test_a_place_that_is_no_folder_is_refused(conjugate, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="the model cannot be written here"):
        save(conjugate, tmp_path / "file" / "model")


def test_a_missing_model_is_named(saved, tmp_path):
    with pytest.raises(ModelFileError, match=r"nowhere/model\.json: no such file \(there is no folder"):
        load(tmp_path / "nowhere")
    (saved / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"model\.safetensors: no such file; give the folder"):
        load(saved)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
@pytest.mark.parametrize("keep", [0, 1, 7, 100, -1])
def test_a_truncated_file_is_refused(saved, name, keep):
    path = saved / name
    whole = path.read_bytes()
    path.write_bytes(whole[:keep] if keep >= 0 else whole[: len(whole) // 2])
    with pytest.raises(ModelFileError, match="cut short"):
        load(saved)


def test_a_flipped_bit_is_noticed(saved):
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelFileError, match=r"is not the file that model\.json was written with"):
        load(saved)


def test_arrays_of_another_kind_are_refused_even_with_the_right_hash(saved):
    for content in (b"", b"\xff" * 64, pickle.dumps({"a": 1}), b"\x08\x00\x00\x00\x00\x00\x00\x00[1,2,3] "):
        (saved / "model.safetensors").write_bytes(content)
        change(saved, sha256=hashlib.sha256(content).hexdigest())
        with pytest.raises(ModelFileError, match="is not a safetensors file that can be read"):
            load(saved)


def test_a_pickle_is_never_loaded(saved, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "trapped"),)

    (saved / "model.json").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelFileError, match="is not valid JSON"):
        load(saved)
    assert not (tmp_path / "trapped").exists()


def test_another_schema_is_refused_with_the_versions(saved):
    change(saved, schema=99, vigmm="7.0.0")
    with pytest.raises(
        ModelFileError, match=r"has schema 99, this vigmm reads 2: it was written by vigmm 7\.0\.0"
    ):
        load(saved)
    for schema in (None, True, 1.0, "1", 0):
        change(saved, schema=schema)
        with pytest.raises(ModelFileError, match=f"has schema {schema}, this vigmm reads 2"):
            load(saved)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": "pickle"}, "does not describe a vigmm model"),
        ({"family": {"kind": "magic"}}, "family.kind must be one of .*conjugate.*, got 'magic'"),
        ({"family": {"kind": "os.system"}}, "family.kind must be one of"),
        ({"model": {"covariance": "round"}}, "model.covariance must be one of"),
        ({"model": {"num_components": -1}}, "model.num_components must be >= 1, got -1"),
        ({"model": {"numbers": 4}}, "model.numbers: unknown key"),
        ({"model": []}, "model missing or of the wrong type"),
        ({"columns": None, "seed": "x"}, "columns, seed missing or of the wrong type"),
        ({"columns": ["a", 3]}, "columns missing or of the wrong type"),
        ({"columns": ["a", "b", "c"]}, "center must be 3 numbers of type float64"),
        ({"dtype": "bfloat16"}, "dtype missing or of the wrong type"),
        ({"dtype": "float64"}, "but the model needs .* float64"),
        ({"seed": -1}, "seed must be between 0 and"),
        ({"seed": True}, "seed missing or of the wrong type"),
        ({"arrays": {}}, r"does not hold the arrays that model\.json lists"),
        ({"model": {"num_components": 4}}, "has shape .* but the model needs"),
        (
            {"family": {"kind": "meanfield"}},
            "missing params.loc.components, .* unknown params.components.centre",
        ),
    ],
)
def test_a_description_that_does_not_fit_is_refused(saved, values, message):
    change(saved, **values)
    with pytest.raises(ModelFileError, match=message):
        load(saved)


def test_a_description_that_is_too_deep_is_refused(saved):
    (saved / "model.json").write_text("[" * 200_000)
    with pytest.raises(ModelFileError, match="is not valid JSON"):
        load(saved)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("params.weights.a", np.ones(5, np.float32), r"params\.weights\.a has shape \(5,\)"),
        ("params.weights.a", np.ones(2, np.float64), r"params\.weights\.a has shape .* type float64"),
        ("center", np.ones(2, np.float32), "center must be 2 numbers of type float64"),
        ("scale", np.array([1.0, -1.0]), "scale must be > 0 and finite"),
        ("center", np.array([1.0, np.nan]), "center must be finite"),
        ("extra", np.ones(2), "missing none, unknown extra"),
        ("params.weights.a", None, r"missing params\.weights\.a, unknown none"),
        ("center", None, "center must be 2 numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(saved, name, array, message):
    arrays = read_arrays((saved / "model.safetensors").read_bytes())
    arrays[name] = array
    replace_arrays(saved, {key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(ModelFileError, match=message):
        load(saved)


def test_errors_carry_the_exit_code_of_model_files(tmp_path):
    with pytest.raises(ModelFileError) as caught:
        load(tmp_path)
    assert caught.value.exit_code == 5
