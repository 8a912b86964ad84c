"""Derivatives of log-Gamma draws, against the incomplete gamma function and against known expectations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from vigmm.math.gamma import log_gamma, slope

# (shape, log of the draw, derivative of that at a fixed quantile), by mpmath with 60 digits: log F from
# hyp1f1(a, a + 1, -x) below one and from gammainc above, differentiated numerically in a.
GOLDEN = [
    (0.001, -5000.0, 4999424.42806819),
    (0.001, -50.0, 49424.4280681897),
    (0.001, -1.0, 1098.257026489057),
    (0.01, -700.0, 69943.91145421313),
    (0.01, -36.5, 3593.911454213133),
    (0.01, -35.5, 3493.9114542131338),
    (0.01, -2.0, 179.23942673783773),
    (0.2, -90.0, 448.55480051703904),
    (0.2, -10.0, 48.55679518573178),
    (0.2, 1.0, 1.9464249608782502),
    (1.0, -3.0, 3.522218025039085),
    (1.0, 0.5, 0.9069478780456431),
    (2.5, -4.0, 2.052590695999683),
    (2.5, 0.75, 0.46385815686421655),
    (2.5, 2.0, 0.23660167157898043),
    (50.0, 3.6888794541139363, 0.022388742568651882),
    (50.0, 4.127134385045092, 0.017985739855738807),
    (999.0, 6.824373670043086, 0.0010429727942144922),
    (999.0, 6.966024187106113, 0.0009717917449324158),
    (1001.0, 6.824373670043086, 0.0010419155154268475),
    (1001.0, 6.966024187106113, 0.0009708295439564996),
    (30000.0, 10.292145542327912, 3.3614423377380375e-05),
    (30000.0, 10.322197887394314, 3.311325083607569e-05),
]
DRAWS = 20_000
slopes = jax.jit(slope)
SHAPES = (1e-3, 0.01, 0.05, 0.3, 1.0, 4.0, 300.0, 3e4, 1e6)


def test_slope_is_the_implicit_derivative(dtype):
    shape, log_draw, want = (np.array(column) for column in zip(*GOLDEN, strict=True))
    found = slopes(jnp.asarray(shape, dtype), jnp.asarray(log_draw, dtype))
    assert found.dtype == dtype
    # In single precision the draw itself is known to 1e-7 of its logarithm only.
    np.testing.assert_allclose(found, want, rtol=2e-10 if dtype == np.float64 else 3e-5)


@jax.jit
def moved(shapes, key):
    """Draws and their derivatives."""
    draw = jax.jvp(lambda a: log_gamma(key, a), (shapes,), (jnp.ones_like(shapes),))
    return draw[0], draw[1]


@pytest.mark.slow
def test_derivatives_of_expectations(dtype):
    """E[log g] = psi(a) and Var[log g] = psi'(a): their derivatives are means over draws, at every shape.

    The variance tells whether slopes know how far a draw is from its mean; less the mean slope, so that this
    shows at large shapes too.
    """
    shapes = jnp.repeat(jnp.asarray(SHAPES, dtype), DRAWS).reshape(len(SHAPES), DRAWS)
    log_draw, every = (np.asarray(found, np.float64) for found in moved(shapes, jax.random.key(0)))
    for a, draws, moves in zip(SHAPES, log_draw, every, strict=True):
        a = float(np.asarray(a, dtype))
        first, second, third = (special.polygamma(order, a) for order in (0, 1, 2))
        for values, want in ((moves, second), (2.0 * (draws - first) * (moves - second), third)):
            error = values.std() / np.sqrt(DRAWS)
            assert abs(values.mean() - want) < 5 * error + 1e-6 * abs(want)
        # Power: JAX's own derivative is off by half at 0.01.
        assert moves.std() / np.sqrt(DRAWS) < 0.03 * second


def test_slopes_are_finite_at_any_shape():
    """As far as 1/a^2 is a number."""
    shape = np.resize([1e-15, 1e-4, 1e12], len(GOLDEN)).astype(np.float32)
    log_draw = np.log(shape) + np.where(shape < 1, -1.0 / shape, 0.0).astype(np.float32)
    assert np.isfinite(slopes(jnp.asarray(shape), jnp.asarray(log_draw))).all()
