"""What estimators and the posterior rely on, for every family with every covariance."""

from __future__ import annotations

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

from tests.contracts.conftest import MODELS, cases, in_both_types
from vigmm.core.errors import SpecError
from vigmm.core.struct import is_spec
from vigmm.families import FAMILIES, ClosedEntropy
from vigmm.models import Mixture

pytestmark = pytest.mark.contract


def takes(name, model):
    try:
        FAMILIES[name]().check(Mixture(**MODELS[model]))
    except SpecError:
        return False
    return True


PAIRS = ["-".join((name, model)) for name in FAMILIES for model in MODELS if takes(name, model)]
# Families differ in what they do with coordinates, models in which coordinates there are: every family with
# one model, and every model with one family that can and the one that has closed forms.
SOME = [pair for pair in PAIRS if pair.endswith("-full") or pair.startswith(("conjugate-", "blocks-"))]

# What a predictive adds to a density does not depend on the prior.
PRIORS_ONLY = (
    "dirichlet",
    "dirichlet_hyper",
    "process_hyper",
    "pitman_yor",
    "wishart_hyper",
    "wishart_hyper_diag",
    "independent",
    "independent_diag",
)
PREDICTIVE = [pair for pair in SOME if pair.split("-")[1] not in PRIORS_ONLY]

# On every commit: every family with one model, and closed forms of unlike structures; the others are slow.
QUICK = {pair for pair in PAIRS if pair.endswith("-full")}
QUICK |= {"conjugate-tied", "conjugate-diag", "blocks-low_rank"}


some = cases(SOME, QUICK)
both = in_both_types(PAIRS, QUICK)


def closed(family):
    """Whether the family's entropy has a closed form: a flow's has none."""
    return isinstance(family, ClosedEntropy)


def get(small, case, dtype=jnp.float64, **changes):
    name, model = case.split("-")
    return small.setting(FAMILIES[name](), dtype=dtype, **MODELS[model], **changes)


@some
def test_draws_are_positions_of_the_model(small, case, x64):
    """With exactly the model's degrees of freedom; noise and inverted sample tell the same density."""
    case = get(small, case)
    u, log_q, log_prob = small.draw(case.family, case.model, case.params, jax.random.key(0))
    flat = jax.vmap(lambda one: ravel_pytree(one)[0])(u)
    assert flat.shape == (len(log_q), case.model.position_size(small.dim))
    np.testing.assert_allclose(log_q, log_prob, rtol=1e-9, atol=1e-9)
    # No two coordinates are one, and none is stuck.
    few = np.asarray(flat[:100])
    assert np.linalg.matrix_rank(few - few.mean(0)) == flat.shape[1]


@both
def test_types_are_those_of_the_parameters(small, case, dtype):
    """Draws, densities and predictives, without computing any."""
    case = get(small, case, dtype)
    family, model, key = case.family, case.model, jax.random.key(0)
    u, log_q = jax.eval_shape(lambda p: family.sample(model, p, key), case.params)
    others = (
        jax.eval_shape(lambda p, u: family.log_prob(model, p, u), case.params, u),
        jax.eval_shape(lambda p: family.entropy(model, p), case.params) if closed(family) else log_q,
        jax.eval_shape(lambda p: family.weights(model, p), case.params),
        jax.eval_shape(
            lambda p, x: family.log_predictive(model, p, case.prior, x, key, num_draws=3),
            case.params,
            case.batch.x,
        ),
    )
    for leaf in jax.tree.leaves((u, log_q, others)):
        assert leaf.dtype == dtype
    assert others[-1].shape == (small.n, small.k + (model.noise is not None))


@some
def test_entropy_and_density(small, case, x64):
    """entropy = -E[log q], and q integrates to one."""
    case = get(small, case)
    u, log_q, _ = small.draw(case.family, case.model, case.params, jax.random.key(1))
    log_q = np.asarray(log_q)
    error = log_q.std() / np.sqrt(log_q.size)
    if closed(case.family):
        assert abs(float(case.family.entropy(case.model, case.params)) + log_q.mean()) < 5 * error
    # E_q[r / q] = 1 for any density r inside q: a Gaussian narrower than the draws.
    flat = np.asarray(jax.vmap(lambda one: ravel_pytree(one)[0])(u))
    inside = stats.multivariate_normal(flat.mean(0), 0.5 * np.cov(flat.T))
    ratio = np.exp(inside.logpdf(flat) - log_q)
    error = ratio.std() / np.sqrt(log_q.size)
    assert error < 0.1
    assert abs(ratio.mean() - 1) < 5 * error


@some
def test_weights_are_weights(small, case, x64):
    case = get(small, case)
    found = case.family.weights(case.model, case.params)
    assert found.shape == (small.k,)
    if getattr(case.model.weights, "last_stick", "one") == "one":
        np.testing.assert_allclose(np.sum(found), 1.0, rtol=1e-14)
    else:
        assert np.sum(found) < 1.0
    # Near the mean of the draws, whatever "expected" means to the family.
    u, _, _ = small.draw(case.family, case.model, case.params, jax.random.key(0))
    drawn = jax.vmap(lambda one: jnp.exp(case.model.log_weights(one)))(u)
    assert np.abs(np.asarray(found) - np.mean(drawn, 0)).max() < np.std(drawn, 0).max()


@cases([pair for pair in PREDICTIVE if not pair.endswith("-low_rank")], QUICK)
def test_predictive_is_a_density(small, case, x64):
    """In one dimension sum_k of the joint predictive integrates to one, each share to the weight."""
    case = get(small, case, dim=1)
    grid = np.linspace(-40.0, 40.0, 4001)
    joint = case.family.log_predictive(
        case.model, case.params, case.prior, jnp.asarray(grid[:, None]), jax.random.key(0), num_draws=100
    )
    assert joint.shape == (grid.size, small.k + (case.model.noise is not None))
    shares = np.trapezoid(np.exp(joint), grid, axis=0)
    if case.model.noise is not None:
        # Uniform over the box of the data only; what the components have left is theirs.
        frame = case.prior.frame
        shares = shares[:-1] / (1 - np.exp(joint[0, -1]) * float(frame.high[0] - frame.low[0]))
    weights = np.asarray(case.family.weights(case.model, case.params))
    if np.sum(weights) > 0.999:
        # The heaviest tail is a Student t with some ten degrees of freedom.
        np.testing.assert_allclose(shares.sum(), 1.0, rtol=1e-4)
    np.testing.assert_allclose(shares, weights, atol=0.05)


@cases(PREDICTIVE, QUICK)
def test_predictive_is_the_mean_over_draws(small, case, x64):
    case = get(small, case)
    x = case.batch.x[:4]
    n = 4000
    log_predictive = case.family.log_predictive(
        case.model, case.params, case.prior, x, jax.random.key(0), num_draws=n
    )
    found = np.exp(log_predictive)
    u, _, _ = small.draw(case.family, case.model, case.params, jax.random.key(1))
    u = jax.tree.map(lambda leaf: leaf[:n], u)
    density = jax.vmap(lambda one: jnp.exp(case.model.log_joint(case.model.constrain(case.prior, one), x)))(u)
    # Both sides may be Monte-Carlo means.
    error = np.std(density, 0) * np.sqrt(2 / n)
    assert np.all(np.abs(found - np.mean(density, 0)) < 5 * error)


@both
def test_start_is_a_state_of_its_own_shape(small, case, dtype):
    case = get(small, case, dtype)
    for leaf in jax.tree.leaves(case.params):
        assert leaf.dtype == dtype
        assert np.isfinite(leaf).all()
    leaves, structure = jax.tree.flatten(case.params)
    assert jax.tree.structure(structure.unflatten(leaves)) == structure


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_a_spec(name):
    one, two = FAMILIES[name](), FAMILIES[name]()
    assert is_spec(one)
    assert one == two
    assert hash(one) == hash(two)
    assert pickle.loads(pickle.dumps(one)) == one
