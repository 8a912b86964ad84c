"""Gamma-function combinations against integrals and double precision."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, special, stats

from vigmm.math.special import kl_beta, log_beta, log_gamma_gap, log_gamma_ratio, log_half_step


def binet_gap(x: float) -> float:
    """x psi(x) - log Gamma(x) - x from Binet's second integrals (Whittaker and Watson, 12.32), any x > 0.

    log Gamma(x) = (x - 1/2) log x - x + log(2 pi)/2 + 2 int atan(t/x) / (e^(2 pi t) - 1) dt
    psi(x) = log x - 1/(2x) - 2 int t / ((t^2 + x^2) (e^(2 pi t) - 1)) dt
    """

    def integrand(t: float) -> float:
        return (x * t / (t * t + x * x) + np.arctan(t / x)) / np.expm1(2 * np.pi * t)

    # The integrand bends where t is about x.
    pieces = [(0.0, min(x, 1.0)), (min(x, 1.0), 8.0)]
    area = sum(
        integrate.quad(integrand, a, b, epsabs=0, epsrel=1e-13, limit=200)[0] for a, b in pieces if b > a
    )
    return 0.5 * np.log(x) - 0.5 * (1 + np.log(2 * np.pi)) - 2 * area


# Both sides of the change of method at 32, and far out.
POINTS = np.array(
    [1e-3, 1e-2, 0.3, 1.0, 2.5, 10.0, 31.0, 31.999, 32.0, 32.001, 33.0, 1e2, 1e3, 1e4, 1e6, 1e8]
)


@pytest.fixture(scope="module")
def gaps() -> np.ndarray:
    found = np.array([binet_gap(x) for x in POINTS])
    # The integrals agree with the plain formula where it does not cancel.
    small = POINTS < 5
    plain = POINTS * special.psi(POINTS) - special.gammaln(POINTS) - POINTS
    np.testing.assert_allclose(found[small], plain[small], rtol=1e-12)
    return found


def test_log_gamma_gap_float64(x64, gaps):
    # The direct form just below 32 subtracts terms of 1e2: 1e2 eps.
    np.testing.assert_allclose(log_gamma_gap(jnp.asarray(POINTS)), gaps, rtol=1e-13, atol=1e-13)


def test_log_gamma_gap_float32(gaps):
    found = log_gamma_gap(jnp.asarray(POINTS, jnp.float32))
    assert found.dtype == jnp.float32
    # Direct form: terms up to 110; above, terms up to 10. Some ulp of those.
    eps = float(jnp.finfo(jnp.float32).eps)
    large = np.where(POINTS <= 32, np.maximum(110.0, np.abs(gaps)), 10.0)
    assert np.all(np.abs(np.asarray(found) - gaps) < 4 * eps * large)
    at = int(np.argmax(POINTS == 1e6))
    assert abs(float(found[at]) - gaps[at]) < 1e-5


def test_log_gamma_gap_is_continuous_and_increasing(x64):
    x = jnp.asarray(np.linspace(31.9, 32.1, 2001))
    steps = np.diff(log_gamma_gap(x))
    assert steps.min() > 0
    assert steps.max() < 1.01 * steps.min() + 1e-12


def test_log_gamma_gap_gradient(x64):
    """Its derivative is x psi'(x) - 1, on both branches, and finite everywhere."""
    found = jax.vmap(jax.grad(log_gamma_gap))(jnp.asarray(POINTS))
    inside = POINTS < 1e5  # beyond, the reference itself cancels
    want = POINTS * special.polygamma(1, POINTS) - 1
    np.testing.assert_allclose(found[inside], want[inside], rtol=1e-9)
    assert np.all(np.isfinite(found))


def test_log_gamma_gap_keeps_nan():
    assert np.isnan(log_gamma_gap(jnp.float32(np.nan)))


def exact_half_step(x: float) -> float:
    """log of Gamma(x + 1/2) / Gamma(x) / sqrt(x), from products: exact for whole and half x."""
    n = int(2 * x)
    assert n == 2 * x
    # Gamma(1) / Gamma(1/2) = pi^(-1/2); every half step turns the ratio over: r(x + 1/2) = x / r(x).
    log_ratio = -0.5 * np.log(np.pi)
    for i in range(1, n):
        log_ratio = np.log(i / 2) - log_ratio
    return log_ratio - 0.5 * np.log(x)


def test_log_half_step(dtype):
    """To relative precision, although it is tiny: variances are made of it."""
    x = np.array([0.5, 1.0, 1.5, 2.0, 7.0, 20.0, 31.5, 32.0, 32.5, 100.0, 1000.0])
    want = np.array([exact_half_step(value) for value in x])
    found = np.asarray(log_half_step(jnp.asarray(x, dtype)), np.float64)
    # The recurrence of the reference adds 2x roundings of logarithms.
    np.testing.assert_allclose(found, want, rtol=20 * np.finfo(dtype).eps, atol=2e-13)
    far = float(log_half_step(jnp.asarray(1e8, dtype)))
    np.testing.assert_allclose(far, -1 / 8e8, rtol=1e-5)


def test_log_half_step_gives_the_moments_of_chi(x64):
    dof = np.array([1.0, 3.0, 17.5, 63.0, 65.0, 200.0])
    step = np.asarray(log_half_step(jnp.asarray(dof / 2)))
    np.testing.assert_allclose(np.sqrt(dof) * np.exp(step), stats.chi(dof).mean(), rtol=1e-11)
    np.testing.assert_allclose(-dof * np.expm1(2 * step), stats.chi(dof).var(), rtol=1e-9)


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 7])
def test_log_gamma_ratio(dtype, dim):
    x = np.array([0.5, 1.3, 10.0, 31.9, 33.0, 1e3])
    x = x.astype(dtype).astype(np.float64)
    want = special.gammaln(x + dim / 2) - special.gammaln(x)
    found = log_gamma_ratio(jnp.asarray(x, dtype), dim)
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found, want, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps + 1e-12
    )
    # Far out it is D/2 log x, where the difference of log-Gammas has lost whole nats.
    far = np.asarray(log_gamma_ratio(jnp.asarray([1e7], dtype), dim), np.float64)
    np.testing.assert_allclose(far, dim / 2 * np.log(1e7), rtol=1e-6)


def test_log_beta(x64):
    rng = np.random.default_rng(0)
    a, b = np.exp(rng.normal(size=(2, 50)) * 3)
    np.testing.assert_allclose(
        log_beta(jnp.asarray(a), jnp.asarray(b)), special.betaln(a, b), atol=1e-10, rtol=1e-9
    )


def shapes(rng, n, largest):
    return np.exp(rng.uniform(np.log(0.02), np.log(largest), size=(4, n)))


def test_kl_beta_is_the_textbook_form(x64):
    a, b, c, d = shapes(np.random.default_rng(1), 200, 1e3)
    want = (
        special.betaln(c, d)
        - special.betaln(a, b)
        + (a - c) * special.psi(a)
        + (b - d) * special.psi(b)
        + (c + d - a - b) * special.psi(a + b)
    )
    found = kl_beta(*map(jnp.asarray, (a, b, c, d)))
    assert np.asarray(found).min() > 0
    np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-9)
    # NumPyro's stands on `betaln` of JAX, which is good to 1e-6 only.
    beta = dist.kl_divergence(
        dist.Beta(jnp.asarray(a), jnp.asarray(b)), dist.Beta(jnp.asarray(c), jnp.asarray(d))
    )
    np.testing.assert_allclose(found, beta, rtol=1e-5, atol=1e-5)


def test_kl_beta_is_an_integral(x64):
    """Straight from the definition, by quadrature over the interval."""
    for a, b, c, d in ((2.0, 5.0, 1.0, 1.0), (1.5, 3.0, 4.0, 2.0)):

        def integrand(v, a=a, b=b, c=c, d=d):
            log_q = (a - 1) * np.log(v) + (b - 1) * np.log1p(-v) - special.betaln(a, b)
            log_p = (c - 1) * np.log(v) + (d - 1) * np.log1p(-v) - special.betaln(c, d)
            return np.exp(log_q) * (log_q - log_p)

        want = integrate.quad(integrand, 0, 1, epsabs=1e-12)[0]
        np.testing.assert_allclose(kl_beta(*map(jnp.asarray, (a, b, c, d))), want, rtol=1e-8)


def test_kl_beta_of_itself_is_zero(x64):
    a, b, *_ = shapes(np.random.default_rng(2), 50, 1e6)
    a, b = jnp.asarray(a), jnp.asarray(b)
    # Terms are of the order of a log a; eps times that is left.
    assert np.all(np.abs(np.asarray(kl_beta(a, b, a, b))) < 1e-14 * np.asarray((a + b) * 20 + 20))


def test_kl_beta_float32_at_large_counts():
    """A posterior of a million rows against an ordinary prior: no terms of 1e7 are subtracted."""
    rng = np.random.default_rng(3)
    a, b = np.exp(rng.uniform(np.log(1.0), np.log(1e7), size=(2, 200)))
    c, d = np.exp(rng.uniform(np.log(0.05), np.log(50.0), size=(2, 200)))
    # Inputs are rounded first, so that only the function's own rounding is measured.
    rounded = [np.float32(value) for value in (a, b, c, d)]
    found = np.asarray(kl_beta(*map(jnp.asarray, rounded)))
    with jax.enable_x64(True):
        want = np.asarray(kl_beta(*(jnp.asarray(value, jnp.float64) for value in rounded)))
    # The largest terms are (a0 + b0) digamma and gaps of 1e2: 1e3 nats at most, and 4 ulp of them.
    scale = 1.0 + np.abs(want) + (c + d) * 20
    assert np.all(np.abs(found - want) < 8 * np.finfo(np.float32).eps * scale)
