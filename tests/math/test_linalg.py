"""Dense linear algebra helpers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vigmm.math.linalg import LOG_2PI, cholesky, einsum, log_diag_sum, outer, tril_inverse


def matrices(k: int, dim: int) -> np.ndarray:
    a = np.random.default_rng(dim).normal(size=(k, dim, dim))
    return a @ a.transpose(0, 2, 1) + np.eye(dim)


@pytest.mark.parametrize("dim", [1, 3])
def test_cholesky_and_its_inverse(dtype, dim):
    """L L^T = M and L^-1 L = I, as triangular matrices, for a stack of matrices."""
    eps = np.finfo(dtype).eps
    m = jnp.asarray(matrices(4, dim), dtype)
    factor = cholesky(m)
    inverse = tril_inverse(factor)
    assert factor.dtype == inverse.dtype == dtype
    for found in (factor, inverse):
        np.testing.assert_array_equal(found, np.tril(found))
    condition = np.linalg.cond(np.asarray(m, np.float64)).max()
    np.testing.assert_allclose(factor @ factor.mT, m, rtol=0, atol=20 * eps * np.abs(m).max())
    np.testing.assert_allclose(
        inverse @ factor, np.broadcast_to(np.eye(dim), m.shape), rtol=0, atol=20 * eps * condition
    )
    want = 0.5 * np.linalg.slogdet(np.asarray(m, np.float64))[1]
    np.testing.assert_allclose(log_diag_sum(factor), want, rtol=50 * eps, atol=50 * eps)


def test_cholesky_of_an_indefinite_matrix_is_nan():
    """NaN, and never a number: the step's finiteness check depends on it."""
    good, bad = np.eye(2), np.array([[1.0, 2.0], [2.0, 1.0]])
    factor = np.asarray(cholesky(jnp.asarray(np.stack([good, bad]), jnp.float32)))
    assert np.isfinite(factor[0]).all()
    assert np.isnan(factor[1]).any()


def test_outer():
    v = jnp.asarray([[1.0, 2.0], [3.0, -1.0]])
    np.testing.assert_array_equal(outer(v), [[[1, 2], [2, 4]], [[9, -3], [-3, 1]]])


def test_log_2pi():
    assert np.log(2 * np.pi) == LOG_2PI


def test_einsum_asks_for_full_precision():
    """TF32 on accelerators destroys Mahalanobis distances: every product must say otherwise."""
    jaxpr = jax.make_jaxpr(lambda a, b: einsum("bj,kij->bki", a, b))(jnp.ones((3, 2)), jnp.ones((4, 2, 2)))
    products = [eqn for eqn in jaxpr.jaxpr.eqns if "dot_general" in str(eqn)]
    assert products
    assert "HIGHEST" in str(jaxpr).upper()
