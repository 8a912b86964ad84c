"""What mixtures and families rely on, for every weight prior and every covariance structure."""

from __future__ import annotations

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vigmm.core.errors import SpecError
from vigmm.core.struct import is_spec
from vigmm.families import Conjugate
from vigmm.models import COVARIANCES, PRIORS, WEIGHTS, Mixture
from vigmm.models import weights as sticks

pytestmark = pytest.mark.contract


def within_5_se(found, samples, slack=1e-12):
    samples = np.asarray(samples)
    error = samples.std(0) / np.sqrt(len(samples))
    assert np.all(np.abs(np.asarray(found) - samples.mean(0)) < 5 * error + slack)


# Weight priors --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("k", [1, 2, 5])
def test_weights_are_proper_sticks(name, k, dtype):
    found = WEIGHTS[name]().prior(k, dtype)
    for leaf in (found.a, found.b):
        assert leaf.shape == (k - 1,)
        assert leaf.dtype == dtype
        assert np.all(np.asarray(leaf) > 0)
    np.testing.assert_allclose(np.sum(sticks.expected_weights(found)), 1.0, rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_conjugate_to_counts(name, x64):
    """Bayes' rule: log p(u) + sum_k n_k log pi_k - log p(u | n) is the same at every position u."""
    prior = WEIGHTS[name]().prior(4, jnp.float64)
    counts = jnp.asarray([5.0, 0.0, 2.5, 1.0])
    post = sticks.update(prior, counts)

    def evidence(u):
        return sticks.log_prob(prior, u) + counts @ sticks.log_weights(u) - sticks.log_prob(post, u)

    u = jnp.asarray(np.random.default_rng(0).normal(size=(20, 3)) * 2)
    found = jax.vmap(evidence)(u)
    np.testing.assert_allclose(found, np.full(20, found[0]), rtol=1e-10)


# Covariance structures ------------------------------------------------------------------------


def algebra_of(name):
    try:
        return Mixture(covariance=COVARIANCES[name]()).algebra
    except SpecError:
        pytest.skip("this covariance structure has no conjugate algebra")


@pytest.fixture(params=COVARIANCES)
def conjugate(request, small, x64):
    """(algebra, prior, a posterior, rows, centre) in double precision."""
    algebra = algebra_of(request.param)
    case = small.setting(Conjugate(), dtype=jnp.float64, covariance=COVARIANCES[request.param]())
    post = algebra.standard(case.params.components)
    return algebra, case.prior.components, post, case.batch.x, case.params.components.centre


@pytest.fixture
def drawn(conjugate, request, small):
    """Draws of the posterior of `conjugate` and their log density under it, component by component."""
    algebra, _, q, *_ = conjugate
    name = request.node.callspec.params["conjugate"]
    case = small.setting(Conjugate(), dtype=jnp.float64, covariance=COVARIANCES[name]())
    u = small.draw(case.family, case.model, case.params, jax.random.key(1))[0].components
    return u, np.asarray(log_probs(algebra, q, u))


@functools.partial(jax.jit, static_argnames=("algebra",))
def log_probs(algebra, q, u):
    return jax.vmap(lambda one: algebra.log_prob(q, one))(u)


@pytest.mark.parametrize("name", COVARIANCES)
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_log_normal_is_the_density_of_its_moments(name, dim, x64):
    """For any position: normal, with the mean and covariance matrix that `moments` tells."""
    covariance = COVARIANCES[name]()
    rng = np.random.default_rng(dim)
    u = jnp.asarray(0.5 * rng.normal(size=(2, covariance.position_size(dim))))
    x = jnp.asarray(rng.normal(size=(5, dim)))
    found = covariance.log_normal(covariance.constrain(u, dim), x)
    mean, cov = covariance.moments(u, dim)
    want = [np.atleast_1d(stats.multivariate_normal(mean[k], cov[k]).logpdf(x)) for k in range(2)]
    np.testing.assert_allclose(found, np.column_stack(want), rtol=1e-9)


@pytest.mark.parametrize("name", COVARIANCES)
def test_every_coordinate_of_a_position_matters(name, x64):
    """The map from positions to (mean, covariance) has full rank: no free entropy."""
    covariance, dim = COVARIANCES[name](), 3
    size = covariance.position_size(dim)
    u = jnp.asarray(0.5 * np.random.default_rng(0).normal(size=(1, size)))
    moments = jax.jacobian(lambda u: jnp.concatenate([m.ravel() for m in covariance.moments(u, dim)]))
    jacobian = jax.jit(moments)(u)
    assert np.linalg.matrix_rank(np.asarray(jacobian).reshape(-1, size)) == size


def test_bayes_rule(conjugate):
    """log N(x | u) + log prior(u) - log posterior(u) is the predictive of x at *every* u.

    One identity for `log_normal`, `log_prob`, `natural`, `stats`, `standard` and `log_predictive`.
    """
    algebra, _, q, x, centre = conjugate
    shape = (20, centre.shape[0], algebra.position_size(x.shape[1]))
    u = jnp.asarray(0.5 * np.random.default_rng(0).normal(size=shape))

    @jax.jit
    def both_sides(row):
        stats = algebra.stats(row[None], jnp.ones((1, centre.shape[0])), centre)
        post = algebra.standard(jax.tree.map(jnp.add, algebra.natural(q, centre), stats))

        def evidence(one):
            log_normal = algebra.log_normal(algebra.constrain(one, row.size), row[None])[0]
            return log_normal + algebra.log_prob(q, one) - algebra.log_prob(post, one)

        return jax.vmap(evidence)(u), algebra.log_predictive(q, row[None])

    for row in (x[0], x[-1] + 3.0):
        found, want = both_sides(row)
        np.testing.assert_allclose(found, np.broadcast_to(want, found.shape), rtol=1e-8, atol=1e-8)


def test_natural_form_does_not_depend_on_the_centre(conjugate):
    algebra, _, q, x, centre = conjugate
    weight = jnp.asarray(np.random.default_rng(0).uniform(size=(x.shape[0], centre.shape[0])))
    ends = []
    for c in (centre, centre + 5.0):
        added = jax.tree.map(jnp.add, algebra.natural(q, c), algebra.stats(x, weight, c))
        ends.append(algebra.standard(added))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), *ends)
    back = algebra.standard(algebra.natural(q, centre))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), back, q)


def test_stats_add_up(conjugate):
    """Merging is adding: of rows, of chunks, of weights."""
    algebra, _, _, x, centre = conjugate
    weight = jnp.asarray(np.random.default_rng(0).uniform(size=(x.shape[0], centre.shape[0])))
    whole = algebra.stats(x, weight, centre)
    parts = [algebra.stats(x[s], weight[s], centre) for s in (slice(0, 9), slice(9, None))]
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
    jax.tree.map(close, whole, jax.tree.map(jnp.add, *parts))
    jax.tree.map(close, jax.tree.map(lambda leaf: 2 * leaf, whole), algebra.stats(x, 2 * weight, centre))


def test_expectations_are_means_over_draws(conjugate, drawn):
    """Expected log density, KL, entropy, and moments of positions, each within 5 standard errors."""
    algebra, prior, q, x, _ = conjugate
    dim = x.shape[1]
    u, log_q = drawn
    rows = x[:3]
    log_normal = jax.jit(jax.vmap(lambda one: algebra.log_normal(algebra.constrain(one, dim), rows)))(u)
    within_5_se(algebra.log_normal(algebra.expected(q), rows), log_normal)
    within_5_se(algebra.kl(q, prior), log_q - np.asarray(log_probs(algebra, prior, u)))
    within_5_se(algebra.entropy(q), -log_q)
    # Independent Gaussians close to q have its means and, being conditional, at most its sds.
    mean, sd = algebra.gaussian_fit(q)
    within_5_se(mean, u)
    spread = np.asarray(u).std(axis=0)
    assert np.all(np.asarray(sd) < 1.05 * spread)
    assert np.all(np.asarray(sd) > 0.05 * spread)


def test_divergence_of_a_thing_from_itself_is_zero(conjugate):
    algebra, prior, q, *_ = conjugate
    np.testing.assert_allclose(algebra.kl(q, q), np.zeros(q.dof.shape), atol=1e-10)
    assert np.all(np.asarray(algebra.kl(q, prior)) > 0)


def test_density_integrates_to_one(drawn):
    """E_q[r / q] = 1 for a Gaussian r narrower than q, over every coordinate of the position."""
    u, log_q = drawn
    for k in range(u.shape[1]):
        one = np.asarray(u[:, k])
        inside = stats.multivariate_normal(one.mean(0), 0.5 * np.cov(one.T))
        ratio = np.exp(inside.logpdf(one) - log_q[:, k])
        error = ratio.std() / np.sqrt(len(ratio))
        assert error < 0.05
        assert abs(ratio.mean() - 1) < 5 * error


@pytest.mark.parametrize("table", [WEIGHTS, COVARIANCES, PRIORS], ids=["weights", "covariances", "priors"])
def test_rows_are_specs(table):
    for row in table.values():
        one, two = row(), row()
        assert is_spec(one)
        assert one == two
        assert hash(one) == hash(two)
        assert pickle.loads(pickle.dumps(one)) == one
