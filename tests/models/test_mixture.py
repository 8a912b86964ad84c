"""The mixture: assignments summed out, densities of positions, gradients."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import special, stats

from vigmm.core.errors import SpecError
from vigmm.models import DataScale, Dirichlet, DirichletProcess, Mixture, Position

DIM, K, ROWS = 2, 3, 11


def setting(model, dtype=jnp.float64):
    rng = np.random.default_rng(0)
    unit = DataScale(mean=np.zeros(DIM), cov=np.eye(DIM), center=np.zeros(DIM), scale=np.ones(DIM))
    prior = model.build_prior(unit, dtype=dtype)
    weights, own, shared = model.sizes(DIM)
    u = Position(
        weights=jnp.asarray(rng.normal(size=weights), dtype),
        components=jnp.asarray(0.5 * rng.normal(size=(K, own)), dtype),
        shared=jnp.asarray(0.5 * rng.normal(size=shared), dtype),
    )
    return prior, u, jnp.asarray(rng.normal(size=(ROWS, DIM)), dtype)


MODEL = Mixture(num_components=K, weights=Dirichlet(0.8))


def test_position_has_the_degrees_of_freedom_of_the_model():
    """(K - 1) + K (D + D(D + 1)/2): one coordinate too many would be free entropy."""
    assert MODEL.position_size(DIM) == 17
    assert Mixture(num_components=1).position_size(1) == 2
    assert Mixture(num_components=10).position_size(16) == 9 + 10 * (16 + 136)


def test_log_lik_sums_the_assignments_out(x64):
    prior, u, x = setting(MODEL)
    v = special.expit(np.asarray(u.weights))
    pi = np.array([v[0], (1 - v[0]) * v[1], (1 - v[0]) * (1 - v[1])])
    mean, cov = MODEL.moments(prior, u)
    joint = np.column_stack(
        [np.log(pi[k]) + stats.multivariate_normal(mean[k], cov[k]).logpdf(x) for k in range(K)]
    )
    theta = MODEL.constrain(prior, u)
    np.testing.assert_allclose(MODEL.log_joint(theta, x), joint, rtol=1e-10)
    np.testing.assert_allclose(MODEL.log_lik(theta, x), special.logsumexp(joint, axis=1), rtol=1e-10)


def test_log_lik_survives_rows_that_no_component_explains():
    """No underflow at 1e4 standard deviations: the maximum is taken out first."""
    prior, u, _ = setting(MODEL, jnp.float32)
    theta = MODEL.constrain(prior, u)
    found = np.asarray(MODEL.log_lik(theta, jnp.full((1, DIM), 1e4, jnp.float32)))
    assert np.isfinite(found).all()
    assert found[0] < -1e6


@pytest.mark.parametrize("weights", [Dirichlet(0.8), DirichletProcess(2.0)], ids=str)
def test_gradients(x64, weights):
    model = Mixture(num_components=K, weights=weights)
    prior, u, x = setting(model)
    check_grads(jax.jit(lambda u: model.log_prior(prior, u)), (u,), order=1, modes=["rev"])
    check_grads(jax.jit(lambda u: model.log_lik(model.constrain(prior, u), x)), (u,), order=1, modes=["rev"])


def test_log_prior_is_exchangeable_under_a_dirichlet(x64):
    """Relabelling the components of a symmetric Dirichlet mixture changes only the volume element."""
    prior, u, x = setting(MODEL)
    order = np.array([2, 0, 1])
    pi = np.exp(MODEL.constrain(prior, u).log_weights)[order]
    left = 1 - np.append(0.0, np.cumsum(pi)[:-2])
    moved = dataclasses.replace(
        u, weights=jnp.asarray(special.logit(pi[:-1] / left)), components=u.components[order]
    )
    same = MODEL.log_lik(MODEL.constrain(prior, u), x)
    np.testing.assert_allclose(MODEL.log_lik(MODEL.constrain(prior, moved), x), same, rtol=1e-10)

    def volume(weights):
        one = jax.jacobian(lambda w: jnp.exp(MODEL.log_weights(dataclasses.replace(u, weights=w)))[:-1])
        return np.linalg.slogdet(one(weights))[1]

    gap = MODEL.log_prior(prior, moved) - MODEL.log_prior(prior, u)
    np.testing.assert_allclose(gap, volume(moved.weights) - volume(u.weights), rtol=1e-9, atol=1e-9)


def test_float32_is_close_to_float64():
    prior, u, x = setting(MODEL, jnp.float32)
    single = (MODEL.log_prior(prior, u), MODEL.log_lik(MODEL.constrain(prior, u), x))
    with jax.enable_x64(True):
        prior, u, x = setting(MODEL, jnp.float64)
        double = (MODEL.log_prior(prior, u), MODEL.log_lik(MODEL.constrain(prior, u), x))
    for one, two in zip(single, double, strict=True):
        assert one.dtype == jnp.float32
        # Sums of some ten terms up to 1e2.
        np.testing.assert_allclose(
            one, two, rtol=50 * np.finfo(np.float32).eps, atol=50 * np.finfo(np.float32).eps
        )


@pytest.mark.parametrize("value", [0, -1])
def test_no_components(value):
    with pytest.raises(SpecError, match="num_components must be >= 1"):
        Mixture(num_components=value)


def test_equal_models_are_one_static_argument():
    """Refitting with an equal model does not compile again."""
    traces = []

    def run(model, prior, u):
        traces.append(model)
        return model.constrain(prior, u).log_weights

    jitted = jax.jit(run, static_argnums=0)
    for _ in range(3):
        model = Mixture(num_components=K, weights=Dirichlet(0.8))
        jitted(model, *setting(model, jnp.float32)[:2])
    assert len(traces) == 1
