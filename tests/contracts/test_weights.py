"""What mixtures and families rely on, for every weight prior and each of its variants."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from vigmm.models import WEIGHTS, Dirichlet, DirichletProcess, Gamma, PitmanYor, Sticks, sticks

pytestmark = pytest.mark.contract

K, DRAWS = 4, 100_000
COUNTS = np.array([5.0, 0.0, 2.5, 1.0])
VARIANTS = {
    "dirichlet": Dirichlet(1.3),
    "asymmetric": Dirichlet((0.4, 3.0, 1.2, 7.5)),
    "sparse": Dirichlet(0.05),
    "dirichlet_hyper": Dirichlet(hyper=Gamma(2.0, 3.0)),
    "process": DirichletProcess(2.5),
    "process_free": DirichletProcess(2.5, last_stick="free"),
    "process_hyper": DirichletProcess(hyper=Gamma(2.0, 1.5)),
    "process_free_hyper": DirichletProcess(hyper=Gamma(2.0, 1.5), last_stick="free"),
    "pitman_yor": PitmanYor(1.5, 0.4),
    "default": Dirichlet(),
}
CONJUGATE = [name for name, row in VARIANTS.items() if row.refusal() is None]
every = pytest.mark.parametrize("name", VARIANTS)
conjugate = pytest.mark.parametrize("name", CONJUGATE)


def within_5_se(found, samples, slack=1e-12):
    samples = np.asarray(samples)
    error = samples.std(0) / np.sqrt(len(samples))
    assert np.all(np.abs(np.asarray(found) - samples.mean(0)) < 5 * error + slack)


def posterior_of(name) -> tuple[Sticks, Sticks]:
    """Prior, and the posterior of a few coordinate steps, so that q(gamma) has moved."""
    prior = VARIANTS[name].prior(K, jnp.float64)
    q = sticks.update(prior, jnp.asarray(COUNTS))
    for _ in range(3):
        q = sticks.update(prior, jnp.asarray(COUNTS), q)
    return prior, q


@jax.jit
def log_probs(s, u):
    return jax.vmap(lambda one: sticks.log_prob(s, one))(u)


@jax.jit
def samples(s):
    return jax.vmap(lambda key: sticks.sample(s, key))(jax.random.split(jax.random.key(0), DRAWS))


def scipy_draws(s: Sticks, n=DRAWS) -> np.ndarray:
    """Positions by NumPy's Gamma draws, exact for a prior as well: gamma first, then the sticks."""
    rng = np.random.default_rng(0)
    shape, rate = np.asarray(s.shape), np.asarray(s.rate)
    gamma = rng.gamma(shape, size=(n, shape.size)) / rate
    a = np.asarray(s.a) + gamma @ np.asarray(s.a_slope)
    b = np.asarray(s.b) + gamma @ np.asarray(s.b_slope)

    def log_gamma(a):
        # Gamma(a) = Gamma(a + 1) U^(1/a): no underflow at small shapes.
        return np.log(rng.gamma(a + 1.0)) + np.log(rng.uniform(size=a.shape)) / a

    return np.concatenate([log_gamma(a) - log_gamma(b), np.log(gamma)], axis=1)


@every
@pytest.mark.parametrize("k", [1, 2, 5])
def test_proper_sticks(name, k, dtype):
    row = VARIANTS[name]
    if name == "asymmetric":
        row = Dirichlet((0.4, 3.0, 1.2, 7.5, 0.2)[:k])
    found = row.prior(k, dtype)
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(found))
    assert found.a.shape == found.b.shape == (row.num_sticks(k),)
    assert found.shape.shape == found.rate.shape == (row.num_hyper(),)
    mean = sticks.expected_concentration(found)
    a = np.asarray(found.a) + np.asarray(mean) @ np.asarray(found.a_slope)
    b = np.asarray(found.b) + np.asarray(mean) @ np.asarray(found.b_slope)
    assert np.all(a > 0)
    assert np.all(b > 0)
    post = sticks.update(found, jnp.ones((k,), dtype))
    assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(post))
    total = float(np.sum(sticks.expected_weights(post, k)))
    if row.num_sticks(k) == k:
        assert total < 1.0
    else:
        assert total == pytest.approx(1.0, rel=10 * float(np.finfo(dtype).eps))


@every
def test_density_integrates_to_one(name, x64):
    """E_prior[r / prior] = 1 for a density r inside the prior, over sticks and concentration."""
    prior = VARIANTS[name].prior(K, jnp.float64)
    u = scipy_draws(prior)
    log_p = np.asarray(log_probs(prior, jnp.asarray(u)))
    # A box of medium draws: narrow enough to stay where the prior is, whatever its tails.
    low, high = np.quantile(u, [0.3, 0.7], axis=0)
    inside = np.all((u > low) & (u < high), axis=1)
    ratio = np.where(inside, np.exp(-np.sum(np.log(high - low)) - log_p), 0.0)
    error = ratio.std() / np.sqrt(DRAWS)
    assert error < 0.05
    assert abs(ratio.mean() - 1) < 5 * error


@conjugate
def test_conjugate_to_counts(name, x64):
    """Bayes' rule: log p(u) + sum_k n_k log pi_k - log p(u | n) is the same at every u, given gamma."""
    row = VARIANTS[name]
    prior, counts, gamma = row.prior(K, jnp.float64), jnp.asarray(COUNTS), 1.7
    rng = np.random.default_rng(0)
    size = row.num_sticks(K)
    u = np.concatenate(
        [2.0 * rng.normal(size=(20, size)), np.full((20, row.num_hyper()), np.log(gamma))], axis=1
    )
    # With q(gamma) a spike at gamma the target's sticks are the posterior given gamma.
    known = Sticks(
        a=prior.a + gamma * jnp.sum(prior.a_slope, axis=0),
        b=prior.b + gamma * jnp.sum(prior.b_slope, axis=0),
        a_slope=prior.a_slope[:0],
        b_slope=prior.b_slope[:0],
        shape=prior.shape[:0],
        rate=prior.rate[:0],
    )
    post = sticks.update(known, counts)
    log_weights = jax.vmap(lambda one: sticks.log_weights(one, K, size))(jnp.asarray(u))
    found = (
        log_probs(prior, jnp.asarray(u)) + log_weights @ counts - log_probs(post, jnp.asarray(u[:, :size]))
    )
    np.testing.assert_allclose(found, np.full(20, found[0]), rtol=1e-9)


@conjugate
def test_expectations_are_means_over_draws(name, x64):
    """Divergence, entropy and expected weights, each within 5 standard errors."""
    prior, q = posterior_of(name)
    u = scipy_draws(q)
    log_q = np.asarray(log_probs(q, jnp.asarray(u)))
    within_5_se(sticks.kl(q, prior), log_q - np.asarray(log_probs(prior, jnp.asarray(u))))
    within_5_se(sticks.entropy(q), -log_q)
    size = q.a.size
    log_weights = jax.vmap(lambda one: sticks.log_weights(one, K, size))(jnp.asarray(u))
    within_5_se(sticks.expected_log_weights(q, K), log_weights)
    weights = np.exp(log_weights)
    mean, sd = sticks.weight_moments(q, K)
    within_5_se(sticks.expected_weights(q, K), weights)
    within_5_se(mean, weights)
    within_5_se(np.square(sd), np.square(weights - np.asarray(mean)))


@conjugate
def test_divergence_of_a_thing_from_itself_is_zero(name, x64):
    prior, q = posterior_of(name)
    assert float(sticks.kl(q, q)) == pytest.approx(0.0, abs=1e-10)
    assert float(sticks.kl(q, prior)) > 0


@conjugate
def test_draws_have_the_density(name, x64):
    """Coordinate by coordinate the Beta and Gamma distributions of SciPy, independent of each other."""
    _, q = posterior_of(name)
    u = np.asarray(samples(q))
    size = q.a.size
    for j in range(size):
        law = stats.beta(float(q.a[j]), float(q.b[j]))
        # Through log v, which tiny shapes leave finite where v is not.
        assert stats.kstest(u[:, j], lambda v, law=law: law.cdf(special.expit(v))).pvalue > 1e-4
    for h in range(q.shape.size):
        law = stats.gamma(float(q.shape[h]), scale=1 / float(q.rate[h]))
        assert stats.kstest(np.exp(u[:, size + h]), law.cdf).pvalue > 1e-4
    rank = stats.rankdata(u, axis=0)
    correlation = np.corrcoef(rank, rowvar=False).reshape(u.shape[1], u.shape[1])
    assert np.abs(correlation - np.eye(u.shape[1])).max() < 5 / np.sqrt(DRAWS)


@conjugate
def test_gaussian_fit_has_every_coordinate(name, x64):
    _, q = posterior_of(name)
    mean, sd = sticks.gaussian_fit(q)
    assert mean.shape == sd.shape == (VARIANTS[name].num_sticks(K) + VARIANTS[name].num_hyper(),)
    assert np.isfinite(mean).all()
    assert np.all(np.asarray(sd) > 0)


@functools.partial(jax.jit, static_argnames=("steps",))
def ascend(prior, q, counts, *, steps):
    """The part of the bound that sticks and concentration share, before every step."""

    def body(q, _):
        bound = counts @ sticks.expected_log_weights(q, K) - sticks.kl(q, prior)
        return sticks.update(prior, counts, q), bound

    return jax.lax.scan(body, q, length=steps)[1]


@pytest.mark.parametrize("name", ["process_hyper", "process_free_hyper"])
@pytest.mark.parametrize("spread", [0.01, 1.0, 100.0])
def test_a_full_step_never_lowers_the_bound(name, spread, x64):
    """From any q(gamma): sticks and concentration must not both answer to the other's old value."""
    prior, q = posterior_of(name)
    rng = np.random.default_rng(1)
    for _ in range(10):
        shape, rate = np.exp(2.0 * rng.normal(size=(2, 1)))
        far = Sticks(
            a=q.a,
            b=q.b * spread,
            a_slope=q.a_slope,
            b_slope=q.b_slope,
            shape=jnp.asarray(shape),
            rate=jnp.asarray(rate / spread),
        )
        counts = jnp.asarray(np.sort(rng.exponential(size=K) * 50)[::-1].copy())
        trace = np.asarray(ascend(prior, far, counts, steps=30))
        assert np.diff(trace).min() > -1e-9 * np.abs(trace).max()


def test_the_table_is_covered():
    assert {type(row) for row in VARIANTS.values()} == set(WEIGHTS.values())
