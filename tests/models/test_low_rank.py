"""Factor-analytic covariances: density, coordinates, prior, start, and a fit that finds the factors."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

import vigmm
from vigmm.core.errors import SpecError
from vigmm.families import MeanField
from vigmm.models import DataScale, Dirichlet, FactorAnalytic, Independent, Mixture, NormalWishart
from vigmm.models.covariance import Hyper, StructurePosition


def position(structure, num, dim, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(num, structure.position_size(dim)))
    return StructurePosition(components=jnp.asarray(values, dtype), shared=jnp.zeros((0,), dtype))


def hyper(dim):
    cov = np.diag(0.5 + np.arange(dim)) + 0.1
    return Hyper(loc=np.linspace(-0.5, 0.5, dim), mean_precision=0.5, dof=dim + 3.0, covariance=cov)


@functools.partial(jax.jit, static_argnames=("structure", "dim"))
def evaluate(structure, dim, prior, u, x):
    """Log densities of rows, moments, and the log prior."""
    parts = structure.constrain(u, dim)
    log_density = (
        parts.log_det[None] - 0.5 * structure.square(parts, x) - 0.5 * dim * np.log(2 * np.pi).item()
    )
    return log_density, structure.moments(u, dim), structure.log_prob(prior, u)


def test_density_is_that_of_the_moments(x64):
    structure, dim, num = FactorAnalytic(rank=2).structure, 5, 3
    u = position(structure, num, dim)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(7, dim)) * 3.0)
    found, (loc, cov), _ = evaluate(structure, dim, structure.prior(hyper(dim), num, jnp.float64), u, x)
    for k in range(num):
        want = stats.multivariate_normal(loc[k], cov[k]).logpdf(x)
        np.testing.assert_allclose(found[:, k], want, rtol=1e-10)


def test_every_coordinate_matters(x64):
    """The map to mean and covariance has full rank, where D (R + 1) - R (R - 1)/2 <= D (D + 1)/2."""
    structure, dim = FactorAnalytic(rank=2).structure, 6
    u = position(structure, 1, dim)

    def moments(components):
        loc, cov = structure.moments(StructurePosition(components=components, shared=u.shared), dim)
        return jnp.concatenate([loc.ravel(), cov.ravel()])

    jacobian = np.asarray(jax.jacobian(moments)(u.components)).reshape(-1, u.components.size)
    assert np.linalg.matrix_rank(jacobian) == structure.position_size(dim) == 2 * 6 + 2 * 6 - 1


def test_prior_is_its_parts(x64):
    """Equations (2) and (3), with SciPy's distributions and their Jacobians."""
    row, dim, num = FactorAnalytic(rank=2, shape=1.5, rate=0.2), 4, 2
    structure, h = row.structure, hyper(4)
    u = position(structure, num, dim)
    _, (loc, cov), found = evaluate(
        structure, dim, structure.prior(h, num, jnp.float64), u, jnp.zeros((1, dim))
    )
    want, unit = 0.0, np.sqrt(np.diag(h.covariance))
    for k in range(num):
        log_root, free = np.split(np.asarray(u.components[k, dim:]), [dim])
        psi = np.exp(-2 * log_root)
        noise = stats.invgamma(0.5 * (h.dof - dim + 1), scale=0.5 * (h.dof - dim - 1) * unit**2)
        want += np.sum(noise.logpdf(psi) + np.log(2 * psi))
        want += stats.multivariate_normal(h.loc, cov[k] / h.mean_precision).logpdf(loc[k])
        factors = np.zeros((dim, 2))
        factors[np.tril_indices(dim, 0, 2)] = free
        for j in range(2):
            scale = np.diag(row.rate / row.shape * unit[j:] ** 2)
            want += stats.multivariate_t(np.zeros(dim - j), scale, df=2 * row.shape).logpdf(factors[j:, j])
    np.testing.assert_allclose(found, want, rtol=1e-10)


def test_prior_integrates_to_one(x64):
    """Importance sampling; every tail of the proposal is heavier than the prior's, given what came before."""
    dim, n = 2, 200_000
    covariance = ((1.0, 0.2), (0.2, 0.6))
    model = Mixture(
        num_components=1,
        weights=Dirichlet(1.0),
        covariance=FactorAnalytic(rank=1, shape=2.0, rate=0.5),
        prior=NormalWishart(mean_precision=0.5, dof=5.0, covariance=covariance),
    )
    unit = DataScale(mean=np.zeros(dim), cov=np.eye(dim), center=np.zeros(dim), scale=np.ones(dim))
    prior = model.build_prior(unit, dtype=jnp.float64)
    rng, wide = np.random.default_rng(0), stats.t(df=3)
    e = wide.rvs(size=(n, 6), random_state=rng)
    log_root, factors = 0.7 * e[:, :2], 0.7 * e[:, 2:4]
    root = np.linalg.cholesky(
        factors[:, :, None] * factors[:, None, :] + np.exp(-2 * log_root)[:, :, None] * np.eye(2)
    )
    loc = 1.6 * np.einsum("nij,nj->ni", root, e[:, 4:])
    log_q = wide.logpdf(e).sum(1) - 4 * np.log(0.7) - 2 * np.log(1.6) - np.linalg.slogdet(root)[1]
    components = jnp.asarray(np.concatenate([loc, log_root, factors], 1))[:, None]
    log_p = jax.jit(
        jax.vmap(
            lambda one: model.structure.log_prob(
                prior.components, StructurePosition(components=one, shared=jnp.zeros((0,)))
            )
        )
    )(components)
    ratio = np.exp(np.asarray(log_p) - log_q)
    error = ratio.std() / np.sqrt(n)
    assert error < 0.01
    np.testing.assert_allclose(ratio.mean(), 1.0, atol=5 * error)


def test_single_precision_agrees_with_double():
    """Also where the noise is a thousandth of what the factors explain, far from the origin."""
    structure, dim, num = FactorAnalytic(rank=2).structure, 6, 3
    found = {}
    for dtype in ("float32", "float64"):
        with jax.enable_x64(dtype == "float64"):
            u = position(structure, num, dim, dtype=np.float32)
            tight = u.components.at[:, dim : 2 * dim].add(3.0).at[:, :dim].add(10.0)
            u = StructurePosition(components=jnp.asarray(tight, dtype), shared=jnp.zeros((0,), dtype))
            x = np.random.default_rng(2).normal(size=(50, dim)).astype(np.float32) + np.float32(10.0)
            prior = structure.prior(hyper(dim), num, dtype)
            made = evaluate(structure, dim, prior, u, jnp.asarray(x, dtype))
            assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {np.dtype(dtype)}
            found[dtype] = jax.tree.map(np.asarray, made)
    for single, double in zip(*map(jax.tree.leaves, found.values()), strict=True):
        # Sums of some ten terms, each exact to some ulp of the input: |x - loc| loses log2(10) bits.
        np.testing.assert_allclose(single, double, rtol=2e-4, atol=2e-4)


def test_start_has_the_covariance_where_it_is_factor_analytic(x64):
    rng, dim, num = np.random.default_rng(0), 10, 2
    factors, psi = rng.normal(size=(num, dim, 1)), rng.uniform(0.5, 1.5, size=(num, dim))
    cov = factors @ factors.swapaxes(1, 2) + psi[:, :, None] * np.eye(dim)
    loc, structure = rng.normal(size=(num, dim)), FactorAnalytic(rank=1).structure
    u, sd = jax.jit(structure.near)(jnp.asarray(loc), jnp.asarray(cov), jnp.asarray([100.0, 400.0]))
    found_loc, found_cov = structure.moments(u, dim)
    np.testing.assert_array_equal(found_loc, loc)
    np.testing.assert_allclose(found_cov, cov, rtol=1e-3)
    assert sd.components.shape == u.components.shape
    # Everything else known, the sd of a mean is 1/sqrt(n P_dd).
    want = 1 / np.sqrt(100.0 * np.diag(np.linalg.inv(cov[0])))
    np.testing.assert_allclose(sd.components[0, :dim], want, rtol=1e-2)
    assert np.all(np.asarray(sd.components) > 0)
    assert np.all(np.asarray(sd.components)[:, dim : 2 * dim] < 1)


def test_choices_that_do_not_fit_are_refused():
    with pytest.raises(SpecError, match="rank must be >= 1, got 0"):
        FactorAnalytic(rank=0)
    with pytest.raises(SpecError, match="rate must be > 0"):
        FactorAnalytic(rate=float("nan"))
    with pytest.raises(SpecError, match=r"model\.covariance\.rank must be < 3.*got 3"):
        Mixture(covariance=FactorAnalytic(rank=3)).position_size(3)
    with pytest.raises(SpecError, match="'normal_wishart' for this covariance"):
        Mixture(covariance=FactorAnalytic(), prior=Independent())
    with pytest.raises(SpecError, match="conjugate"):
        vigmm.fit(np.zeros((5, 3)), model=Mixture(covariance=FactorAnalytic(rank=1)))


DIM = 8


def factor_data(n, seed):
    """Two clusters of 8 columns with two factors each; the rows and their true log densities."""
    truth, rng = np.random.default_rng(3), np.random.default_rng(seed)
    loc = np.stack([np.zeros(DIM), np.full(DIM, 2.0)])
    factors = truth.normal(size=(2, DIM, 2))
    psi = truth.uniform(0.2, 0.6, size=(2, DIM))
    cov = factors @ factors.swapaxes(1, 2) + psi[:, :, None] * np.eye(DIM)
    z = rng.integers(2, size=n)
    x = loc[z] + np.einsum("nij,nj->ni", np.linalg.cholesky(cov)[z], rng.normal(size=(n, DIM)))
    logs = [stats.multivariate_normal(loc[k], cov[k]).logpdf(x) + np.log(0.5) for k in range(2)]
    return x, np.logaddexp(*logs)


@pytest.fixture(scope="module")
def fitted():
    x, _ = factor_data(2000, 0)
    return vigmm.fit(
        x,
        model=Mixture(num_components=2, weights=Dirichlet(1.0), covariance=FactorAnalytic(rank=3)),
        family=MeanField(),
        train=vigmm.Train(batch_size=500, min_steps=800, passes=1, holdout=0.0, tolerance=0.0),
    )


@pytest.mark.slow
def test_a_fit_comes_close_to_the_truth(fitted):
    """Held-out density: within the half nat per parameter and row that any estimate costs, and its noise."""
    assert fitted.outcome.ok
    x, truth = factor_data(4000, 1)
    gap = truth - fitted.posterior.log_predictive(x)
    excess = fitted.posterior.model.position_size(DIM) / 2 / 2000
    assert gap.mean() < 2 * excess + 5 * gap.std() / np.sqrt(len(gap))


@pytest.mark.slow
def test_a_column_that_is_not_needed_shrinks(fitted):
    model, q = fitted.posterior.model, fitted.posterior.params
    u = model.structure_position(fitted.posterior.prior, q.loc)
    factors = np.asarray(model.structure._split(u, DIM)[2])
    norm = np.linalg.norm(factors, axis=1)
    assert norm.shape == (2, 3)
    assert np.all(norm[:, 2] < 0.25 * norm[:, :2].min(1))


@pytest.mark.slow
def test_a_file_keeps_it(fitted, tmp_path):
    fitted.save(tmp_path)
    again = vigmm.load(tmp_path)
    assert again.model == fitted.posterior.model
    np.testing.assert_array_equal(
        ravel_pytree((again.params, again.prior))[0],
        ravel_pytree((fitted.posterior.params, fitted.posterior.prior))[0],
    )
