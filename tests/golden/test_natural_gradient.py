"""The closed-form natural gradient is the inverse Fisher matrix times the autodiff gradient of the bound.

Natural gradients are invariant under linear maps of the parameters, so the Fisher matrix of the additive
parameters is the Hessian of the log partition function written in them. That function is written here
from the definition of the distributions and not taken from the code under test.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import gammaln

from vigmm.families import ConjugateParams
from vigmm.models import Dirichlet, DirichletProcess, Sticks
from vigmm.models.covariance.normal_wishart import Natural as Additive

pytestmark = pytest.mark.usefixtures("x64")

RTOL = 1e-9
DIM, K = 2, 2
ROWS, COLUMNS = np.tril_indices(DIM)


def pack(params):
    """A vector per component (kappa, first, lower triangle of second, dof), and the sticks, end to end."""
    c = params.components
    parts = [c.count[:, None], c.first, c.second[:, ROWS, COLUMNS], c.dof[:, None]]
    return jnp.concatenate([params.weights.a, params.weights.b, jnp.concatenate(parts, 1).ravel()])


def symmetric(lower):
    matrix = jnp.zeros((*lower.shape[:-1], DIM, DIM)).at[..., ROWS, COLUMNS].set(lower)
    return matrix.at[..., COLUMNS, ROWS].set(lower)


def beta_sticks(a, b):
    """A posterior of sticks whose concentration is known."""
    none, slope = jnp.zeros((0,)), jnp.zeros((0, a.size))
    return Sticks(a=a, b=b, a_slope=slope, b_slope=slope, shape=none, rate=none)


def unpack(vector, centre):
    sticks, components = vector[: 2 * (K - 1)], vector[2 * (K - 1) :].reshape(K, -1)
    return ConjugateParams(
        weights=beta_sticks(sticks[: K - 1], sticks[K - 1 :]),
        components=Additive(
            count=components[:, 0],
            first=components[:, 1 : 1 + DIM],
            second=symmetric(components[:, 1 + DIM : -1]),
            dof=components[:, -1],
            centre=centre,
        ),
    )


def log_partition(vector):
    """sum log B(a, b) + sum_k log of the integral of a Normal-Wishart density without its constants."""
    p = unpack(vector, jnp.zeros((K, DIM)))
    a, b, c = p.weights.a, p.weights.b, p.components
    (xx, xy, yy) = (
        c.second[:, i, j] - c.first[:, i] * c.first[:, j] / c.count for i, j in ((0, 0), (1, 0), (1, 1))
    )
    log_det = jnp.log(xx * yy - xy * xy)
    wishart = (
        0.5 * c.dof * (DIM * np.log(2.0) - log_det) + gammaln(0.5 * c.dof) + gammaln(0.5 * (c.dof - 1.0))
    )
    # Not `betaln`: the derivatives of JAX's are good to 1e-7 only.
    beta = gammaln(a) + gammaln(b) - gammaln(a + b)
    return jnp.sum(beta) + jnp.sum(wishart - 0.5 * DIM * jnp.log(c.count))


@functools.partial(jax.jit, static_argnames=("objective",))
def autodiff(objective, vector, centre, prior, batch):
    """Gradient of the bound and Fisher matrix."""

    def bound(vector):
        terms = objective.value(unpack(vector, centre), prior, batch, jax.random.key(0))
        return jax.tree.reduce(jnp.add, terms)

    return jax.grad(bound)(vector), jax.hessian(log_partition)(vector)


@pytest.mark.parametrize("weights", [Dirichlet(0.5), DirichletProcess(2.0)], ids=["dirichlet", "process"])
def test_natural_gradient(exact, weights):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, DIM)) + np.where(rng.uniform(size=(30, 1)) < 0.4, 2.0, 0.0)
    problem = exact.Problem(
        x, num_components=K, weights=weights, kappa=0.5, sample_weight=rng.uniform(0, 2, len(x))
    )
    centre = jnp.asarray(rng.normal(size=(K, DIM)))
    params = problem.start(rng.dirichlet(np.ones(K), len(x)), centre=centre)
    vector = pack(params)
    np.testing.assert_array_equal(pack(unpack(vector, centre)), vector)

    gradient, fisher = autodiff(problem.objective, vector, centre, problem.prior, problem.batch)
    assert np.linalg.eigvalsh(fisher).min() > 0
    found = problem.objective.estimate(params, problem.prior, problem.batch, jax.random.key(0))
    # `grads` descends -elbo.
    closed = -np.asarray(pack(found.grads))
    np.testing.assert_allclose(
        np.linalg.solve(fisher, gradient), closed, rtol=RTOL, atol=RTOL * np.abs(closed).max()
    )
    assert not np.any(found.grads.components.centre)
    # Away from the optimum, so that there is a gradient to speak of.
    assert np.abs(closed).max() > 1.0
