"""The full covariance structure: densities, expectations, statistics and predictives against SciPy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import special, stats

from vigmm.models import Full, Gaussian
from vigmm.models.covariance import StructurePosition
from vigmm.models.covariance.normal_wishart import NormalWishartParams

FULL = Full().structure
GAUSSIAN = Gaussian()
K, ROWS = 3, 7


def position(u) -> StructurePosition:
    """Coordinates of components that share nothing."""
    return StructurePosition(components=u, shared=jnp.zeros((0,), u.dtype))


def log_normal(parts, x):
    """Log density of rows under Gaussian components."""
    empty = jnp.zeros((parts.log_det.shape[0], 0), x.dtype)
    return GAUSSIAN.log_density(parts.log_det, FULL.square(parts, x), empty, x.shape[-1])


def setting(dim, dtype=jnp.float64, *, count=0.0):
    """Rows, positions and Normal-Wishart parameters."""
    rng = np.random.default_rng(dim)
    a = rng.normal(size=(K, dim, dim))
    cov = a @ a.transpose(0, 2, 1) + 0.3 * np.eye(dim)
    dof = dim + 2.5 + rng.uniform(0, 5, K) + count
    q = NormalWishartParams(
        loc=jnp.asarray(rng.normal(size=(K, dim)), dtype),
        mean_precision=jnp.asarray(0.2 + rng.uniform(size=K) + count, dtype),
        dof=jnp.asarray(dof, dtype),
        rate_factor=jnp.asarray(np.linalg.cholesky(cov * dof[:, None, None]), dtype),
    )
    u = jnp.asarray(0.7 * rng.normal(size=(K, FULL.position_size(dim))), dtype)
    x = jnp.asarray(2.0 * rng.normal(size=(ROWS, dim)), dtype)
    return x, u, q


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_log_normal(x64, dim):
    x, u, _ = setting(dim)
    assert u.shape[1] == dim + dim * (dim + 1) // 2
    found = log_normal(FULL.constrain(position(u), dim), x)
    mean, cov = FULL.moments(position(u), dim)
    want = np.column_stack([stats.multivariate_normal(mean[k], cov[k]).logpdf(x) for k in range(K)])
    np.testing.assert_allclose(found, want.reshape(ROWS, K), rtol=1e-10)


def test_moments_are_of_the_whitener(x64):
    """Lambda = W^T W, with W from the position: log diagonal, then the strict lower triangle by rows."""
    u = jnp.asarray([[1.0, 2.0, 3.0, 0.1, -0.2, 0.3, 4.0, 5.0, 6.0]])
    whitener = np.array([[np.exp(0.1), 0, 0], [4.0, np.exp(-0.2), 0], [5.0, 6.0, np.exp(0.3)]])
    mean, cov = FULL.moments(position(u), 3)
    np.testing.assert_array_equal(mean, [[1.0, 2.0, 3.0]])
    np.testing.assert_allclose(np.linalg.inv(cov[0]), whitener.T @ whitener, rtol=1e-9)


def test_log_normal_gradient(x64):
    x, u, _ = setting(2)
    some = jnp.asarray(np.random.default_rng(1).normal(size=(ROWS, K)))

    def total(u, x):
        return jnp.sum(some * log_normal(FULL.constrain(position(u), 2), x))

    check_grads(jax.jit(total), (u, x), order=1, modes=["rev"])


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_expected(x64, dim):
    """Bishop (2006) 10.64 and 10.65, written with dense matrices."""
    x, _, q = setting(dim)
    found = log_normal(FULL.expected(q), x)
    for k in range(K):
        rate = np.asarray(q.rate_factor[k] @ q.rate_factor[k].T)
        dof, kappa = float(q.dof[k]), float(q.mean_precision[k])
        log_det = special.psi((dof - np.arange(dim)) / 2).sum() + dim * np.log(2) - np.linalg.slogdet(rate)[1]
        gap = np.asarray(x - q.loc[k][None])
        square = dim / kappa + dof * np.einsum("bi,ij,bj->b", gap, np.linalg.inv(rate), gap)
        want = 0.5 * (log_det - dim * np.log(2 * np.pi) - square)
        np.testing.assert_allclose(found[:, k], want, rtol=1e-10)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_log_predictive(x64, dim):
    x, _, q = setting(dim)
    found = FULL.log_predictive(q, x)
    for k in range(K):
        df, kappa = float(q.dof[k]) - dim + 1, float(q.mean_precision[k])
        shape = np.asarray(q.rate_factor[k] @ q.rate_factor[k].T) * (kappa + 1) / (kappa * df)
        want = stats.multivariate_t(q.loc[k], shape, df=df).logpdf(x)
        np.testing.assert_allclose(found[:, k], want.reshape(ROWS), rtol=1e-10)


@pytest.mark.parametrize("count", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("dim", [2, 3])
def test_log_predictive_in_float32(dim, count):
    """A component of a million rows: its predictive is as exact as its normal density."""
    with jax.enable_x64(True):
        x, _, q = jax.tree.map(
            lambda leaf: leaf.astype(jnp.float32).astype(jnp.float64), setting(dim, count=count)
        )
        want = np.asarray(FULL.log_predictive(q, x))
    host = jax.tree.map(np.asarray, (q, x))
    q, x = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), host)
    found = np.asarray(FULL.log_predictive(q, x))
    # Terms: logarithms of order D log(count), and squares that the value itself shows.
    bound = 16 * np.finfo(np.float32).eps * (dim * np.log(count) + np.abs(want) + 10)
    assert np.all(np.abs(found - want) < bound)


def test_log_normal_of_a_tight_cluster_far_out_in_float32():
    """Sd 1e-4 at distance 1, in standardised units: only the rounding of the rows themselves is lost."""
    dim, sd = 2, 1e-4
    rng = np.random.default_rng(0)
    x = (1.0 + sd * rng.normal(size=(200, dim))).astype(np.float32)
    u = np.array([[1.0, 1.0, -np.log(sd), -np.log(sd), 0.3 / sd]], np.float32)
    found = np.asarray(log_normal(FULL.constrain(position(jnp.asarray(u)), dim), jnp.asarray(x)))
    with jax.enable_x64(True):
        parts = FULL.constrain(position(jnp.asarray(u, jnp.float64)), dim)
        want = np.asarray(log_normal(parts, jnp.asarray(x, jnp.float64)))
    # A row rounds by eps/2, its whitened residual r by about eps |W|, the density by r times that.
    residual = np.sqrt(2 * np.abs(want - want.max())) + 1
    assert np.all(np.abs(found - want) < 8 * np.finfo(np.float32).eps / sd * residual)


def test_stats_are_weighted_moments_about_the_centre(x64):
    dim = 2
    x, _, _ = setting(dim)
    rng = np.random.default_rng(9)
    weight, centre = rng.uniform(size=(ROWS, K)), rng.normal(size=(K, dim))
    found = FULL.stats(x, jnp.asarray(weight), jnp.asarray(centre))
    for k in range(K):
        shifted = np.asarray(x) - centre[k]
        np.testing.assert_allclose(found.count[k], weight[:, k].sum(), rtol=1e-13)
        np.testing.assert_allclose(found.dof[k], weight[:, k].sum(), rtol=1e-13)
        np.testing.assert_allclose(found.first[k], weight[:, k] @ shifted, rtol=1e-11, atol=1e-13)
        np.testing.assert_allclose(found.second[k], (weight[:, k, None] * shifted).T @ shifted, rtol=1e-11)
    # Added to parameters about a centre, statistics must leave the centre where it is.
    assert not np.any(found.centre)


def test_posterior_of_a_tight_cluster_in_float32():
    """Statistics about a nearby centre keep a covariance of 1e-8 at distance 1; about zero they would not."""
    sd, n = 1e-4, 2000
    rng = np.random.default_rng(0)
    x = (1.0 + sd * rng.normal(size=(n, 2))).astype(np.float32)
    prior = NormalWishartParams(
        loc=jnp.zeros((1, 2)),
        mean_precision=jnp.full((1,), 1e-2),
        dof=jnp.full((1,), 4.0),
        rate_factor=jnp.asarray(1e-4 * np.eye(2)[None], jnp.float32),
    )
    centre = jnp.asarray(1.0 + sd * np.array([[0.5, -0.5]]), jnp.float32)
    natural = FULL.natural(prior, centre)
    added = jax.tree.map(jnp.add, natural, FULL.stats(jnp.asarray(x), jnp.ones((n, 1)), centre))
    found = FULL.standard(added)
    rate = np.asarray(found.rate_factor[0], np.float64)
    wide = x.astype(np.float64)
    gap = wide.mean(0)
    want = np.cov(wide.T, bias=True) * n + 1e-8 * np.eye(2) + 1e-2 * n / (n + 1e-2) * np.outer(gap, gap)
    # The prior's own pull, kappa |centre|^2 = 0.02, is the largest term here; its rounding is what is left.
    np.testing.assert_allclose(rate @ rate.T, want, rtol=1e-5, atol=1e-6 * np.abs(want).max())


@pytest.mark.parametrize("dim", [1, 3])
def test_under_jit_and_vmap(x64, dim):
    """Many positions at once give what they give one by one."""
    x, u, _ = setting(dim)
    many = jnp.stack([u, 0.5 * u])
    found = jax.jit(jax.vmap(lambda u: log_normal(FULL.constrain(position(u), dim), x)))(many)
    want = [log_normal(FULL.constrain(position(one), dim), x) for one in many]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), list(found), want)
