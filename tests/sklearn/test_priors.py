"""What the priors mean: posteriors of clear clusters are scikit-learn's own, where both are exact."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn.mixture

from vigmm.core.errors import ConfigError
from vigmm.sklearn import BayesianGaussianMixture

RATES = {"diag": [3.0, 2.0], "tied": [[3.0, 1.0], [1.0, 2.0]], "spherical": 2.5}


def both(clusters, given):
    """Our fit and scikit-learn's, and the order of the components of both by their means."""
    ours = BayesianGaussianMixture(**given, random_state=0).fit(clusters)
    theirs = sklearn.mixture.BayesianGaussianMixture(**given, reg_covar=0, random_state=0, n_init=3)
    theirs.fit(clusters)
    return ours, theirs, np.argsort(ours.means_[:, 0]), np.argsort(theirs.means_[:, 0])


# Degrees of freedom below n_features + 1 have no expected covariance, and are scikit-learn's default.
@pytest.mark.parametrize("dof", [4.5, pytest.param(1.2, marks=pytest.mark.slow)])
def test_given_priors_are_those_of_scikit_learn(clusters, given, dof):
    ours, theirs, a, b = both(clusters, given | {"degrees_of_freedom_prior": dof})
    for name in ("weights_", "weight_concentration_", "mean_precision_", "means_", "degrees_of_freedom_",
                 "covariances_", "precisions_", "precisions_cholesky_"):  # fmt: skip
        found, expected = getattr(ours, name)[a], getattr(theirs, name)[b]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", RATES)
def test_rates_of_the_other_types(clusters, given, kind):
    """Posterior rate = prior rate + scatter, by hand: scikit-learn approximates here, save for diag."""
    rate, dof = np.asarray(RATES[kind]), 4.5
    ours, theirs, a, b = both(clusters, given | {"covariance_type": kind, "covariance_prior": RATES[kind]})
    np.testing.assert_allclose(ours.means_[a], theirs.means_[b], rtol=1e-9)
    np.testing.assert_allclose(ours.mean_precision_[a], theirs.mean_precision_[b], rtol=1e-9)
    np.testing.assert_allclose(ours.covariance_prior_, rate)
    counts, labels, scatter = ours.mean_precision_ - 0.3, ours.predict(clusters), np.zeros((3, 2, 2))
    for k, n in enumerate(counts):
        rows = clusters[labels == k]
        shift = rows.mean(axis=0) - given["mean_prior"]
        scatter[k] = np.cov(rows.T, bias=True) * n + 0.3 * n / (0.3 + n) * np.outer(shift, shift)
    columns = np.diagonal(scatter, axis1=1, axis2=2)
    if kind == "diag":
        # An inverse Wishart's diagonal has D - 1 degrees of freedom less than the matrix.
        expected, ends = (rate + columns) / (dof + counts - 1)[:, None], dof + counts
        np.testing.assert_allclose(theirs.covariances_[b] * ends[a][:, None], (rate + columns)[a], rtol=1e-9)
    elif kind == "tied":
        expected, ends = (rate + scatter.sum(axis=0)) / (dof + 250), dof + 250
    else:
        # One precision for two columns: 2 alpha = dof - 1 + 2 n, 2 beta = rate + the sum over both.
        expected, ends = (rate + columns.sum(axis=1)) / (dof - 1 + 2 * counts), dof + counts
    np.testing.assert_allclose(ours.covariances_, expected, rtol=1e-9)
    np.testing.assert_allclose(ours.degrees_of_freedom_, ends, rtol=1e-9)


def test_defaults_and_what_they_follow(fitted, clusters):
    assert fitted.weight_concentration_prior_ == pytest.approx(1 / 3)
    assert fitted.mean_precision_prior_ == 0.01
    assert fitted.degrees_of_freedom_prior_ == 4.0
    np.testing.assert_allclose(fitted.mean_prior_, clusters.mean(axis=0), rtol=1e-12)
    tiles = np.cov(clusters.T, bias=True) / 3
    np.testing.assert_allclose(np.diag(fitted.covariance_prior_), np.diag(tiles), rtol=1e-9)
    np.testing.assert_allclose(fitted.covariance_prior_, tiles, rtol=2e-3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"degrees_of_freedom_prior": 1.0},
            "degrees_of_freedom_prior' should be greater than 1, but got 1.000",
        ),
        ({"mean_prior": [0.0]}, r"'mean_prior' should have the shape of \(2,\), but got \(1,\)"),
        ({"mean_prior": [0.0, np.nan]}, "'mean_prior' should be finite"),
        ({"covariance_prior": [[1.0]]}, r"'full covariance_prior' should have the shape of \(2, 2\)"),
        ({"covariance_prior": [[1.0, 2.0], [2.0, 1.0]]}, "should be positive definite"),
        ({"covariance_prior": [[1.0, 2.0], [0.0, 1.0]]}, "should be symmetric"),
        ({"covariance_prior": [1.0], "covariance_type": "diag"}, r"shape of \(2,\), but got \(1,\)"),
        ({"covariance_prior": [1.0, 1.0], "covariance_type": "spherical"}, "should be one number"),
        ({"n_components": 251}, "Expected n_samples >= n_components but got n_components = 251"),
    ],
)
def test_priors_that_do_not_fit_are_refused(clusters, wrong, message):
    with pytest.raises(ConfigError, match=message):
        BayesianGaussianMixture(**wrong).fit(clusters)
