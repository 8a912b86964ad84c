"""The Normal-Wishart against SciPy, NumPyro, the textbook and draws of SciPy's Wishart."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.test_util import check_grads
from scipy import special, stats

from vigmm.models.covariance import normal_wishart as nw
from vigmm.models.covariance.normal_wishart import NormalWishartParams

DRAWS = 100_000
K = 2


def params(dim, *, count=0.0, seed=0, dtype=jnp.float64, k=K) -> NormalWishartParams:
    """k components with correlated rates that grow with `count`, as those of a posterior do."""
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(k, dim, dim))
    cov = a @ a.transpose(0, 2, 1) + 0.5 * np.eye(dim)
    dof = dim + 9.0 + rng.uniform(0, 3, k) + count
    return NormalWishartParams(
        loc=jnp.asarray(rng.normal(size=(k, dim)), dtype),
        mean_precision=jnp.asarray(0.7 + rng.uniform(size=k) + count, dtype),
        dof=jnp.asarray(dof, dtype),
        rate_factor=jnp.asarray(np.linalg.cholesky(cov * (dof - dim)[:, None, None]), dtype),
    )


def dense(p: NormalWishartParams, k: int):
    """(loc, kappa, dof, rate matrix) of one component."""
    factor = np.asarray(p.rate_factor[k], np.float64)
    return np.asarray(p.loc[k]), float(p.mean_precision[k]), float(p.dof[k]), factor @ factor.T


def positions(p: NormalWishartParams, k: int, n=DRAWS, seed=1) -> np.ndarray:
    """Draws of the position of component k by SciPy: W is the reversed Cholesky factor, Lambda = W^T W."""
    rng = np.random.default_rng(seed)
    loc, kappa, dof, rate = dense(p, k)
    dim = loc.size
    precision = stats.wishart(dof, np.linalg.inv(rate)).rvs(n, random_state=rng).reshape(n, dim, dim)
    flipped = np.linalg.cholesky(precision[:, ::-1, ::-1])
    whitener = flipped[:, ::-1, ::-1].transpose(0, 2, 1)
    np.testing.assert_allclose(whitener[0].T @ whitener[0], precision[0], rtol=1e-9)
    np.testing.assert_array_equal(whitener[0], np.tril(whitener[0]))
    noise = rng.normal(size=(n, dim, 1))
    mu = loc + np.linalg.solve(whitener, noise)[..., 0] / np.sqrt(kappa)
    rows, columns = np.tril_indices(dim, -1)
    log_diag = np.log(np.diagonal(whitener, axis1=1, axis2=2))
    return np.concatenate([mu, log_diag, whitener[:, rows, columns]], -1)


def within_5_se(found, samples):
    error = samples.std(0) / np.sqrt(len(samples))
    assert np.all(np.abs(np.asarray(found) - samples.mean(0)) < 5 * error)


def component(p: NormalWishartParams, k: int) -> NormalWishartParams:
    """The parameters of one component."""
    return jax.tree.map(lambda leaf: leaf[k : k + 1], p)


def split(u, dim):
    """Means and coordinates of the matrices."""
    return u[..., :dim], u[..., dim:]


@functools.partial(jax.jit, static_argnames=("k",))
def log_probs(p, u, *, k):
    """log_prob of component k at many positions."""
    return jax.vmap(lambda v: nw.log_prob(component(p, k), *split(v[None], p.loc.shape[1])))(u)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_log_prob_is_the_textbook_density_times_the_jacobian(x64, dim):
    """SciPy's Wishart of Lambda and Normal of mu, carried over by the Jacobian that autodiff finds."""
    p = params(dim)
    rows, columns = np.tril_indices(dim)

    def precision_of(v):
        _, whitener = nw.unpack(v[None, dim:], dim)
        return (whitener[0].T @ whitener[0])[rows, columns]

    jacobian_of = jax.jit(jax.jacobian(precision_of))
    for k in range(K):
        u = jnp.asarray(positions(p, k, n=3))
        loc, kappa, dof, rate = dense(p, k)
        found = log_probs(p, u, k=k)
        for value, v in zip(found, u, strict=True):
            _, whitener = nw.unpack(v[None, dim:], dim)
            precision = np.asarray(whitener[0].T @ whitener[0])
            jacobian = jacobian_of(v)[:, dim:]
            want = (
                stats.multivariate_normal(loc, np.linalg.inv(kappa * precision)).logpdf(v[:dim])
                + stats.wishart(dof, np.linalg.inv(rate)).logpdf(precision)
                + np.linalg.slogdet(jacobian)[1]
            )
            np.testing.assert_allclose(value, want, rtol=1e-10)


def test_log_prob_is_numpyro_s_wishart_cholesky(x64):
    dim = 3
    p = params(dim)
    loc, kappa, dof, rate = dense(p, 0)
    rows, columns = np.tril_indices(dim)
    wishart = dist.WishartCholesky(dof, rate_matrix=jnp.asarray(rate))

    def factor_of(v):
        """numpyro's variable: the lower Cholesky factor of Lambda."""
        _, whitener = nw.unpack(v[None, dim:], dim)
        return jnp.linalg.cholesky(whitener[0].T @ whitener[0])

    jacobian_of = jax.jit(jax.jacobian(lambda v: factor_of(v)[rows, columns]))
    u = jnp.asarray(positions(p, 0, n=2))
    for v in u:
        factor = factor_of(v)
        jacobian = jacobian_of(v)[:, dim:]
        precision = np.asarray(factor @ factor.T)
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            log_wishart = wishart.log_prob(factor)
        want = (
            log_wishart
            + stats.multivariate_normal(loc, np.linalg.inv(kappa * precision)).logpdf(v[:dim])
            + np.linalg.slogdet(jacobian)[1]
        )
        np.testing.assert_allclose(log_probs(p, v[None], k=0)[0], want, rtol=1e-10)


def test_log_prob_gradient(x64):
    p = params(2)
    u = jnp.asarray(np.stack([positions(p, k, n=1)[0] for k in range(K)]))
    check_grads(jax.jit(lambda u: nw.log_prob(p, *split(u, 2))), (u,), order=1, modes=["rev"])


def test_pack_and_unpack_are_inverse():
    dim = 3
    u = jnp.asarray(np.random.default_rng(0).normal(size=(K, dim * (dim + 1) // 2)), jnp.float32)
    log_diag, whitener = nw.unpack(u, dim)
    np.testing.assert_array_equal(nw.pack(log_diag, whitener), u)
    np.testing.assert_array_equal(whitener, np.tril(whitener))
    np.testing.assert_allclose(np.diagonal(whitener, axis1=1, axis2=2), np.exp(log_diag), rtol=1e-6)
    # Every coordinate has its own place: no two of them, and no constant, share one.
    jacobian = jax.jit(jax.jacobian(lambda u: nw.unpack(u, dim)[1]))(u)
    assert (np.asarray(jacobian) != 0).sum() == K * dim * (dim + 1) // 2


@pytest.mark.parametrize("dim", [1, 3])
def test_natural_form_and_back(x64, dim):
    p = params(dim)
    centre = jnp.asarray(np.random.default_rng(3).normal(size=(K, dim)))
    back = nw.from_natural(nw.to_natural(p, centre))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-11), back, p)


def test_an_impossible_natural_is_nan():
    """A rate that is not positive definite must not pass for one."""
    natural = nw.to_natural(params(2, dtype=jnp.float32), jnp.zeros((K, 2), jnp.float32))
    broken = nw.Natural(
        count=natural.count,
        first=natural.first,
        second=-natural.second,
        dof=natural.dof,
        centre=natural.centre,
    )
    assert np.isnan(nw.from_natural(broken).rate_factor).any()


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_expected_log_det(x64, dim):
    p = params(dim)
    for k in range(K):
        _, _, dof, rate = dense(p, k)
        want = special.psi((dof - np.arange(dim)) / 2).sum() + dim * np.log(2) - np.linalg.slogdet(rate)[1]
        np.testing.assert_allclose(nw.expected_log_det(p)[k], want, rtol=1e-12)


def textbook_kl(q, p, dim):
    """-H[q] - E_q[log p], Bishop (2006) B.80 to B.82."""

    def log_b(dof, rate):
        powers = dof / 2 * np.linalg.slogdet(rate)[1] - dof * dim / 2 * np.log(2)
        return powers - special.multigammaln(dof / 2, dim)

    (m, kappa, dof, rate), (m0, kappa0, dof0, rate0) = q, p
    log_det = special.psi((dof - np.arange(dim)) / 2).sum() + dim * np.log(2) - np.linalg.slogdet(rate)[1]
    inverse = np.linalg.inv(rate)
    wishart = (
        log_b(dof, rate)
        - log_b(dof0, rate0)
        + (dof - dof0) / 2 * log_det
        - dof * dim / 2
        + dof / 2 * np.trace(rate0 @ inverse)
    )
    gap = m - m0
    normal = dim / 2 * (kappa0 / kappa - 1 + np.log(kappa / kappa0)) + kappa0 * dof / 2 * gap @ inverse @ gap
    return wishart + normal


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("count", [0.0, 50.0])
def test_kl(x64, dim, count):
    q, p = params(dim, count=count), params(dim, seed=5)
    found = [float(sum(nw.kl_parts(component(q, k), component(p, k)))) for k in range(K)]
    want = [textbook_kl(dense(q, k), dense(p, k), dim) for k in range(K)]
    np.testing.assert_allclose(found, want, rtol=1e-9)
    assert min(found) > 0
    np.testing.assert_allclose(sum(nw.kl_parts(q, p)), sum(want), rtol=1e-9)
    np.testing.assert_allclose(sum(nw.kl_parts(q, q)), 0.0, atol=1e-9)


def test_kl_of_means_and_of_covariances(x64):
    """Each part is blind to what the other is about, given the same precisions."""
    q = params(2)
    moved = dataclasses.replace(q, loc=q.loc + 1.0, mean_precision=3.0 * q.mean_precision)
    means, covariances = nw.kl_parts(q, moved)
    assert float(means) > 0
    np.testing.assert_allclose(covariances, 0.0, atol=1e-10)
    means, covariances = nw.kl_parts(q, dataclasses.replace(q, dof=q.dof + 3.0))
    np.testing.assert_allclose(means, 0.0, atol=1e-10)
    assert float(covariances) > 0


@pytest.fixture(scope="module")
def drawn():
    """Parameters of dimension 2 and SciPy's draws of the position of every component."""
    with jax.enable_x64(True):
        p = params(2)
    return p, [positions(p, k) for k in range(K)]


def test_entropy_against_draws(x64, drawn):
    p, draws = drawn
    for k, u in enumerate(draws):
        within_5_se(nw.entropy(component(p, k)), -np.asarray(log_probs(p, jnp.asarray(u), k=k)))


@pytest.mark.parametrize("dim", [1, 3])
def test_entropy_in_other_dimensions(x64, dim):
    p = params(dim)
    within_5_se(
        nw.entropy(component(p, 0)), -np.asarray(log_probs(p, jnp.asarray(positions(p, 0, n=30_000)), k=0))
    )


def check_moments(p, draws):
    found = nw.position_moments(p)
    mean = np.concatenate([found.loc, found.coords], axis=-1)
    sd = np.concatenate([found.loc_sd, found.coords_sd], axis=-1)
    for k, u in enumerate(draws):
        within_5_se(mean[k], u)
        within_5_se(np.square(sd[k]), np.square(u - np.asarray(mean[k])))


def test_position_moments_against_draws(x64, drawn):
    check_moments(*drawn)


def test_position_moments_in_three_dimensions(x64):
    p = params(3, k=1)
    check_moments(p, [positions(p, 0)])


def test_samples_have_the_law_that_they_should(x64, drawn):
    """Coordinate by coordinate the same distribution as SciPy's draws, and the same correlations."""
    p, draws = drawn
    keys = jax.random.split(jax.random.key(0), 20_000)
    found = np.concatenate(jax.jit(jax.vmap(lambda k: nw.sample(p, k)))(keys), axis=-1)
    for k, u in enumerate(draws):
        for j in range(u.shape[1]):
            assert stats.ks_2samp(found[:, k, j], u[:20_000, j]).pvalue > 1e-4
        gap = np.corrcoef(found[:, k], rowvar=False) - np.corrcoef(u, rowvar=False)
        assert np.abs(gap).max() < 5 * np.sqrt(1 / 20_000 + 1 / DRAWS)
    # Components are independent of each other.
    across = np.corrcoef(found[:, 0], found[:, 1], rowvar=False)[:5, 5:]
    assert np.abs(across).max() < 5 / np.sqrt(20_000)


@pytest.mark.parametrize("count", [30.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("name", ["kl", "entropy", "expected_log_det", "position_moments"])
def test_float32_is_close_to_float64(name, count):
    """A posterior of a million rows keeps its digits: nothing is a difference of terms of order `count`.

    Errors are some rounding of terms of order D log(count); an sd carries a relative error.
    """
    dim = 3
    with jax.enable_x64(True):
        double = params(dim, count=count)
        # Round first: only the function's own rounding is measured.
        double = jax.tree.map(lambda leaf: leaf.astype(jnp.float32).astype(jnp.float64), double)
        prior = jax.tree.map(lambda leaf: leaf.astype(jnp.float32).astype(jnp.float64), params(dim, seed=5))

    def run(dtype):
        q, p = (
            jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf), dtype), tree) for tree in (double, prior)
        )
        found = sum(nw.kl_parts(q, p)) if name == "kl" else getattr(nw, name)(q)
        if name == "position_moments":
            found = [
                jnp.concatenate(pair, axis=-1)
                for pair in ((found.loc, found.coords), (found.loc_sd, found.coords_sd))
            ]
        return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(found)]

    single = run(jnp.float32)
    with jax.enable_x64(True):
        want = run(jnp.float64)
    eps = np.finfo(np.float32).eps
    if name == "position_moments":
        # In units of the posterior's own sd, which is 1/sqrt(count) of the coordinate; sd itself relatively.
        assert np.all(np.abs(single[0] - want[0]) < 20 * eps * (1 + np.abs(want[0])))
        np.testing.assert_allclose(single[1], want[1], rtol=200 * eps)
    else:
        assert np.all(np.abs(single[0] - want[0]) < 8 * eps * (100 + 10 * np.log(count) + np.abs(want[0])))
