"""Sticks against the Dirichlet and Beta distributions of SciPy, and against draws of NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from jax.test_util import check_grads
from scipy import optimize, special, stats

from vigmm.core.errors import SpecError
from vigmm.models import Dirichlet, DirichletProcess, Sticks, sticks

ALPHA = np.array([0.4, 3.0, 1.2, 7.5])
DRAWS = 200_000


def beta_sticks(a, b) -> Sticks:
    """A posterior of sticks whose concentration is known."""
    none, slope = jnp.zeros((0,), a.dtype), jnp.zeros((0, a.size), a.dtype)
    return Sticks(a=a, b=b, a_slope=slope, b_slope=slope, shape=none, rate=none)


def of_dirichlet(alpha, dtype=jnp.float64) -> Sticks:
    """Connor and Mosimann: a_j = alpha_j, b_j = sum of the later alphas."""
    later = np.cumsum(alpha[::-1])[::-1][1:]
    return beta_sticks(jnp.asarray(alpha[:-1], dtype), jnp.asarray(later, dtype))


def beta_draws(s: Sticks, n=DRAWS, seed=0) -> np.ndarray:
    """logit v, from log-Gamma draws of NumPy, which are exact for these shapes."""
    rng = np.random.default_rng(seed)
    a, b = np.asarray(s.a), np.asarray(s.b)
    return np.log(rng.gamma(a, size=(n, a.size))) - np.log(rng.gamma(b, size=(n, a.size)))


def within_5_se(found, samples):
    samples = np.asarray(samples)
    error = samples.std(0) / np.sqrt(len(samples))
    assert np.all(np.abs(np.asarray(found) - samples.mean(0)) < 5 * error)


def test_log_weights_are_broken_sticks(x64):
    u = np.array([0.3, -1.0, 2.0])
    v = special.expit(u)
    want = np.append(v, 1.0) * np.append(1.0, np.cumprod(1 - v))
    found = np.exp(sticks.log_weights(jnp.asarray(u), 4, 3))
    np.testing.assert_allclose(found, want, rtol=1e-14)
    np.testing.assert_allclose(found.sum(), 1.0, rtol=1e-14)


def test_log_weights_far_out_stay_finite():
    """An empty component of a sparse prior sits at logit v of minus hundreds."""
    found = np.asarray(sticks.log_weights(jnp.asarray([-800.0, 900.0, 5.0], jnp.float32), 4, 3))
    np.testing.assert_allclose(found, [-800.0, 0.0, -900.0, -905.0], atol=0.01)
    gradient = jax.jacobian(lambda u: sticks.log_weights(u, 4, 3))(
        jnp.asarray([-800.0, 900.0, 5.0], jnp.float32)
    )
    assert np.isfinite(gradient).all()


def test_one_component_has_no_sticks(x64):
    none = Dirichlet(1.0).prior(1, jnp.float64)
    assert none.a.shape == (0,)
    np.testing.assert_array_equal(sticks.log_weights(jnp.zeros(0), 1, 0), [0.0])
    np.testing.assert_array_equal(sticks.expected_log_weights(none, 1), [0.0])
    np.testing.assert_array_equal(sticks.expected_weights(none, 1), [1.0])
    assert sticks.log_prob(none, jnp.zeros(0)) == sticks.kl(none, none) == sticks.entropy(none) == 0.0
    assert sticks.update(none, jnp.asarray([7.0])).b.shape == (0,)


def test_priors():
    found = Dirichlet(0.5).prior(4, jnp.float32)
    np.testing.assert_array_equal(found.a, [0.5, 0.5, 0.5])
    np.testing.assert_array_equal(found.b, [1.5, 1.0, 0.5])
    np.testing.assert_array_equal(Dirichlet().prior(4, jnp.float32).a, [0.25, 0.25, 0.25])
    found = DirichletProcess(2.5).prior(3, jnp.float32)
    np.testing.assert_array_equal(found.a, [1.0, 1.0])
    np.testing.assert_array_equal(found.b, [2.5, 2.5])


def test_update_adds_counts(x64):
    """a_j + n_j and b_j + sum_{l>j} n_l; for a Dirichlet that is alpha + n."""
    counts = np.array([5.0, 0.0, 2.5, 11.0])
    found = sticks.update(of_dirichlet(ALPHA), jnp.asarray(counts))
    want = of_dirichlet(ALPHA + counts)
    np.testing.assert_allclose(found.a, want.a, rtol=1e-14)
    np.testing.assert_allclose(found.b, want.b, rtol=1e-14)


def test_log_prob_is_beta_with_its_jacobian(x64):
    s, u = of_dirichlet(ALPHA), np.array([0.3, -1.0, 2.0])
    v = special.expit(u)
    want = np.sum(stats.beta(np.asarray(s.a), np.asarray(s.b)).logpdf(v) + np.log(v) + np.log1p(-v))
    np.testing.assert_allclose(sticks.log_prob(s, jnp.asarray(u)), want, rtol=1e-12)


def test_log_prob_is_dirichlet(x64):
    """The same density as a Dirichlet's, carried over by the Jacobian that autodiff finds."""
    u = jnp.asarray([0.3, -1.0, 2.0])
    pi = np.exp(sticks.log_weights(u, 4, 3))
    jacobian = jax.jacobian(lambda u: jnp.exp(sticks.log_weights(u, 4, 3))[:-1])(u)
    want = stats.dirichlet(ALPHA).logpdf(pi / pi.sum()) + np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(sticks.log_prob(of_dirichlet(ALPHA), u), want, rtol=1e-11)


def test_moments_are_those_of_the_dirichlet(x64):
    s, total = of_dirichlet(ALPHA), ALPHA.sum()
    mean = ALPHA / total
    np.testing.assert_allclose(
        sticks.expected_log_weights(s, 4), special.psi(ALPHA) - special.psi(total), rtol=1e-12
    )
    np.testing.assert_allclose(sticks.expected_weights(s, 4), mean, rtol=1e-12)
    found_mean, found_sd = sticks.weight_moments(s, 4)
    np.testing.assert_allclose(found_mean, mean, rtol=1e-12)
    np.testing.assert_allclose(found_sd, np.sqrt(mean * (1 - mean) / (total + 1)), rtol=1e-9)


def test_moments_of_sticks_that_are_no_dirichlet(x64):
    s = beta_sticks(jnp.asarray([1.0, 4.0]), jnp.asarray([2.5, 2.0]))
    v = special.expit(beta_draws(s))
    pi = np.column_stack([v[:, 0], (1 - v[:, 0]) * v[:, 1], (1 - v[:, 0]) * (1 - v[:, 1])])
    within_5_se(sticks.expected_weights(s, 3), pi)
    within_5_se(sticks.expected_log_weights(s, 3), np.log(pi))
    mean, sd = sticks.weight_moments(s, 3)
    within_5_se(np.square(sd), np.square(pi - np.asarray(mean)[None]))


def test_kl_is_that_of_the_dirichlet(x64):
    rng = np.random.default_rng(0)
    for _ in range(5):
        q, p = np.exp(rng.normal(size=(2, 5)))
        mean_log = special.psi(q) - special.psi(q.sum())
        want = (
            special.gammaln(q.sum())
            - special.gammaln(q).sum()
            - special.gammaln(p.sum())
            + special.gammaln(p).sum()
        ) + (q - p) @ mean_log
        found = sticks.kl(of_dirichlet(q), of_dirichlet(p))
        np.testing.assert_allclose(found, want, rtol=1e-9)
        numpyro = dist.kl_divergence(dist.Dirichlet(jnp.asarray(q)), dist.Dirichlet(jnp.asarray(p)))
        np.testing.assert_allclose(found, numpyro, rtol=1e-9)
    assert sticks.kl(of_dirichlet(q), of_dirichlet(q)) == pytest.approx(0.0, abs=1e-12)


def test_entropy_against_draws(x64):
    s = of_dirichlet(ALPHA)
    u = beta_draws(s)
    logs = jax.jit(jax.vmap(lambda one: sticks.log_prob(s, one)))(jnp.asarray(u))
    within_5_se(sticks.entropy(s), -np.asarray(logs))


@pytest.mark.parametrize("a", [0.05, 0.3, 2.0, 200.0])
@pytest.mark.parametrize("b", [3.0, 1e4])
def test_gaussian_fit_is_nearly_the_closest_gaussian(x64, a, b):
    """KL(Gaussian || logit-Beta) by quadrature, against a numerical minimum started from it."""
    s = beta_sticks(jnp.asarray([a]), jnp.asarray([b]))
    nodes, weight = np.polynomial.hermite_e.hermegauss(80)
    weight = weight / weight.sum()

    def divergence(point):
        u = point[0] + np.exp(point[1]) * nodes
        log_p = a * special.log_expit(u) + b * special.log_expit(-u) - special.betaln(a, b)
        return -(point[1] + 0.5 * np.log(2 * np.pi * np.e)) - weight @ log_p

    mean, sd = sticks.gaussian_fit(s)
    start = np.array([float(mean[0]), np.log(float(sd[0]))])
    best = optimize.minimize(divergence, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-10})
    # Matching moments would cost up to 6,245 nats here (a = 0.05, b = 1e4).
    assert divergence(start) < best.fun + 0.5


def test_samples(x64):
    s = of_dirichlet(ALPHA)
    u = np.asarray(
        jax.jit(jax.vmap(lambda k: sticks.sample(s, k)))(jax.random.split(jax.random.key(0), 50_000))
    )
    for j in range(u.shape[1]):
        cdf = stats.beta(float(s.a[j]), float(s.b[j])).cdf
        assert stats.kstest(special.expit(u[:, j]), cdf).pvalue > 1e-4
    correlation = np.corrcoef(u, rowvar=False)
    assert np.abs(correlation - np.eye(3)).max() < 5 / np.sqrt(len(u))


def test_samples_of_tiny_shapes_are_finite():
    """float32, concentration 0.001: v itself would underflow to 0 for most draws."""
    s = beta_sticks(jnp.full((1000,), 1e-3, jnp.float32), jnp.full((1000,), 1e4, jnp.float32))
    u = np.asarray(sticks.sample(s, jax.random.key(1)))
    assert np.isfinite(u).all()
    # log v is about -Exp(mean 1/a): its mean over 1000 draws within 5 standard errors.
    want = special.psi(1e-3) - special.psi(1e4)
    assert abs(u.mean() - want) < 5 * 1000.0 / np.sqrt(1000)


def test_log_prob_gradient(x64):
    s = of_dirichlet(ALPHA)
    check_grads(lambda u: sticks.log_prob(s, u), (jnp.asarray([0.3, -1.0, 2.0]),), order=1, modes=["rev"])


@pytest.mark.parametrize("count", [30.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("name", ["kl", "entropy", "expected_log_weights", "weight_moments", "gaussian_fit"])
def test_float32_is_close_to_float64(name, count):
    """With a million counts no result loses more than some rounding of terms of the order of log(count)."""
    counts = np.array([0.5, 0.3, 0.0, 0.2]) * count

    def run(dtype):
        prior = DirichletProcess(1.5).prior(4, dtype)
        s = sticks.update(prior, jnp.asarray(counts, dtype))
        more = {"kl": (prior,), "expected_log_weights": (4,), "weight_moments": (4,)}.get(name, ())
        found = getattr(sticks, name)(s, *more)
        return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(found)]

    single = run(jnp.float32)
    with jax.enable_x64(True):
        double = run(jnp.float64)
    eps = np.finfo(np.float32).eps
    for one, two in zip(single, double, strict=True):
        if name == "weight_moments":
            np.testing.assert_allclose(one, two, rtol=100 * eps)
        else:
            assert np.all(np.abs(one - two) < 8 * eps * (10 + 10 * np.log(count)))


@pytest.mark.parametrize("spec", [Dirichlet, DirichletProcess])
@pytest.mark.parametrize("value", [0.0, -1.0, np.inf, np.nan])
def test_concentrations_are_positive_and_finite(spec, value):
    with pytest.raises(SpecError, match="concentration must be > 0 and finite"):
        spec(concentration=value)
