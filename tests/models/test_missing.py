"""Missing values are integrated out exactly, for every structure and likelihood that takes them."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import vigmm
from vigmm.core.errors import DataError, SpecError
from vigmm.data.arrays import ArraySource
from vigmm.data.missing import observed_moments, patterns_of
from vigmm.families import Blocks, Conjugate
from vigmm.models import COVARIANCES, DataScale, Mixture, Noise, Position, StudentT
from vigmm.optim import Fisher

DIM, K = 3, 2
NAN = np.nan
X = np.array([[0.3, NAN, -1.0], [NAN, NAN, 0.5], [1.0, 2.0, 3.0], [0.1, -0.4, NAN], [NAN, NAN, NAN]])
TAKEN = [name for name, row in COVARIANCES.items() if hasattr(row().structure, "marginal")]


def setting(model):
    one = np.ones(DIM)
    data = DataScale(mean=0 * one, cov=np.eye(DIM), center=0 * one, scale=one, patterns=patterns_of(X))
    prior = model.build_prior(data, dtype=jnp.float64)
    weights, own, shared = model.sizes(DIM)
    rng = np.random.default_rng(0)
    u = Position(
        weights=jnp.asarray(rng.normal(size=weights)),
        components=jnp.asarray(0.5 * rng.normal(size=(K, own))),
        shared=jnp.asarray(0.5 * rng.normal(size=shared)),
    )
    return prior, u


@pytest.mark.parametrize("name", TAKEN)
def test_density_of_what_is_observed(name, x64):
    """The marginal normal density of SciPy at the component's moments; an empty row has density one."""
    model = Mixture(num_components=K, covariance=COVARIANCES[name](), missing=True)
    prior, u = setting(model)
    found = np.asarray(model.log_components(model.constrain(prior, u), jnp.asarray(X)))
    means, covs = map(np.asarray, model.moments(prior, u))
    for n, row in enumerate(X):
        o = ~np.isnan(row)
        for k in range(K):
            want = (
                stats.multivariate_normal(means[k][o], covs[k][np.ix_(o, o)]).logpdf(row[o]) if o.any() else 0
            )
            np.testing.assert_allclose(found[n, k], want, rtol=1e-9, atol=1e-12)


def test_student_t(x64):
    model = Mixture(num_components=K, likelihood=StudentT(dof=4.0), missing=True)
    prior, u = setting(model)
    found = np.asarray(model.log_components(model.constrain(prior, u), jnp.asarray(X)))
    means, scales = map(np.asarray, model.moments(prior, u))
    o = ~np.isnan(X[0])
    want = [
        stats.multivariate_t(means[k][o], scales[k][np.ix_(o, o)], df=4).logpdf(X[0][o]) for k in range(K)
    ]
    np.testing.assert_allclose(found[0], want, rtol=1e-9)


@pytest.mark.slow
def test_gradients_are_finite_and_those_of_the_whole(x64):
    """Through NaN rows; and without any missing value, the same as a model that allows none."""
    model = Mixture(num_components=K, missing=True)
    prior, u = setting(model)

    def total(model, prior, u, x):
        return jnp.sum(model.log_lik(model.constrain(prior, u), x))

    grads = jax.grad(total, argnums=2)(model, prior, u, jnp.asarray(X))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    whole = jnp.asarray(np.random.default_rng(1).normal(size=(6, DIM)))
    ones = dataclasses.replace(prior.frame, patterns=jnp.ones((1, DIM)))
    one = jax.grad(total, argnums=2)(model, dataclasses.replace(prior, frame=ones), u, whole)
    two = jax.grad(total, argnums=2)(Mixture(num_components=K), prior, u, whole)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), one, two)


def test_moments_of_what_is_observed():
    """Columns' own means and variances, far from zero, and a covariance matrix that is one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, DIM)) @ [[1, 0.9, 0], [0, 1, 0], [0, 0, 1e-3]] + [1e6, 0, 5]
    x[rng.random(x.shape) < 0.3] = NAN
    weight = rng.uniform(0.5, 2.0, len(x))
    found, patterns = observed_moments(ArraySource(x), weight=weight, chunk=37)
    seen = ~np.isnan(x)
    for d in range(DIM):
        values, w = x[seen[:, d], d], weight[seen[:, d]]
        mean = np.average(values, weights=w)
        np.testing.assert_allclose(found.mean[d], mean, rtol=1e-12)
        np.testing.assert_allclose(found.cov[d, d], np.average((values - mean) ** 2, weights=w), rtol=1e-8)
        assert (found.minimum[d], found.maximum[d]) == (values.min(), values.max())
    assert np.linalg.eigvalsh(found.cov).min() > 0
    assert len(patterns) == len(patterns_of(x))


def test_bad_data_are_refused():
    with pytest.raises(DataError, match=r"column 'x1' has no value"):
        observed_moments(ArraySource(np.array([[1.0, NAN], [2.0, NAN]])))
    with pytest.raises(DataError, match="infinite"):
        observed_moments(ArraySource(np.array([[1.0, np.inf], [2.0, NAN]])))


def test_what_cannot_be():
    with pytest.raises(SpecError, match="missing"):
        Mixture(missing=True, noise=Noise())
    with pytest.raises(SpecError, match="missing values have no conjugate form"):
        Conjugate().check(Mixture(missing=True))
    with pytest.raises(DataError, match=r"row 1.*set model.missing"):
        vigmm.fit(X[[2, 0]])


@pytest.fixture(scope="module")
def fitted():
    """Three correlated columns in two clusters, a quarter of the values missing at random."""
    rng = np.random.default_rng(0)
    factor = np.array([[1, 0, 0], [0.8, 0.6, 0], [-0.5, 0.3, 0.8]])
    x = rng.normal(size=(400, DIM)) @ factor.T * [1, 5, 0.1] + np.repeat([[0, 0, 0], [6, 20, 1]], 200, 0)
    holes = rng.random(x.shape) < 0.25
    model = Mixture(num_components=2, missing=True)
    train = vigmm.Train(batch_size=400, min_steps=400, passes=1)
    fit = vigmm.fit(np.where(holes, NAN, x), model=model, family=Blocks(), optimizer=Fisher(), train=train)
    return x, holes, fit


@pytest.mark.slow
def test_fit_recovers_the_clusters(fitted):
    x, _, fit = fitted
    order = np.argsort(fit.posterior.means[:, 0])
    truth = np.array([[0, 0, 0], [6, 20, 1]])
    # A mean over some 150 values, five times its standard error.
    error = 5 * np.array([1, 5, 0.1]) / np.sqrt(150)
    assert np.all(np.abs(fit.posterior.means[order] - truth) < error)
    labels = fit.posterior.predict(np.where(fitted[1], NAN, x))
    agree = np.mean((labels == order[1]) == (np.arange(len(x)) >= 200))
    assert agree > 0.9


@pytest.mark.slow
def test_imputation_knows_its_error(fitted):
    """Standardised errors have unit variance; observed values stay; draws have the stated moments."""
    x, holes, fit = fitted
    found = fit.posterior.impute(np.where(holes, NAN, x), num_draws=200)
    np.testing.assert_array_equal(found.mean[~holes], x[~holes])
    assert np.all(found.sd[~holes] == 0)
    z = (found.mean - x)[holes] / found.sd[holes]
    assert abs(np.mean(z**2) - 1) < 5 * np.std(z**2) / np.sqrt(z.size)
    # Knowing the other columns is worth something: less than the columns' own spread within a cluster.
    assert np.median(found.sd[holes[:, 1], 1]) < 5.0
    drawn = found.draws[:, holes]
    error = 5 * found.sd[holes] / np.sqrt(200)
    assert np.mean(np.abs(drawn.mean(axis=0) - found.mean[holes]) < error) > 0.99


@pytest.mark.slow
def test_prediction_of_new_patterns_and_files(fitted, tmp_path):
    """Each row's density is its own, whatever the rows beside it; a saved model says the same."""
    x, _, fit = fitted
    rows = np.array([[NAN, 1.0, NAN], [2.0, NAN, NAN], *x[:3]])
    found = fit.posterior.log_predictive(rows)
    for i, row in enumerate(rows):
        np.testing.assert_allclose(fit.posterior.log_predictive(row[None]), found[i : i + 1], rtol=1e-5)
    fit.save(tmp_path)
    np.testing.assert_array_equal(vigmm.load(tmp_path).log_predictive(rows), found)
