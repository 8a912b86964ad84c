"""The prior integrates to one over unconstrained positions.

A forgotten Jacobian, or a coordinate that the model does not have, gives q free entropy and lifts the bound
above the evidence.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from vigmm.models import DataScale, Dirichlet, DirichletProcess, Mixture, NormalWishart, Position
from vigmm.models.covariance import StructurePosition

pytestmark = pytest.mark.usefixtures("x64")

WEIGHTS = [Dirichlet(1.0), Dirichlet(0.3), DirichletProcess(2.5)]


def prior_of(model, dim):
    unit = DataScale(mean=np.zeros(dim), cov=np.eye(dim), center=np.zeros(dim), scale=np.ones(dim))
    return model.build_prior(unit, dtype=jnp.float64)


def log_prior(model, prior, weights, components):
    """Log prior of many positions at once."""
    u = Position(
        weights=jnp.asarray(weights), components=jnp.asarray(components), shared=jnp.zeros((len(weights), 0))
    )
    return np.asarray(jax.jit(jax.vmap(lambda one: model.log_prior(prior, one)))(u))


@pytest.mark.parametrize("weights", WEIGHTS, ids=str)
def test_quadrature_of_the_sticks(weights):
    """One stick and one fixed component: the integral over logit v is the component's density."""
    model = Mixture(num_components=2, weights=weights)
    prior = prior_of(model, 1)
    # The slowest tail is exp(-0.3 |u|): 1e-20 at the ends of the grid.
    grid = np.linspace(-160.0, 160.0, 20_001)
    fixed = np.broadcast_to([[0.3, 0.2], [-0.5, -0.4]], (grid.size, 2, 2))
    logs = log_prior(model, prior, grid[:, None], fixed)
    position = StructurePosition(components=jnp.asarray(fixed[0]), shared=jnp.zeros(0))
    component = float(model.structure.log_prob(prior.components, position))
    total = np.trapezoid(np.exp(logs - component), grid)
    np.testing.assert_allclose(total, 1.0, rtol=1e-9)


def test_quadrature_of_one_component():
    """D = 1: trapezoid over log W and, scaled by W, over the mean."""
    model = Mixture(num_components=1, prior=NormalWishart(mean_precision=0.3, dof=4.0))
    prior = prior_of(model, 1)
    log_w, z = np.linspace(-12.0, 4.0, 801), np.linspace(-60.0, 60.0, 2001)
    step = (log_w[1] - log_w[0]) * (z[1] - z[0])
    flat_w = np.repeat(log_w, z.size)
    # mu = z / W, so d mu = dz / W: at every W the grid is as wide as the density.
    mean = np.tile(z, log_w.size) / np.exp(flat_w)
    components = np.stack([mean, flat_w], -1)[:, None, :]
    logs = log_prior(model, prior, np.zeros((flat_w.size, 0)), components)
    np.testing.assert_allclose(np.exp(special.logsumexp(logs - flat_w)) * step, 1.0, rtol=1e-6)


def proposal(rng, n, num_components, dim):
    """Draws of a position from broad Student t distributions, with their log density.

    Every tail of the prior is lighter: the sticks' and log W's are exponential; the rest is normal given W,
    and the proposal for the mean is scaled by W^-1 as the prior is.
    """
    wide = stats.t(df=4)

    def draw(shape, scale):
        value = wide.rvs(size=shape, random_state=rng)
        return scale * value, wide.logpdf(value) - np.log(scale)

    weights, log_q = draw((n, num_components - 1), 2.0)
    log_diag, log_q_diag = draw((n, num_components, dim), 0.8)
    lower, log_q_lower = draw((n, num_components, dim * (dim - 1) // 2), 1.2)
    whitener = np.zeros((n, num_components, dim, dim))
    whitener[..., np.arange(dim), np.arange(dim)] = np.exp(log_diag)
    rows, columns = np.tril_indices(dim, -1)
    whitener[..., rows, columns] = lower
    z, log_q_z = draw((n, num_components, dim), 1.5 / np.sqrt(0.5))
    loc = np.linalg.solve(whitener, z[..., None])[..., 0]
    total = log_q.sum(-1) + sum(part.sum((-2, -1)) for part in (log_q_diag, log_q_lower, log_q_z, log_diag))
    return weights, np.concatenate([loc, log_diag, lower], -1), total


@pytest.mark.parametrize(
    ("dim", "num_components", "weights"),
    [
        (1, 2, Dirichlet(1.0)),
        (1, 2, DirichletProcess(2.5)),
        (1, 3, Dirichlet(0.7)),
        (2, 1, Dirichlet(1.0)),
        (3, 1, Dirichlet(1.0)),
    ],
    ids=str,
)
def test_importance_sampling(dim, num_components, weights):
    """E_proposal[prior / proposal] = 1 within 5 standard errors, which are small enough to mean something."""
    cov = 0.7 * (np.eye(dim) + 0.3 * (np.ones((dim, dim)) - np.eye(dim)))
    spec = NormalWishart(mean_precision=0.5, dof=dim + 3.0, covariance=tuple(map(tuple, cov.tolist())))
    model = Mixture(num_components=num_components, weights=weights, prior=spec)
    prior = prior_of(model, dim)
    rng = np.random.default_rng(5)
    sticks, components, log_q = proposal(rng, 200_000, num_components, dim)
    assert sticks.shape[1] + components[0].size == model.position_size(dim)
    ratio = np.exp(log_prior(model, prior, sticks, components) - log_q)
    error = ratio.std() / np.sqrt(ratio.size)
    assert error < 0.03
    np.testing.assert_allclose(ratio.mean(), 1.0, atol=5 * error)
