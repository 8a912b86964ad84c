"""How draws of one step may depend on each other, and estimators of one gradient against each other.

The problem is small and q is near its optimum, where the noise of an estimator is what is left to reduce.
"""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

from vigmm.core.errors import SpecError
from vigmm.core.typing import Batch
from vigmm.estimators import Importance, Objective, Pathwise, Score
from vigmm.estimators import noise as noises
from vigmm.families import MeanField, MeanFieldParams
from vigmm.models import DataScale, Dirichlet, Mixture, NormalWishart, Position

pytestmark = pytest.mark.usefixtures("x64")

KINDS = noises.NOISES
NU, KAPPA, RATE = 4.0, 0.5, 1.0
DRAWS, KEYS, GRADIENT_KEYS = 8, 4_000, 16_000


def problem(num_components):
    """Model, prior and a few rows of one column, of two groups."""
    spec = NormalWishart(mean=(0.0,), mean_precision=KAPPA, dof=NU, covariance=((RATE / (NU - 2.0),),))
    model = Mixture(num_components=num_components, weights=Dirichlet(1.5), prior=spec)
    unit = DataScale(mean=np.zeros(1), cov=np.eye(1), center=np.zeros(1), scale=np.ones(1))
    rng = np.random.default_rng(4)
    x = rng.normal(size=(20, 1)) * 0.5 + np.where(np.arange(20)[:, None] < 8, -1.5, 1.0)
    batch = Batch(x=jnp.asarray(x), weight=jnp.ones(20))
    return model, model.build_prior(unit, dtype=jnp.float64), batch


@functools.partial(jax.jit, static_argnames=("model",))
def ascend(model, params, prior, batch):
    """Natural-gradient steps: a fixed number, which ends near the optimum."""
    target = Objective(model=model, family=MeanField(), estimator=Pathwise(num_samples=16, noise="qmc"))

    def body(params, key):
        grads = target.estimate(params, prior, batch, key).grads
        move = target.family.natural_gradient(target.model, params, grads)
        return jax.tree.map(lambda leaf, step: leaf - 0.1 * step, params, move), None

    return jax.lax.scan(body, params, jax.random.split(jax.random.key(1), 300))[0]


@functools.lru_cache
def near_optimum(num_components):
    model, prior, batch = problem(num_components)
    loc = Position(
        weights=jnp.zeros(num_components - 1),
        components=jnp.stack([jnp.linspace(-1.0, 1.0, num_components), jnp.zeros(num_components)], -1),
        shared=jnp.zeros(0),
    )
    start = MeanFieldParams(loc=loc, log_scale=jax.tree.map(lambda leaf: jnp.full_like(leaf, -1.5), loc))
    return model, ascend(model, start, prior, batch), prior, batch


def off_optimum(num_components, *, steps, wider):
    """Locations off by so many standard deviations of q, which is wider by the factor exp(wider)."""
    model, params, prior, batch = near_optimum(num_components)
    loc = jax.tree.map(lambda leaf, log_sd: leaf + steps * jnp.exp(log_sd), params.loc, params.log_scale)
    wide = jax.tree.map(lambda log_sd: log_sd + wider, params.log_scale)
    return model, MeanFieldParams(loc=loc, log_scale=wide), prior, batch


@functools.partial(jax.jit, static_argnames=("objective", "num_keys"))
def many(objective, params, prior, batch, num_keys=KEYS):
    """Bounds, standard errors and gradients (of -bound, flat) for many keys."""

    def one(key):
        found = objective.estimate(params, prior, batch, key)
        return found.elbo, found.se, ravel_pytree(found.grads)[0]

    return jax.vmap(one)(jax.random.split(jax.random.key(0), num_keys))


@functools.partial(jax.jit, static_argnames=("objective",))
def totals(objective, params, prior, batch):
    """Bounds alone, for other keys than those of `many`."""

    def one(key):
        return jax.tree.reduce(jnp.add, objective.value(params, prior, batch, key))

    return jax.vmap(one)(jax.random.split(jax.random.key(7), KEYS))


def bounds(kind, place):
    """Bounds of eight draws with a closed-form entropy: their noise is that of log_lik + log_prior."""
    model, *rest = place
    return np.asarray(totals(objective(model, Pathwise(num_samples=DRAWS, noise=kind)), *rest))


def objective(model, estimator):
    return Objective(model=model, family=MeanField(), estimator=estimator)


def agree(one, two):
    """The mean difference over keys, which both share, is within 5 standard errors of 0; returns those."""
    gap = np.asarray(one) - np.asarray(two)
    error = gap.std(0) / np.sqrt(len(gap))
    assert np.all(np.abs(gap.mean(0)) < 5 * error)
    return error


def variance(values):
    """The variance, and its standard error sqrt((mu_4 - sigma^4) / n)."""
    gap = values - values.mean(0)
    square = (gap**2).mean(0)
    return square, np.sqrt(((gap**4).mean(0) - square**2) / len(values))


def ratio_of_variances(one, two):
    """var(one) / var(two), and the ends of its interval of 5 standard errors."""
    (top, top_se), (bottom, bottom_se) = variance(np.asarray(one)), variance(np.asarray(two))
    margin = 5 * np.hypot(top_se / top, bottom_se / bottom)
    return top / bottom * np.exp(-margin), top / bottom * np.exp(margin)


# The draws themselves -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_draw_is_standard_normal(kind):
    """Over keys, each number of each draw has the moments 0, 1 and 3 of a standard normal."""
    keys = jax.random.split(jax.random.key(2), 20_000)
    draw = jax.jit(jax.vmap(lambda key: noises.draw(kind, key, DRAWS, 3, jnp.float64)))
    found = np.asarray(draw(keys))
    assert found.shape == (len(keys), DRAWS, 3)
    for power, moment, var in ((1, 0.0, 1.0), (2, 1.0, 2.0), (4, 3.0, 96.0)):
        gap = (found**power).mean(0) - moment
        assert np.all(np.abs(gap) < 5 * np.sqrt(var / len(keys))), (kind, power)


def test_antithetic_draws_are_mirrored_pairs():
    found = np.asarray(noises.draw("antithetic", jax.random.key(0), DRAWS, 5, jnp.float64))
    np.testing.assert_array_equal(found[: DRAWS // 2], -found[DRAWS // 2 :])
    assert len(np.unique(np.abs(found))) == found.size // 2


def test_qmc_draws_are_spread_evenly():
    """One draw in every one of eight intervals of equal probability, in every coordinate, for every key."""
    for seed in range(5):
        found = noises.draw("qmc", jax.random.key(seed), DRAWS, 5, jnp.float64)
        place = stats.norm.cdf(np.sort(np.asarray(found), axis=0))
        np.testing.assert_allclose(np.diff(place, axis=0), 1.0 / DRAWS, rtol=1e-9)


@pytest.mark.parametrize(
    ("kind", "num_samples", "message"),
    [
        ("antithetic", 1, "num_samples must be even"),
        ("antithetic", 7, "num_samples must be even"),
        ("qmc", 1, "num_samples must be a power of two"),
        ("qmc", 6, "num_samples must be a power of two"),
        ("sobol", 8, "noise must be"),
    ],
)
def test_refusals(kind, num_samples, message):
    with pytest.raises(SpecError, match=message):
        Pathwise(num_samples=num_samples, noise=kind)


# The bound ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_spread_draws_make_the_bound_quieter():
    """Quasi-Monte Carlo: the same mean, with less than 0.7 of the variance of independent draws."""
    place = near_optimum(2)
    iid, qmc = (bounds(kind, place) for kind in ("iid", "qmc"))
    agree(iid, qmc)
    assert ratio_of_variances(qmc, iid)[1] < 0.7


def test_mirrored_draws_make_a_slope_quieter():
    """Antithetic pairs cancel what is odd in the noise: the bound's slope, far from the optimum."""
    place = off_optimum(2, steps=3.0, wider=0.0)
    iid, mirrored = (bounds(kind, place) for kind in ("iid", "antithetic"))
    agree(iid, mirrored)
    assert ratio_of_variances(mirrored, iid)[1] < 0.7


@pytest.mark.slow
def test_mirrored_draws_near_the_optimum():
    """There the log joint is even in the noise and its gradient in the locations odd.

    So the pairs cancel the noise of that gradient, and a pair tells no more of the bound than one draw does:
    its variance grows, at most twofold, because the variance of a pair's mean is never above that of a draw.
    """
    model, *rest = near_optimum(2)
    found = [
        many(objective(model, Pathwise(num_samples=DRAWS, noise=kind)), *rest)
        for kind in ("antithetic", "iid")
    ]
    (mirrored, _, mirrored_grads), (iid, _, iid_grads) = found
    agree(mirrored, iid)
    agree(mirrored_grads, iid_grads)
    locations = ravel_pytree(rest[0].loc)[0].size
    assert np.all(ratio_of_variances(mirrored_grads, iid_grads)[1][:locations] < 0.7)
    low, _ = ratio_of_variances(mirrored, iid)
    assert 1.0 < low < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_standard_error_is_the_spread_of_the_bound(kind):
    """Its root mean square over keys, within 10 %; an upper bound where draws are spread evenly."""
    model, *rest = near_optimum(2)
    _, se, _ = many(objective(model, Pathwise(num_samples=DRAWS, noise=kind)), *rest)
    claimed, spread = np.sqrt(np.mean(np.asarray(se) ** 2)), bounds(kind, (model, *rest)).std()
    if kind == "qmc":
        assert claimed > spread
    else:
        np.testing.assert_allclose(claimed, spread, rtol=0.1)


# Gradients ------------------------------------------------------------------------------------


def precise(error, grads):
    """The standard errors can tell a wrong gradient from a right one."""
    assert np.median(error / np.abs(np.asarray(grads).mean(0))) < 0.05


@pytest.mark.slow
def test_score_and_pathwise_gradients_have_one_mean():
    """Few draws: a baseline that is not scaled by S/(S - 1) would miss an eighth of the gradient."""
    model, *rest = off_optimum(2, steps=1.0, wider=0.4)
    *_, score = many(objective(model, Score(num_samples=DRAWS)), *rest, num_keys=GRADIENT_KEYS)
    *_, path = many(objective(model, Pathwise(num_samples=DRAWS)), *rest, num_keys=GRADIENT_KEYS)
    precise(agree(score, path), path)


@pytest.mark.slow
def test_dreg_and_iwae_gradients_have_one_mean():
    model, *rest = off_optimum(2, steps=1.0, wider=0.4)
    (value, _, dreg), (same, _, iwae) = (
        many(objective(model, Importance(num_samples=4, gradient=kind)), *rest, num_keys=GRADIENT_KEYS)
        for kind in ("dreg", "iwae")
    )
    precise(agree(dreg, iwae), dreg)
    np.testing.assert_allclose(value, same, rtol=1e-9)


@pytest.mark.slow
def test_more_draws_tighten_the_bound_up_to_the_evidence():
    """One component: ELBO < L_2 < L_8 < log p(X), where X is a multivariate Student t.

    x | lambda ~ N(0, (I + J / kappa) / lambda), J all ones, and lambda ~ Gamma(nu / 2, rate / 2).
    """
    model, *rest = off_optimum(1, steps=0.5, wider=0.2)
    x = np.asarray(rest[-1].x)[:, 0]
    shape = (RATE / NU) * (np.eye(len(x)) + 1.0 / KAPPA)
    evidence = stats.multivariate_t(loc=np.zeros(len(x)), shape=shape, df=NU).logpdf(x)
    found = [np.asarray(totals(objective(model, Importance(num_samples=s)), *rest)) for s in (1, 2, 8)]
    elbo = np.asarray(totals(objective(model, Pathwise(num_samples=DRAWS)), *rest))
    # One draw makes the bound an ELBO.
    agree(found[0], elbo)
    for low, high in itertools.pairwise(found):
        error = np.sqrt((low.var() + high.var()) / KEYS)
        assert high.mean() - low.mean() > 5 * error
    assert evidence - found[-1].mean() > 5 * found[-1].std() / np.sqrt(KEYS)
    # The mean weight is the evidence itself, by (1/S) sum_s w_s = exp(L_S) of each key.
    weights = np.exp(found[-1] - evidence)
    assert abs(weights.mean() - 1.0) < 5 * weights.std() / np.sqrt(KEYS) < 0.1
