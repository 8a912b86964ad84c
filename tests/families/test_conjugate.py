"""The conjugate family: pseudo-counts, and draws whose statistics its closed forms predict."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vigmm.families import Conjugate, ConjugateParams, guess
from vigmm.models import DataScale, Dirichlet, Mixture, NormalWishart, sticks

pytestmark = pytest.mark.usefixtures("x64")

DIM, K, ROWS = 2, 2, 15
MODEL = Mixture(num_components=K, weights=Dirichlet(0.7), prior=NormalWishart(mean_precision=0.4, dof=6.0))
FAMILY = Conjugate()


@pytest.fixture(scope="module")
def setting():
    """Prior, rows, responsibilities, and prior + statistics."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        unit = DataScale(mean=np.zeros(DIM), cov=np.eye(DIM), center=np.zeros(DIM), scale=np.ones(DIM))
        prior = MODEL.build_prior(unit, dtype=jnp.float64)
        x, resp = rng.normal(size=(ROWS, DIM)), rng.dirichlet(np.ones(K), ROWS)
        centre = jnp.asarray(rng.normal(size=(K, DIM)))
        empty = ConjugateParams(
            weights=prior.weights, components=MODEL.algebra.natural(prior.components, centre)
        )
        summed = MODEL.algebra.stats(jnp.asarray(x), jnp.asarray(resp), centre)
        params = FAMILY.target(MODEL, prior, empty, jnp.asarray(resp.sum(0)), summed)
    return prior, x, resp, params


def test_target_is_the_textbook_posterior(setting):
    """Bishop (2006) 10.58 to 10.63, and the Dirichlet's counts."""
    prior, x, resp, params = setting
    found = FAMILY.posterior(MODEL, params)
    count = resp.sum(0)
    np.testing.assert_allclose(found.weights.a, 0.7 + count[:1], rtol=1e-12)
    np.testing.assert_allclose(found.weights.b, 0.7 + count[1:], rtol=1e-12)
    for k in range(K):
        kappa0, m0 = 0.4, np.asarray(prior.components.loc[k])
        rate0 = np.asarray(prior.components.rate_factor[k] @ prior.components.rate_factor[k].T)
        mean = resp[:, k] @ x / count[k]
        scatter = (resp[:, k, None] * (x - mean)).T @ (x - mean)
        gap = mean - m0
        rate = rate0 + scatter + kappa0 * count[k] / (kappa0 + count[k]) * np.outer(gap, gap)
        q = found.components
        np.testing.assert_allclose(q.mean_precision[k], kappa0 + count[k], rtol=1e-12)
        np.testing.assert_allclose(q.dof[k], 6.0 + count[k], rtol=1e-12)
        np.testing.assert_allclose(
            q.loc[k], (kappa0 * m0 + count[k] * mean) / (kappa0 + count[k]), rtol=1e-10
        )
        np.testing.assert_allclose(q.rate_factor[k] @ q.rate_factor[k].T, rate, rtol=1e-10)


def test_target_forgets_where_it_was(setting):
    """Only the centre of the current parameters is used."""
    prior, _, resp, params = setting
    zero = jax.tree.map(jnp.zeros_like, params.components)
    other = jax.tree.map(lambda leaf: 3.0 * leaf, params)
    centre = params.components.centre
    other = ConjugateParams(
        weights=other.weights,
        components=type(other.components)(**{**vars(other.components), "centre": centre}),
    )
    one, two = (FAMILY.target(MODEL, prior, p, jnp.asarray(resp.sum(0)), zero) for p in (params, other))
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_no_statistics_leave_the_prior(setting):
    prior, _, _, params = setting
    nothing = jax.tree.map(jnp.zeros_like, params.components)
    back = FAMILY.posterior(MODEL, FAMILY.target(MODEL, prior, params, jnp.zeros(K), nothing))
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
    jax.tree.map(close, (back.weights, back.components), (prior.weights, prior.components))
    terms = FAMILY.neg_kl(MODEL, back, prior)
    np.testing.assert_allclose(list(terms.values()), 0.0, atol=1e-10)


def test_neg_kl_has_one_term_for_weights_and_one_for_components(setting):
    """Negative, and minus the divergences that the parts compute."""
    prior, _, _, params = setting
    q = FAMILY.posterior(MODEL, params)
    found = FAMILY.neg_kl(MODEL, q, prior)
    np.testing.assert_allclose(found["neg_kl_weights"], -sticks.kl(q.weights, prior.weights), rtol=1e-12)
    means, covariances = MODEL.algebra.kl_parts(q.components, prior.components)
    np.testing.assert_allclose(found["neg_kl_means"], -means, rtol=1e-12)
    np.testing.assert_allclose(found["neg_kl_covariances"], -covariances, rtol=1e-12)
    assert set(found) == {"neg_kl_weights", "neg_kl_means", "neg_kl_covariances"}
    assert max(map(float, found.values())) < 0


def test_predictive_is_weights_times_student(setting):
    prior, x, _, params = setting
    q = FAMILY.posterior(MODEL, params)
    found = FAMILY.log_predictive(MODEL, params, prior, jnp.asarray(x), jax.random.key(0), num_draws=1)
    alpha = np.array([float(q.weights.a[0]), float(q.weights.b[0])])
    for k in range(K):
        df, kappa = float(q.components.dof[k]) - DIM + 1, float(q.components.mean_precision[k])
        factor = np.asarray(q.components.rate_factor[k])
        student = stats.multivariate_t(
            q.components.loc[k], factor @ factor.T * (kappa + 1) / (kappa * df), df=df
        )
        np.testing.assert_allclose(found[:, k], np.log(alpha[k] / alpha.sum()) + student.logpdf(x), rtol=1e-9)


def test_weights_are_expected_weights(setting):
    *_, resp, params = setting
    want = (0.7 + resp.sum(0)) / (1.4 + ROWS)
    np.testing.assert_allclose(FAMILY.weights(MODEL, params), want, rtol=1e-12)


def test_init_is_the_start(setting):
    prior, *_, params = setting
    start = guess(MODEL, prior, params, prior)
    jax.tree.map(np.testing.assert_array_equal, FAMILY.init(MODEL, start), params)
