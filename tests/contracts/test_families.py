"""What estimators and the posterior rely on, for every family with every covariance."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

from vigmm.core.struct import is_spec
from vigmm.families import FAMILIES
from vigmm.models import COVARIANCES

pytestmark = pytest.mark.contract

PAIRS = [(name, covariance) for name in FAMILIES for covariance in COVARIANCES]
every = pytest.mark.parametrize(("name", "covariance"), PAIRS, ids=["-".join(pair) for pair in PAIRS])


def get(small, name, covariance, dtype=jnp.float64, **changes):
    return small.setting(FAMILIES[name](), dtype=dtype, covariance=COVARIANCES[covariance](), **changes)


@every
def test_draws_are_positions_of_the_model(small, name, covariance, x64):
    """With exactly the model's degrees of freedom; noise and inverted sample tell the same density."""
    case = get(small, name, covariance)
    u, log_q, log_prob = small.draw(case.family, case.model, case.params, jax.random.key(0))
    flat = jax.vmap(lambda one: ravel_pytree(one)[0])(u)
    assert flat.shape == (len(log_q), case.model.position_size(small.dim))
    np.testing.assert_allclose(log_q, log_prob, rtol=1e-9, atol=1e-9)
    # No two coordinates are one, and none is stuck.
    few = np.asarray(flat[:100])
    assert np.linalg.matrix_rank(few - few.mean(0)) == flat.shape[1]


@every
def test_types_are_those_of_the_parameters(small, name, covariance, dtype):
    """Draws, densities and predictives, without computing any."""
    case = get(small, name, covariance, dtype)
    family, model, key = case.family, case.model, jax.random.key(0)
    u, log_q = jax.eval_shape(lambda p: family.sample(model, p, key), case.params)
    others = (
        jax.eval_shape(lambda p, u: family.log_prob(model, p, u), case.params, u),
        jax.eval_shape(lambda p: family.entropy(model, p), case.params),
        jax.eval_shape(lambda p: family.weights(model, p), case.params),
        jax.eval_shape(
            lambda p, x: family.log_predictive(model, p, x, key, num_draws=3), case.params, case.batch.x
        ),
    )
    for leaf in jax.tree.leaves((u, log_q, others)):
        assert leaf.dtype == dtype
    assert others[-1].shape == (small.n, small.k)


@every
def test_entropy_and_density(small, name, covariance, x64):
    """entropy = -E[log q], and q integrates to one."""
    case = get(small, name, covariance)
    u, log_q, _ = small.draw(case.family, case.model, case.params, jax.random.key(1))
    log_q = np.asarray(log_q)
    error = log_q.std() / np.sqrt(log_q.size)
    assert abs(float(case.family.entropy(case.model, case.params)) + log_q.mean()) < 5 * error
    # E_q[r / q] = 1 for any density r inside q: a Gaussian narrower than the draws.
    flat = np.asarray(jax.vmap(lambda one: ravel_pytree(one)[0])(u))
    inside = stats.multivariate_normal(flat.mean(0), 0.5 * np.cov(flat.T))
    ratio = np.exp(inside.logpdf(flat) - log_q)
    error = ratio.std() / np.sqrt(log_q.size)
    assert error < 0.1
    assert abs(ratio.mean() - 1) < 5 * error


@every
def test_weights_are_weights(small, name, covariance, x64):
    case = get(small, name, covariance)
    found = case.family.weights(case.model, case.params)
    assert found.shape == (small.k,)
    np.testing.assert_allclose(np.sum(found), 1.0, rtol=1e-14)
    # Near the mean of the draws, whatever "expected" means to the family.
    u, _, _ = small.draw(case.family, case.model, case.params, jax.random.key(0))
    drawn = jax.vmap(lambda one: jnp.exp(case.model.constrain(one, small.dim).log_weights))(u)
    assert np.abs(np.asarray(found) - np.mean(drawn, 0)).max() < np.std(drawn, 0).max()


@every
def test_predictive_is_a_density(small, name, covariance, x64):
    """In one dimension sum_k of the joint predictive integrates to one, each share to the weight."""
    case = get(small, name, covariance, dim=1)
    grid = np.linspace(-40.0, 40.0, 4001)
    joint = case.family.log_predictive(
        case.model, case.params, jnp.asarray(grid[:, None]), jax.random.key(0), num_draws=100
    )
    assert joint.shape == (grid.size, small.k)
    shares = np.trapezoid(np.exp(joint), grid, axis=0)
    # The heaviest tail is a Student t with some ten degrees of freedom.
    np.testing.assert_allclose(shares.sum(), 1.0, rtol=1e-4)
    np.testing.assert_allclose(shares, case.family.weights(case.model, case.params), atol=0.05)


@every
def test_predictive_is_the_mean_over_draws(small, name, covariance, x64):
    case = get(small, name, covariance)
    x = case.batch.x[:4]
    n = 4000
    found = np.exp(case.family.log_predictive(case.model, case.params, x, jax.random.key(0), num_draws=n))
    u, _, _ = small.draw(case.family, case.model, case.params, jax.random.key(1))
    u = jax.tree.map(lambda leaf: leaf[:n], u)
    density = jax.vmap(lambda one: jnp.exp(case.model.log_joint(case.model.constrain(one, small.dim), x)))(u)
    # Both sides may be Monte-Carlo means.
    error = np.std(density, 0) * np.sqrt(2 / n)
    assert np.all(np.abs(found - np.mean(density, 0)) < 5 * error)


@every
def test_start_is_a_state_of_its_own_shape(small, name, covariance, dtype):
    case = get(small, name, covariance, dtype)
    for leaf in jax.tree.leaves(case.params):
        assert leaf.dtype == dtype
        assert np.isfinite(leaf).all()
    leaves, structure = jax.tree.flatten(case.params)
    assert jax.tree.structure(structure.unflatten(leaves)) == structure


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_a_spec(name):
    one, two = FAMILIES[name](), FAMILIES[name]()
    assert is_spec(one)
    assert one == two
    assert hash(one) == hash(two)
    assert pickle.loads(pickle.dumps(one)) == one
