"""Shares and moments of rows, against float64 NumPy."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from scipy.special import logsumexp

from vigmm.math.rows import largest, scatter, softmax


@pytest.mark.parametrize("dim", [1, 2, 4, 5])
def test_moments_about_far_centres_keep_their_digits(dim):
    """Both forms, for few and for many columns; a cluster of sd 1e-3 at 1 keeps its variance in float32."""
    draw = np.random.default_rng(dim)
    x = (1.0 + 1e-3 * draw.normal(size=(400, dim))).astype(np.float32)
    weight = draw.uniform(size=(400, 3)).astype(np.float32)
    centre = np.stack([x.mean(0), np.zeros(dim, np.float32), x[0]]).astype(np.float32)
    first, second = jax.jit(scatter)(x, weight, centre)
    shifted = x[None].astype(np.float64) - centre[:, None]
    heavy = weight.T[:, :, None] * shifted
    # Sums of 400 terms: 400 eps of the sum of sizes, at worst.
    np.testing.assert_allclose(first, heavy.sum(1), atol=400 * 6e-8 * np.abs(heavy).sum(1).max())
    want = np.einsum("kbi,kbj->kij", heavy, shifted)
    for k in range(3):
        np.testing.assert_allclose(second[k], want[k], atol=400 * 6e-8 * np.abs(want[k]).max())


@pytest.mark.parametrize("dim", [2, 5])
def test_shares_and_their_normaliser(dim):
    log_joint = np.random.default_rng(0).normal(scale=50.0, size=(30, 4)).astype(np.float32)
    log_joint[:, 2] = -np.inf
    log_joint[0, :2] = -1e30
    shares, log_norm = jax.jit(softmax, static_argnames="dim")(log_joint, dim=dim)
    want = logsumexp(log_joint.astype(np.float64), axis=1)
    np.testing.assert_allclose(log_norm, want, rtol=1e-6)
    np.testing.assert_allclose(shares, np.exp(log_joint.astype(np.float64) - want[:, None]), atol=1e-6)
    np.testing.assert_array_equal(shares[:, 2], 0.0)


def test_the_largest_is_where_argmax_says():
    draw = np.random.default_rng(0)
    values = draw.integers(-3, 4, size=(200, 7)).astype(np.float32)
    values[:, 2] = -np.inf
    np.testing.assert_array_equal(largest(values), values.argmax(axis=1))
    values[0, 3] = np.nan
    assert int(largest(values)[0]) == 6
