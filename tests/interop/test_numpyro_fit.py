"""Fits of NumPyro models: how far to trust them, and what their files hold."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from safetensors.numpy import load_file, save_file

import vigmm
from vigmm.core.errors import ModelFileError, SpecError
from vigmm.estimators import Pathwise
from vigmm.families import Flow, MeanField

N, SIGMA, TAU = 60, 2.0, 3.0


def model(x):
    """mu ~ N(0, TAU^2), x_n ~ N(mu, SIGMA^2), and a scale that no row speaks of."""
    mu = numpyro.sample("mu", dist.Normal(0.0, TAU))
    numpyro.sample("scale", dist.LogNormal(0.0, 0.5))
    with numpyro.plate("N", x.shape[0]):
        numpyro.sample("x", dist.Normal(mu, SIGMA), obs=x[:, 0])


def other(x):
    """Another prior of the same sites."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 2 * TAU))
    numpyro.sample("scale", dist.LogNormal(0.0, 0.5))
    with numpyro.plate("N", x.shape[0]):
        numpyro.sample("x", dist.Normal(mu, SIGMA), obs=x[:, 0])


def fewer(x):
    """Another set of sites."""
    mu = numpyro.sample("mu", dist.Normal(0.0, TAU))
    with numpyro.plate("N", x.shape[0]):
        numpyro.sample("x", dist.Normal(mu, SIGMA), obs=x[:, 0])


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(1.5, SIGMA, size=(N, 1))


@pytest.fixture(scope="module")
def fit(rows):
    config = vigmm.Train(batch_size=10_000, min_steps=1000, holdout=0.0, tolerance=0.0)
    return vigmm.fit_numpyro(
        rows, model, family=MeanField(), estimator=Pathwise(entropy="stl"), train=config,
        optimizer=vigmm.Adam(rate=0.05), dtype="float64",
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(fit):
    return fit.diagnose(num_draws=256)


def evidence(x):
    cov = SIGMA**2 * np.eye(len(x)) + TAU**2
    logdet = np.linalg.slogdet(2 * np.pi * cov)[1]
    return -0.5 * (logdet + x[:, 0] @ np.linalg.solve(cov, x[:, 0]))


def test_an_exact_posterior_is_told_to_be_one(found, fit, rows):
    """Gaussian in both coordinates: ratios are flat, evidence and bound are the closed form."""
    assert found.khat < 0.5
    assert abs(found["log evidence"].value - evidence(rows)) < 5 * found["log evidence"].se + 1e-3
    assert abs(found["gap"].value) < 5 * found["gap"].se + 1e-3
    assert found["ELBO"].value == fit.elbo.elbo
    assert found["ELBO"].se == fit.elbo.se
    # A gradient that has next to no noise stands out of it: the number is what is told.
    assert np.isfinite(found["gradient signal-to-noise"].value)
    assert "components" not in str(found)
    assert found.num_draws == 256


def test_a_wrong_posterior_is_told_to_be_one(fit, rows):
    """q far too narrow: no k-hat to trust, or a gap that is what q loses."""
    log_scale = jax.tree.map(lambda leaf: np.asarray(leaf) - 1.5, fit.params.log_scale)
    narrow = dataclasses.replace(fit.params, log_scale=log_scale)
    found = dataclasses.replace(fit, params=narrow).diagnose(num_draws=256)
    assert found.khat > 0.7
    assert found["k-hat"].verdict == "bad"


def test_resampled_draws_are_draws_of_the_sites(found):
    drawn = found.resample(500)
    assert {name: values.shape for name, values in drawn.items()} == {"mu": (500,), "scale": (500,)}
    assert (drawn["scale"] > 0).all()
    assert abs(drawn["mu"].mean() - found.draws["mu"].mean()) < 0.2


def test_a_saved_fit_comes_back_bit_for_bit(fit, found, rows, tmp_path):
    fit.save(tmp_path / "fit")
    assert {path.name for path in (tmp_path / "fit").iterdir()} == {"fit.json", "fit.safetensors"}
    back = vigmm.load_numpyro(tmp_path / "fit", model)
    for name in ("params", "example", "metrics"):
        jax.tree.map(np.testing.assert_array_equal, getattr(back, name), getattr(fit, name))
    for name in ("family", "estimator", "elbo", "outcome", "dtype", "batch_size", "model"):
        assert getattr(back, name) == getattr(fit, name)
    one, two = (which.draw(jax.random.key(3), 50) for which in (fit, back))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    # Rows are not in the files: whoever has them gives them.
    with pytest.raises(SpecError, match="rows that were fitted"):
        back.diagnose()
    assert back.diagnose(rows, num_draws=256).khat == found.khat


def test_another_model_is_not_taken_for_it(fit, tmp_path):
    fit.save(tmp_path)
    with pytest.raises(ModelFileError, match="another model"):
        vigmm.load_numpyro(tmp_path, other)
    with pytest.raises(ModelFileError, match="does not hold the arrays"):
        vigmm.load_numpyro(tmp_path, fewer)


def test_damaged_files_are_refused(fit, tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        vigmm.load_numpyro(tmp_path / "nowhere", model)
    fit.save(tmp_path)
    text = (tmp_path / "fit.json").read_text()
    described = json.loads(text)
    for change, message in (
        ({"format": "vigmm posterior"}, "does not describe a fit"),
        ({"schema": 99}, "schema 99"),
        ({"family": "meanfield"}, "damaged: family"),
        ({"family": {"kind": "os.system"}}, "cannot read the fit"),
        ({"elbo": {"elbo": 1.0}}, "cannot read the fit"),
    ):
        (tmp_path / "fit.json").write_text(json.dumps({**described, **change}))
        with pytest.raises(ModelFileError, match=message):
            vigmm.load_numpyro(tmp_path, model)
    (tmp_path / "fit.json").write_text(text)
    arrays = load_file(tmp_path / "fit.safetensors")
    save_file({**arrays, "example.x": arrays["example.x"] + 1.0}, tmp_path / "fit.safetensors")
    with pytest.raises(ModelFileError, match="SHA-256"):
        vigmm.load_numpyro(tmp_path, model)


@pytest.mark.slow
def test_a_flow_in_single_precision_survives_too(rows, tmp_path):
    """Parameters of any family, in the type they were fitted in; a model with its plate by another name."""

    def renamed(x):
        mu = numpyro.sample("mu", dist.Normal(0.0, TAU).expand([2]).to_event(1))
        with numpyro.plate("rows", x.shape[0]):
            numpyro.sample("x", dist.Normal(jnp.sum(mu), SIGMA), obs=x[:, 0])

    config = vigmm.Train(batch_size=20, min_steps=20, passes=1)
    made = vigmm.from_numpyro(renamed, plate="rows")
    fit = vigmm.fit_numpyro(rows, made, family=Flow(num_flows=1, hidden=(4,)), train=config)
    fit.save(tmp_path)
    back = vigmm.load_numpyro(tmp_path, renamed)
    assert back.model == made
    jax.tree.map(np.testing.assert_array_equal, back.params, fit.params)
    assert np.isfinite(fit.diagnose(num_draws=64)["log evidence"].value)
