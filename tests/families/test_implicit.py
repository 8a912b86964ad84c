"""Conjugate draws under gradients: implicit derivatives, natural gradients, and fits by them.

At K = 1, and where rows leave no doubt which component they belong to, the bound with the assignments summed
out is the closed form of the natural estimator: its exact gradient is the mean of the pathwise one.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import special

import vigmm
from vigmm.core.errors import SpecError
from vigmm.core.typing import Batch
from vigmm.data.synthetic import gaussian_mixture
from vigmm.estimators import Importance, Natural, Objective, Pathwise, Score
from vigmm.families import Conjugate, ConjugateParams, MeanField
from vigmm.models import (
    DataScale,
    Diag,
    Dirichlet,
    DirichletProcess,
    Gamma,
    Mixture,
    NormalWishart,
    Tied,
    sticks,
)
from vigmm.optim import Adam, Averaged, Fisher, Sgd
from vigmm.train import Train, default_optimizer, plan

FAMILY = Conjugate()
KEYS, DIM, ROWS = 4_000, 2, 12
VAGUE = NormalWishart(mean_precision=1e-6)
# The second component of "sparse" has no rows: its share has the Beta parameter 0.01.
MODELS = {
    "one": Mixture(num_components=1, prior=VAGUE),
    "sparse": Mixture(num_components=2, weights=Dirichlet(0.01), prior=VAGUE),
    "tied": Mixture(
        num_components=2, weights=DirichletProcess(hyper=Gamma(2.0, 1.0)), covariance=Tied(), prior=VAGUE
    ),
    "diag": Mixture(num_components=2, weights=Dirichlet(1.0), covariance=Diag(), prior=VAGUE),
}
FORMS = {"sparse": "closed", "one": "closed", "tied": "sampled", "diag": "stl"}
some = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "sparse" else pytest.mark.slow) for name in FORMS]
)


@functools.partial(jax.jit, static_argnames=("model",))
def made_of(model, prior, x, resp, centre, counts):
    """Prior + statistics of some rows; the weights have other counts."""
    first = sticks.update(prior.weights, counts)
    base = model.algebra.natural(prior.components, centre)
    stats = model.algebra.stats(x, resp, centre)
    return ConjugateParams(
        weights=sticks.update(prior.weights, counts, first), components=jax.tree.map(jnp.add, base, stats)
    )


def problem(name, apart, dtype=jnp.float64):
    """Prior, rows in clusters `apart` standard deviations from each other, and a q that other rows made."""
    model = MODELS[name]
    k = model.num_components
    rng = np.random.default_rng(0)
    unit = DataScale(mean=np.zeros(DIM), cov=np.eye(DIM), center=np.zeros(DIM), scale=np.ones(DIM))
    prior = model.build_prior(unit, dtype=dtype)
    own = np.arange(ROWS) % (1 if name == "sparse" else k)
    x = rng.normal(size=(ROWS, DIM)) + apart * own[:, None]
    others = np.arange(9 * k) % k
    other = 1.2 * rng.normal(size=(9 * k, DIM)) + apart * others[:, None] + 0.3
    counts = np.bincount(own, minlength=k) * 0.8
    centre = apart * np.arange(k)[:, None] + rng.normal(size=(k, DIM))
    arrays = (other, np.eye(k)[others], centre, counts)
    params = made_of(model, prior, *(jnp.asarray(one, dtype) for one in arrays))
    batch = Batch(x=jnp.asarray(x, dtype), weight=jnp.asarray(rng.uniform(0.5, 1.5, ROWS), dtype))
    return SimpleNamespace(model=model, prior=prior, params=params, batch=batch)


@functools.partial(jax.jit, static_argnames=("model",))
def exact(model, params, prior, batch):
    """The closed form and its gradient; the centre is not a parameter."""

    def bound(params):
        terms = Natural().value(model, FAMILY, params, prior, batch, jax.random.key(0))
        return jax.tree.reduce(jnp.add, terms)

    return jax.value_and_grad(bound)(params)


@functools.partial(jax.jit, static_argnames=("estimator", "model", "keys"))
def many(estimator, model, params, prior, batch, keys=KEYS):
    """Bounds and gradients of -bound, flat, for many keys."""

    def one(key):
        found = estimator.estimate(model, FAMILY, params, prior, batch, key)
        return found.elbo, ravel_pytree(found.grads)[0]

    return jax.vmap(one)(jax.random.split(jax.random.key(0), keys))


def scores(found, want):
    """Distance of the mean of the rows of `found` from `want` in standard errors, and the errors."""
    found = np.asarray(found, np.float64)
    error = found.std(0) / np.sqrt(len(found))
    gap = found.mean(0) - np.asarray(want, np.float64)
    return np.where(
        error > 0, gap / np.where(error > 0, error, 1.0), np.where(np.abs(gap) < 1e-9, 0, np.inf)
    ), error


def unbiased(name, dtype, **form):
    case = problem(name, 300.0, dtype)
    value, grads = exact(case.model, case.params, case.prior, case.batch)
    want = -ravel_pytree(grads)[0]
    values, found = many(Pathwise(**form), case.model, case.params, case.prior, case.batch)
    assert np.isfinite(found).all()
    z, _ = scores(values, value)
    assert abs(z) < 5
    z, error = scores(found, want)
    moving = error > 0
    assert np.abs(z).max() < 5
    # Power: a factor that is wrong by half shows in most gradients, and in that of the sparse weight.
    relative = error[moving] / np.abs(np.asarray(want))[moving]
    assert np.median(relative) < 0.08
    if name == "sparse":
        assert relative[1] < 0.05


@some
def test_bound_and_gradient_are_unbiased(name, x64):
    """The exact closed form and its exact gradient, in every parameter, at K = 1 and at K = 2."""
    unbiased(name, jnp.float64, entropy=FORMS[name])


@pytest.mark.slow
def test_unbiased_in_single_precision():
    """At the shape 0.01, where JAX's own derivatives of log-Gamma draws are half of what they should be."""
    unbiased("sparse", jnp.float32)


@pytest.mark.slow
def test_agrees_with_the_score_where_components_overlap(x64):
    """There is no closed form then; the score function differentiates no draw."""
    case = problem("diag", 1.5)
    args = case.model, case.params, case.prior, case.batch
    one = many(Pathwise(), *args)[1]
    two = np.asarray(many(Score(num_samples=16), *args)[1])
    want, error = two.mean(0), two.std(0) / np.sqrt(KEYS)
    found = np.asarray(one)
    total = np.hypot(error, found.std(0) / np.sqrt(KEYS))
    moving = total > 0
    assert np.all(np.abs(found.mean(0) - want)[moving] < 5 * total[moving])
    assert np.median(total[moving] / np.abs(want[moving])) < 0.1
    # They are not the closed form's: where components overlap it is another bound.
    closed = -ravel_pytree(exact(*args)[1])[0]
    assert np.abs((closed - want)[moving] / total[moving]).max() > 20


@functools.partial(jax.jit, static_argnames=("model",))
def curved(model, components, step):
    """The Fisher information of q times a direction: the Hessian of its log normaliser."""

    def log_normaliser(flat):
        natural = type(components)(**{**vars(unravel(flat)), "centre": components.centre})
        return model.algebra.log_partition(natural)

    flat, unravel = ravel_pytree(components)
    return unravel(jax.jvp(jax.grad(log_normaliser), (flat,), (ravel_pytree(step)[0],))[1])


def trigamma(x):
    return special.polygamma(1, np.asarray(x))


@pytest.mark.parametrize("name", ["tied", pytest.param("diag", marks=pytest.mark.slow)])
def test_natural_gradient_is_the_inverse_fisher_matrix_times_the_gradient(name, x64):
    """The Fisher matrix of an exponential family is the Hessian of its log normaliser: F (F^-1 g) is g."""
    case = problem(name, 1.5)
    rng = np.random.default_rng(1)
    grads = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), case.params)
    step = FAMILY.natural_gradient(case.model, case.params, grads)

    q, moved, want = case.params.weights, step.weights, grads.weights
    shared = trigamma(q.a + q.b) * (moved.a + moved.b)
    np.testing.assert_allclose(trigamma(q.a) * moved.a - shared, want.a, rtol=1e-8)
    np.testing.assert_allclose(trigamma(q.b) * moved.b - shared, want.b, rtol=1e-8)
    np.testing.assert_allclose(trigamma(q.shape) * moved.shape - moved.rate / q.rate, want.shape, rtol=1e-8)
    found = q.shape / q.rate**2 * moved.rate - moved.shape / q.rate
    np.testing.assert_allclose(found, want.rate, rtol=1e-8)

    components, want = curved(case.model, case.params.components, step.components), vars(grads.components)
    for field in set(want) - {"centre"}:
        one, two = getattr(components, field), want[field]
        if one.ndim == 3:
            one, two = one + jnp.swapaxes(one, -1, -2), two + jnp.swapaxes(two, -1, -2)
        np.testing.assert_allclose(one, two, rtol=1e-7, atol=1e-9)
    # What is carried along stays where it is.
    still = (step.weights.a_slope, step.weights.b_slope, step.components.centre)
    assert not any(np.any(leaf) for leaf in still)


def test_natural_gradient_keeps_its_digits_for_large_counts():
    """With a million rows determinants of Fisher matrices are 1e-19; single precision knows them."""
    found = {}
    for dtype, x64 in ((jnp.float32, False), (jnp.float64, True)):
        with jax.enable_x64(x64):
            case = problem("sparse", 1.5, dtype)
            many_rows = jax.tree.map(lambda leaf: 1e5 * leaf, case.params)
            parts = vars(many_rows.components) | {"centre": case.params.components.centre}
            params = ConjugateParams(
                weights=many_rows.weights, components=type(many_rows.components)(**parts)
            )
            grads = jax.tree.map(jnp.ones_like, params)
            step = FAMILY.natural_gradient(case.model, params, grads)
            found[dtype] = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(step)]
    for one, two in zip(*found.values(), strict=True):
        np.testing.assert_allclose(one, two, rtol=2e-3, atol=1e-4 * np.abs(two).max(initial=0.0))


def test_what_is_not_sound_is_refused():
    """With a reason, before anything is compiled; and what is sound is not, however sparse."""
    few = Mixture(prior=NormalWishart(dof=3.0, ratio=1.0))
    for estimator in (Pathwise(), Importance()):
        with pytest.raises(SpecError, match="infinite variance"):
            Objective(model=few, family=FAMILY, estimator=estimator)
        Objective(model=Mixture(weights=Dirichlet(1e-3)), family=FAMILY, estimator=estimator)
    with pytest.raises(SpecError, match="noise must be 'iid'"):
        Objective(model=Mixture(), family=FAMILY, estimator=Pathwise(num_samples=2, noise="antithetic"))
    Objective(model=few, family=MeanField(), estimator=Pathwise())
    Objective(model=few, family=FAMILY, estimator=Natural())


def test_the_rule_keeps_pseudo_counts_positive():
    """A trust region by default; a plain step, which knows nothing of positive numbers, is refused."""
    pathwise = Objective(model=Mixture(), family=FAMILY, estimator=Pathwise())
    natural = Objective(model=Mixture(), family=FAMILY, estimator=Natural())
    assert isinstance(default_optimizer(pathwise, full_batch=True), Fisher)
    assert isinstance(default_optimizer(natural, full_batch=True), Sgd)
    assert isinstance(plan(pathwise, None, Train(), None, rows=10_000)[0], Fisher)
    for rule in (Adam(), Sgd(), Averaged(rule=Adam())):
        with pytest.raises(SpecError, match="fisher"):
            plan(pathwise, rule, Train(), None, rows=100)
    plan(pathwise, Averaged(rule=Fisher()), Train(), None, rows=100)
    # Its gradient is natural already: the metric is not applied twice.
    assert natural.metric is None


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [60, 20])
def test_a_fit_with_assignments_summed_out_is_closer_to_the_evidence(batch_size):
    """The natural estimator's q(z) costs it something where clusters overlap; draws have none."""
    x = gaussian_mixture(60, num_components=2, dim=2, seed=1).x
    model = Mixture(num_components=2, weights=Dirichlet(0.2))
    still = {"model": model, "moves": None, "dtype": "float64"}
    closed = vigmm.fit(x, train=Train(batch_size=60, holdout=0.0), **still)
    config = Train(batch_size=batch_size, holdout=0.0, min_steps=600)
    fit = vigmm.fit(x, estimator=Pathwise(num_samples=8, entropy="stl"), train=config, **still)
    assert fit.outcome.ok
    found = fit.diagnose(num_draws=1024)
    evidence = found["log evidence"]
    assert found.khat < 0.7
    assert closed.elbo.elbo + 3 * fit.elbo.se < fit.elbo.elbo < evidence.value + 5 * evidence.se
    # Everything that is closed-form for this q stays so.
    np.testing.assert_allclose(fit.posterior.predict(x), closed.posterior.predict(x))
