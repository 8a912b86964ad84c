"""Natural features: sums of one pass against plain float64 NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from vigmm.core.typing import Batch
from vigmm.math.features import features, num_features, sweep

KINDS = ["products", "squares", "square"]


def expected(kind: str, x: np.ndarray) -> np.ndarray:
    """By the definition, in order."""
    dim = x.shape[1]
    pairs = [(i, j) for i in range(dim) for j in range(i, dim)]
    second = {
        "products": [x[:, i] * x[:, j] for i, j in pairs],
        "squares": [x[:, i] ** 2 for i in range(dim)],
        "square": [(x**2).sum(1)],
    }[kind]
    return np.stack([*second, *x.T, np.ones(len(x))], axis=1)


@pytest.mark.parametrize("dim", [1, 3, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_features_are_products_columns_and_one(kind, dim, x64):
    x = np.random.default_rng(dim).normal(size=(7, dim))
    want = expected(kind, x)
    assert want.shape[1] == num_features(kind, dim)
    np.testing.assert_allclose(features(kind, jnp.asarray(x)), want, rtol=1e-15)


# Few columns, some, and so many that their products are not made.
@pytest.mark.parametrize("tile", [5, 64])
@pytest.mark.parametrize("dim", [3, 6, 36])
@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_is_the_likelihood_and_its_moments(kind, dim, tile, x64):
    """Two draws at once, one component out of use, a row that counts nothing."""
    draw = np.random.default_rng(1)
    x, weight = draw.normal(size=(23, dim)), draw.uniform(size=23)
    weight[4] = 0.0
    slopes = draw.normal(size=(2, 3, num_features(kind, dim))) / dim
    slopes[..., -1] = 0.0
    level = draw.normal(size=(2, 3))
    level[1, 2] = -np.inf

    def joint(x, t):
        t = t if t.shape[1] else features(kind, x)
        return jnp.einsum("skf,bf->sbk", jnp.asarray(slopes), t) + jnp.asarray(level)[:, None]

    batch = Batch(x=jnp.asarray(x), weight=jnp.asarray(weight))
    value, moments = jax.jit(lambda batch: sweep(kind, joint, batch, tile))(batch)
    t = expected(kind, x)
    log_joint = np.einsum("skf,bf->sbk", slopes, t) + level[:, None]
    log_norm = logsumexp(log_joint, axis=-1)
    shares = np.exp(log_joint - log_norm[..., None])
    np.testing.assert_allclose(value, log_norm @ weight, rtol=1e-12)
    want = np.einsum("sbk,bf->skf", shares * weight[:, None], t)
    np.testing.assert_allclose(moments, want, rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(moments[1, 2], 0.0)
