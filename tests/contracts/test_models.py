"""What mixtures and families rely on, for every covariance structure and every likelihood."""

from __future__ import annotations

import functools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests.contracts.conftest import MODELS, small_row
from vigmm.core.struct import is_spec
from vigmm.families import Conjugate
from vigmm.models import (
    COVARIANCES,
    LIKELIHOODS,
    PRIORS,
    WEIGHTS,
    Gaussian,
    Mixture,
    Position,
    StudentT,
)
from vigmm.models.covariance import StructurePosition

pytestmark = pytest.mark.contract


def within_5_se(found, samples, slack=1e-12):
    samples = np.asarray(samples)
    error = samples.std(0) / np.sqrt(len(samples))
    assert np.all(np.abs(np.asarray(found) - samples.mean(0)) < 5 * error + slack)


# Covariance structures ------------------------------------------------------------------------


CONJUGATE = [name for name in COVARIANCES if Mixture(covariance=COVARIANCES[name]()).refusal() is None]


# On every commit: each algebra once, and one that components share; the rest are slow.
QUICK = ("full", "tied", "diag")


@pytest.fixture(
    params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CONJUGATE]
)
def conjugate(request, small, x64):
    """(algebra, prior, a posterior, rows, centre) in double precision."""
    case = small.setting(Conjugate(), dtype=jnp.float64, covariance=COVARIANCES[request.param]())
    algebra = case.model.algebra
    post = algebra.standard(case.params.components)
    return algebra, case.prior.components, post, case.batch.x, case.params.components.centre


@pytest.fixture
def drawn(conjugate, request, small):
    """Draws of the posterior of `conjugate` and their log density under it."""
    algebra, _, q, *_ = conjugate
    name = request.node.callspec.params["conjugate"]
    case = small.setting(Conjugate(), dtype=jnp.float64, covariance=COVARIANCES[name]())
    u = small.draw(case.family, case.model, case.params, jax.random.key(1))[0]
    u = StructurePosition(components=u.components, shared=u.shared)
    return u, np.asarray(log_probs(algebra, q, u))


@functools.partial(jax.jit, static_argnames=("algebra",))
def log_probs(algebra, q, u):
    return jax.vmap(lambda one: algebra.log_prob(q, one))(u)


def log_density(structure, parts, x):
    """Log density, or its expectation, of rows under Gaussian components."""
    empty = jnp.zeros((parts.log_det.shape[0], 0), x.dtype)
    return Gaussian().log_density(parts.log_det, structure.square(parts, x), empty, x.shape[-1])


def flat(u):
    """All coordinates of many positions side by side."""
    return np.concatenate([np.asarray(u.components).reshape(len(u.components), -1), u.shared], axis=-1)


def random_position(model, dim, seed=0):
    """A position of the mixture, off the origin."""
    rng = np.random.default_rng(seed)
    weights, own, shared = model.sizes(dim)
    return Position(
        weights=jnp.asarray(rng.normal(size=weights)),
        components=jnp.asarray(0.5 * rng.normal(size=(model.num_components, own))),
        shared=jnp.asarray(0.5 * rng.normal(size=shared)),
    )


def fits(name, dim):
    return not (name == "low_rank" and dim == 1)


SIZES = [(name, dim) for name in COVARIANCES for dim in (1, 2, 3) if fits(name, dim)]


@pytest.mark.parametrize(("name", "dim"), SIZES)
@pytest.mark.parametrize(
    "likelihood",
    [Gaussian(), StudentT(dof=3.5), StudentT()],
    ids=["gaussian", "student_t_known", "student_t"],
)
def test_log_components_are_densities_of_their_moments(name, dim, likelihood, small, x64):
    """For any position, SciPy's normal or Student t with the mean and matrix that `moments` tells."""
    model = Mixture(num_components=2, covariance=small_row(COVARIANCES[name]), likelihood=likelihood)
    x = jnp.asarray(np.random.default_rng(dim).normal(size=(5, dim)))
    prior, u = small.prior_of(model, small.rows(dim), jnp.float64), random_position(model, dim)
    found = model.log_components(model.constrain(prior, u), x)
    mean, cov = model.moments(prior, u)
    for k in range(2):
        if isinstance(likelihood, Gaussian):
            law = stats.multivariate_normal(mean[k], cov[k])
        else:
            dof = 3.5 if likelihood.dof else float(np.exp(u.components[k, -1]))
            law = stats.multivariate_t(mean[k], cov[k], df=dof)
        np.testing.assert_allclose(found[:, k], np.atleast_1d(law.logpdf(x)), rtol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_every_coordinate_of_a_position_matters(name, small, x64):
    """The map from positions to what likelihood and prior read has full rank: no free entropy.

    Coordinates of weights, components and shared parts together; a hyperparameter shows in the prior only.
    """
    dim, model = 3, Mixture(num_components=2, **MODELS[name])
    prior = small.prior_of(model, small.rows(dim), jnp.float64)
    x = jnp.asarray(2.0 * np.random.default_rng(1).normal(size=(40, dim)))
    shape = random_position(model, dim)
    leaves = (shape.weights, shape.components, shape.shared)
    sizes = [leaf.size for leaf in leaves]
    assert sum(sizes) == model.position_size(dim)

    @jax.jit
    @jax.jacobian
    def jacobian(vector):
        weights, components, shared = jnp.split(vector, np.cumsum(sizes)[:-1])
        u = Position(weights=weights, components=components.reshape(shape.components.shape), shared=shared)
        theta = model.constrain(prior, u)
        hyper = u.weights[model.weights.num_sticks(2) :]
        factor = u.shared[model.structure.shared_size(dim) :][: model.prior.hyper is not None]
        read = [model.log_joint(theta, x).ravel(), hyper, factor, *map(jnp.ravel, model.moments(prior, u))]
        return jnp.concatenate(read)

    vector = jnp.concatenate([leaf.ravel() for leaf in leaves])
    found = np.asarray(jacobian(vector))
    assert np.linalg.matrix_rank(found / np.abs(found).max()) == vector.size


def test_bayes_rule(conjugate):
    """log N(x | u) + log prior(u) - log posterior(u) is the predictive of x at *every* u.

    One identity for `square`, `log_prob`, `natural`, `stats`, `standard` and `log_predictive`.
    """
    algebra, _, q, x, centre = conjugate
    num, dim = centre.shape
    rng = np.random.default_rng(0)
    u = StructurePosition(
        components=jnp.asarray(0.5 * rng.normal(size=(20, num, algebra.position_size(dim)))),
        shared=jnp.asarray(0.5 * rng.normal(size=(20, algebra.shared_size(dim)))),
    )

    @jax.jit
    def both_sides(row, own):
        # A row of one component only: what is shared takes it in once.
        stats = algebra.stats(row[None], own[None], centre)
        post = algebra.standard(jax.tree.map(jnp.add, algebra.natural(q, centre), stats))

        def evidence(one):
            log_normal = log_density(algebra, algebra.constrain(one, dim), row[None])[0] @ own
            return log_normal + algebra.log_prob(q, one) - algebra.log_prob(post, one)

        return jax.vmap(evidence)(u), algebra.log_predictive(q, row[None])[0] @ own

    for row in (x[0], x[-1] + 3.0):
        for own in jnp.eye(num):
            found, want = both_sides(row, own)
            np.testing.assert_allclose(found, np.full(20, want), rtol=1e-8, atol=1e-8)


def test_natural_form_does_not_depend_on_the_centre(conjugate):
    algebra, _, q, x, centre = conjugate
    weight = jnp.asarray(np.random.default_rng(0).uniform(size=(x.shape[0], centre.shape[0])))
    ends = []
    for c in (centre, centre + 5.0):
        added = jax.tree.map(jnp.add, algebra.natural(q, c), algebra.stats(x, weight, c))
        ends.append(algebra.standard(added))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), *ends)
    back = algebra.standard(algebra.natural(q, centre))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9), back, q)


def test_stats_add_up(conjugate):
    """Merging is adding: of rows, of chunks, of weights."""
    algebra, _, _, x, centre = conjugate
    weight = jnp.asarray(np.random.default_rng(0).uniform(size=(x.shape[0], centre.shape[0])))
    whole = algebra.stats(x, weight, centre)
    parts = [algebra.stats(x[s], weight[s], centre) for s in (slice(0, 9), slice(9, None))]
    close = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
    jax.tree.map(close, whole, jax.tree.map(jnp.add, *parts))
    jax.tree.map(close, jax.tree.map(lambda leaf: 2 * leaf, whole), algebra.stats(x, 2 * weight, centre))


def sum_kl(algebra, q, prior):
    """The divergence of means and covariances together."""
    return sum(algebra.kl_parts(q, prior))


def test_expectations_are_means_over_draws(conjugate, drawn):
    """Expected log density, KL, entropy, and moments of positions, each within 5 standard errors."""
    algebra, prior, q, x, _ = conjugate
    dim = x.shape[1]
    u, log_q = drawn
    rows = x[:3]
    found = jax.jit(jax.vmap(lambda one: log_density(algebra, algebra.constrain(one, dim), rows)))(u)
    within_5_se(log_density(algebra, algebra.expected(q), rows), found)
    within_5_se(sum_kl(algebra, q, prior), log_q - np.asarray(log_probs(algebra, prior, u)))
    within_5_se(algebra.entropy(q), -log_q)
    # Independent Gaussians close to q have its means and, being conditional, at most its sds.
    mean, sd = algebra.gaussian_fit(q)
    mean, sd = (flat(jax.tree.map(lambda leaf: leaf[None], one))[0] for one in (mean, sd))
    within_5_se(mean, flat(u))
    spread = flat(u).std(axis=0)
    assert np.all(sd < 1.05 * spread)
    assert np.all(sd > 0.05 * spread)


def test_divergence_of_a_thing_from_itself_is_zero(conjugate):
    algebra, prior, q, *_ = conjugate
    np.testing.assert_allclose(sum_kl(algebra, q, q), 0.0, atol=1e-10)
    assert float(sum_kl(algebra, q, prior)) > 0


def test_density_integrates_to_one(drawn):
    """E_q[r / q] = 1 for a Gaussian r narrower than q, over every coordinate of the position."""
    u, log_q = drawn
    u = flat(u)
    inside = stats.multivariate_normal(u.mean(0), 0.5 * np.cov(u.T))
    ratio = np.exp(inside.logpdf(u) - log_q)
    error = ratio.std() / np.sqrt(len(ratio))
    assert error < 0.05
    assert abs(ratio.mean() - 1) < 5 * error


def test_order_is_another_order(conjugate):
    """Relabelled pseudo-counts describe the relabelled posterior, and what is shared stays."""
    algebra, _, q, x, centre = conjugate
    natural = algebra.natural(q, centre)
    index = jnp.asarray([1, 0])
    moved = algebra.standard(algebra.order(natural, index))
    np.testing.assert_allclose(
        algebra.log_predictive(moved, x), algebra.log_predictive(q, x)[:, index], rtol=1e-9, atol=1e-9
    )


def test_noise_takes_its_share(small, x64):
    """Log joint with noise: components times what is left, and a uniform density times the share."""
    model = Mixture(num_components=2, **MODELS["noise"])
    prior, u = small.prior_of(model, small.rows(), jnp.float64), random_position(model, 2)
    x = jnp.asarray(small.rows())
    plain = Mixture(num_components=2)
    inner = Position(weights=u.weights, components=u.components, shared=u.shared[:-1])
    share = 1 / (1 + np.exp(-float(u.shared[-1])))
    found = model.log_joint(model.constrain(prior, u), x)
    want = plain.log_joint(plain.constrain(prior, inner), x)
    np.testing.assert_allclose(found[:, :-1], np.log1p(-share) + np.asarray(want), rtol=1e-10)
    volume = np.prod(np.asarray(prior.frame.high - prior.frame.low))
    np.testing.assert_allclose(found[:, -1], np.log(share / volume), rtol=1e-10)
    law = stats.beta(model.noise.a, model.noise.b)
    gap = model.log_prior(prior, u) - plain.log_prior(prior, inner)
    np.testing.assert_allclose(gap, law.logpdf(share) + np.log(share * (1 - share)), rtol=1e-10)


@pytest.mark.parametrize(
    "table",
    [WEIGHTS, COVARIANCES, PRIORS, LIKELIHOODS],
    ids=["weights", "covariances", "priors", "likelihoods"],
)
def test_rows_are_specs(table):
    for row in table.values():
        one, two = row(), row()
        assert is_spec(one)
        assert one == two
        assert hash(one) == hash(two)
        assert pickle.loads(pickle.dumps(one)) == one
