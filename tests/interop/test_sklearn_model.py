"""The posterior means as scikit-learn's mixture, and that as ONNX, run by onnxruntime."""

from __future__ import annotations

import dataclasses
import sys
import warnings

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import vigmm
from vigmm.core.errors import OutputError, SpecError
from vigmm.interop import to_onnx
from vigmm.models import Diag, Full, Mixture, Tied, TiedSpherical

# scikit-learn expands the square about zero: (1000 / 0.01)^2 = 1e10 units in the last place of 1e-16 are 1e-6
# nats, for each of the terms. The graph standardises its rows first.
THEIRS, GRAPH = 1e-5, 1e-9

KINDS = {"full": Full(), "tied": Tied(), "diag": Diag(), "diag ": TiedSpherical()}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(kind, marks=pytest.mark.slow if kind in ("tied", "diag ") else ()) for kind in KINDS
    ],
)
def posterior(request, made):
    return made(model=Mixture(num_components=3, covariance=KINDS[request.param])), request.param.strip()


def formula(posterior, x):
    parts = [
        np.log(weight) + multivariate_normal(mean, cov).logpdf(x)
        for weight, mean, cov in zip(posterior.weights, posterior.means, posterior.covariances, strict=True)
    ]
    return np.stack(parts, axis=1)


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["component", "responsibilities", "log_density"]
    return session.run(None, {"rows": x})


def frame(x):
    return pd.DataFrame(x, columns=["a", "b"])


def test_its_probabilities_are_those_of_the_formula(posterior, table):
    posterior, kind = posterior
    made = vigmm.to_sklearn(posterior)
    assert made.covariance_type == kind
    joint = formula(posterior, table)
    np.testing.assert_allclose(made.score_samples(frame(table)), logsumexp(joint, axis=1), atol=THEIRS)
    shares = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    np.testing.assert_allclose(made.predict_proba(frame(table)), shares, atol=THEIRS)
    np.testing.assert_array_equal(made.predict(frame(table)), shares.argmax(axis=1))
    # The labels of the predictive, which averages over the parameters, are the same but at the very border.
    assert np.mean(made.predict(frame(table)) == posterior.predict(table)) > 0.99
    assert made.sample(5)[0].shape == (5, 2)
    assert np.isfinite(made.bic(frame(table)))


def test_onnx_runs_elsewhere(posterior, table):
    posterior, _ = posterior
    model = to_onnx(posterior)
    labels, shares, log_density = run(model, table)
    joint = formula(posterior, table)
    total = logsumexp(joint, axis=1)
    np.testing.assert_allclose(shares, np.exp(joint - total[:, None]), atol=GRAPH)
    np.testing.assert_allclose(log_density, total, rtol=GRAPH)
    np.testing.assert_array_equal(labels, joint.argmax(axis=1))
    np.testing.assert_allclose(
        shares, vigmm.to_sklearn(posterior).predict_proba(frame(table)), atol=2 * THEIRS
    )
    assert np.mean(labels == posterior.predict(table)) > 0.99
    assert np.abs(shares - posterior.responsibilities(table)).mean() < 0.01
    assert {one.key: one.value for one in model.metadata_props}["columns"] == "a\nb"
    assert run(model, table[:1])[1].shape == (1, 3)


def test_the_plug_in_is_surer_than_the_predictive(conjugate, table):
    """Far away the Student-t predictive has more density, and closer shares."""
    far = table.mean(axis=0) + table.std(axis=0) * np.array([[9.0, -9.0]])
    mixture = vigmm.to_sklearn(conjugate)
    assert mixture.score_samples(frame(far)) < conjugate.log_predictive(far) - 1.0


def test_no_warning(conjugate, table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vigmm.to_sklearn(conjugate).predict(frame(table))
        unnamed = dataclasses.replace(conjugate, columns=("x0", "x1"))
        vigmm.to_sklearn(unnamed).predict(table)


def test_refusals(student, conjugate, monkeypatch):
    with pytest.raises(SpecError, match="likelihood must be 'gaussian' for scikit-learn, got 'StudentT'"):
        vigmm.to_sklearn(student)
    with pytest.raises(SpecError, match=r"source must be a vigmm\.Fit or"):
        vigmm.to_sklearn(3)
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(OutputError, match=r"pip install 'vigmm\[onnx\]'"):
        to_onnx(conjugate)
