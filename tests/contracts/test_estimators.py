"""What the training loop relies on, for every estimator with every family and covariance that it takes."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vigmm.core.errors import SpecError
from vigmm.core.struct import is_spec
from vigmm.core.typing import Batch
from vigmm.estimators import ESTIMATORS, Estimate, Objective
from vigmm.families import FAMILIES
from vigmm.models import COVARIANCES, WEIGHTS, Mixture

pytestmark = pytest.mark.contract

TRIPLES = list(itertools.product(ESTIMATORS, FAMILIES, COVARIANCES))


def takes(estimator: str, family: str, covariance: str) -> bool:
    try:
        ESTIMATORS[estimator]().check(Mixture(covariance=COVARIANCES[covariance]()), FAMILIES[family]())
    except SpecError:
        return False
    return True


TAKEN = [triple for triple in TRIPLES if takes(*triple)]
REFUSED = [triple for triple in TRIPLES if not takes(*triple)]

taken = pytest.mark.parametrize("triple", TAKEN, ids="-".join)


class Case:
    """One combination on the shared problem."""

    def __init__(self, small, triple, dtype=jnp.float32, **changes):
        estimator, family, covariance = triple
        self.estimator = ESTIMATORS[estimator]()
        found = small.setting(
            FAMILIES[family](), dtype=dtype, covariance=COVARIANCES[covariance](), **changes
        )
        self.small, self.model, self.prior, self.params = small, found.model, found.prior, found.params
        self.batch, self.family = found.batch, found.family
        self.objective = Objective(model=self.model, family=self.family, estimator=self.estimator)
        self.key = jax.random.key(0)

    def __call__(self, *, params=None, key=None, objective=None, **batch) -> Estimate:
        batch = dataclasses.replace(self.batch, **batch)
        key = self.key if key is None else key
        params = self.params if params is None else params
        return self.small.estimate(objective or self.objective, params, self.prior, batch, key)


def assert_close(one, two, *, rtol, atol=0.0):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=atol), one, two)


def scale(tree) -> float:
    return max(float(np.abs(leaf).max(initial=0.0)) for leaf in jax.tree.leaves(tree))


def test_every_family_has_an_estimator_and_the_other_way_round():
    assert {family for _, family, _ in TAKEN} == set(FAMILIES)
    assert {estimator for estimator, _, _ in TAKEN} == set(ESTIMATORS)


@pytest.mark.parametrize("triple", REFUSED, ids="-".join)
def test_a_combination_that_makes_no_sense_is_refused_at_once(triple):
    estimator, family, covariance = triple
    with pytest.raises(SpecError, match=r"family|covariance|estimator"):
        Objective(
            model=Mixture(covariance=COVARIANCES[covariance]()),
            family=FAMILIES[family](),
            estimator=ESTIMATORS[estimator](),
        )


@taken
def test_shapes_types_and_terms(small, triple, dtype):
    """The bound is a finite scalar, the sum of its terms; grads look like params; types are kept."""
    case = Case(small, triple, dtype)
    found = case()
    assert isinstance(found, Estimate)
    for leaf in jax.tree.leaves(found):
        assert leaf.dtype == dtype
        assert np.isfinite(leaf).all()
    assert found.elbo.shape == ()
    assert all(term.shape == () for term in found.terms.values())
    np.testing.assert_allclose(
        sum(map(float, found.terms.values())), found.elbo, rtol=20 * np.finfo(dtype).eps
    )
    assert jax.tree.structure(found.grads) == jax.tree.structure(case.params)
    assert jax.tree.map(jnp.shape, found.grads) == jax.tree.map(jnp.shape, case.params)


@taken
@pytest.mark.parametrize("weights", WEIGHTS)
def test_with_every_weight_prior(small, triple, weights):
    case = Case(small, triple, weights=WEIGHTS[weights]())
    assert np.isfinite(case().elbo)


@taken
def test_value_is_the_estimate_without_the_gradient(small, triple, x64):
    case = Case(small, triple, jnp.float64)
    terms = small.value(case.objective, case.params, case.prior, case.batch, case.key)
    assert_close(terms, case().terms, rtol=1e-10)


@taken
def test_grads_descend(small, triple, x64):
    """A small step against them raises the bound, and one along them lowers it."""
    case = Case(small, triple, jnp.float64)
    here = case()
    length = 1e-4 / max(1.0, scale(here.grads))
    moved = jax.tree.map(lambda p, g: p - length * g, case.params, here.grads)
    assert float(case(params=moved).elbo) > float(here.elbo)
    back = jax.tree.map(lambda p, g: p + length * g, case.params, here.grads)
    assert float(case(params=back).elbo) < float(here.elbo)


@taken
def test_only_log_lik_reads_the_batch(small, triple):
    case = Case(small, triple)
    one, two = case().terms, case(x=case.batch.x + 1.0).terms
    assert one["log_lik"] != two["log_lik"]
    for name in set(one) - {"log_lik"}:
        assert one[name] == two[name]


@taken
def test_rows_of_weight_zero_count_nothing(small, triple, x64):
    case = Case(small, triple, jnp.float64)
    weight = case.batch.weight.at[-5:].set(0.0)
    garbage = case.batch.x.at[-5:].set(jnp.asarray([[1e6, -3e5]] * 5))
    padded = case(x=garbage, weight=weight)
    # Whatever the padding holds, to the last bit.
    jax.tree.map(np.testing.assert_array_equal, padded, case(x=garbage.at[-5:].set(0.0), weight=weight))
    # And it is as if the rows were not there.
    without = case(x=case.batch.x[:-5], weight=jnp.ones(small.n - 5))
    assert_close(padded, without, rtol=1e-10, atol=1e-10 * scale(without))


@taken
def test_weight_two_is_the_row_twice(small, triple, x64):
    case = Case(small, triple, jnp.float64)
    twice = case(x=case.batch.x.at[1].set(case.batch.x[0]))
    weighted = case(weight=case.batch.weight.at[0].set(2.0).at[1].set(0.0))
    assert_close(twice, weighted, rtol=1e-10, atol=1e-10 * scale(twice))
    # The test has something to find.
    assert abs(float(twice.elbo - case().elbo)) > 0.01


@taken
def test_order_of_rows_does_not_matter(small, triple, x64):
    case = Case(small, triple, jnp.float64)
    shuffled = case(x=case.batch.x[::-1])
    assert_close(shuffled, case(), rtol=1e-10, atol=1e-10 * scale(shuffled))


@taken
def test_minibatches_are_unbiased(small, triple, x64):
    """The mean over every batch of one row, scaled by N, is the full batch, at the same key."""
    case = Case(small, triple, jnp.float64)
    batches = [case(weight=small.n * jnp.eye(small.n)[i]) for i in range(small.n)]
    mean = jax.tree.map(lambda *leaves: sum(leaves) / small.n, *batches)
    full = case()
    assert_close(mean, full, rtol=1e-9, atol=1e-10 * scale(full))
    assert abs(float(batches[0].elbo - full.elbo)) > 0.1


@taken
def test_tiles_do_not_change_the_answer(small, triple, x64):
    case = Case(small, triple, jnp.float64)
    if "tile" not in {field.name for field in dataclasses.fields(case.estimator)}:
        pytest.skip("this estimator is not tiled")
    # 7 does not divide the rows: the last tile is padded.
    tiled = dataclasses.replace(case.objective, estimator=dataclasses.replace(case.estimator, tile=7))
    found = case(objective=tiled)
    assert_close(found, case(), rtol=1e-10, atol=1e-10 * scale(found))


@taken
def test_float32_is_close_to_float64(small, triple):
    """To rounding where nothing is drawn; else in the mean, for a key gives other noise in other types."""
    keys = 64

    def run(dtype, like=None):
        case = Case(small, triple, dtype)
        if like is not None:
            # Rounded alike, so that only the estimator's own rounding is seen.
            case.params, case.prior, case.batch = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), like)
        found = [jax.tree.map(np.asarray, case(key=jax.random.key(i))) for i in range(keys)]
        return found, jax.tree.map(np.asarray, (case.params, case.prior, case.batch))

    single, like = run(jnp.float32)
    with jax.enable_x64(True):
        double, _ = run(jnp.float64, like)
    # A sum of 24 rows of some 10 operations on terms up to 1e2.
    eps = 300 * np.finfo(np.float32).eps

    def compare(*leaves):
        one, two = np.stack(leaves[:keys]), np.stack(leaves[keys:])
        error = np.sqrt((one.var(0) + two.var(0)) / keys)
        assert np.all(np.abs(one.mean(0) - two.mean(0)) <= 5 * error + eps * (np.abs(two.mean(0)) + largest))

    largest = scale(double[0])
    jax.tree.map(compare, *single, *double)


@taken
def test_the_key_alone_decides(small, triple):
    case = Case(small, triple)
    jax.tree.map(np.testing.assert_array_equal, case(), case())
    same = float(case(key=jax.random.key(1)).elbo) == float(case().elbo)
    assert same == (float(case(key=jax.random.key(2)).elbo) == float(case().elbo))


@taken
def test_a_refit_does_not_compile_again(small, triple):
    """Equal specs are one static argument; data, prior, parameters and key are all traced."""
    case = Case(small, triple)
    case()
    before = small.estimate._cache_size()
    again = Case(small, triple)
    again.prior = jax.tree.map(lambda leaf: leaf * 1.1, again.prior)
    again(x=again.batch.x * 2.0, key=jax.random.key(7))
    assert small.estimate._cache_size() == before


@taken
def test_under_vmap_over_restarts(small, triple, x64):
    case = Case(small, triple, jnp.float64)
    keys = jax.random.split(case.key, 2)
    moved = jax.tree.map(lambda leaf: leaf * 1.01, case.params)
    many = jax.tree.map(lambda a, b: jnp.stack([a, b]), case.params, moved)
    found = jax.vmap(lambda p, k: small.estimate(case.objective, p, case.prior, case.batch, k))(many, keys)
    for i, params in enumerate((case.params, moved)):
        one = case(params=params, key=keys[i])
        assert_close(jax.tree.map(lambda leaf, i=i: leaf[i], found), one, rtol=1e-9, atol=1e-9 * scale(one))


@functools.partial(jax.jit, static_argnames=("algebra",))
def follow(algebra, natural, row):
    """The posterior after one more row, and the row's predictive before it."""
    log_predictive = algebra.log_predictive(algebra.standard(natural), row[None])[0, 0]
    stats = algebra.stats(row[None], jnp.ones((1, 1)), jnp.zeros((1, row.size)))
    return jax.tree.map(jnp.add, natural, stats), log_predictive


@taken
def test_the_bound_is_below_the_evidence_and_close(small, triple, x64):
    """At K = 1 the evidence is known: sum over rows of the predictive of each given those before it."""
    case = Case(small, triple, jnp.float64, k=1)
    evidence, algebra = 0.0, case.model.algebra
    natural = algebra.natural(case.prior.components, jnp.zeros((1, small.dim)))

    for row in case.batch.x:
        natural, log_predictive = follow(algebra, natural, row)
        evidence += float(log_predictive)
    keys = jax.random.split(case.key, 2000)
    values = jax.vmap(
        lambda key: jax.tree.reduce(
            jnp.add, small.value(case.objective, case.params, case.prior, case.batch, key)
        )
    )(keys)
    error = float(np.std(values)) / np.sqrt(len(keys))
    assert error < 0.5
    assert float(np.mean(values)) <= evidence + 5 * error + 1e-9 * abs(evidence)
    # A start that is the exact posterior up to the family's form: a stray constant would show.
    assert float(np.mean(values)) > evidence - 1.0 - 5 * error


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_is_a_spec(name):
    one, two = ESTIMATORS[name](), ESTIMATORS[name]()
    assert is_spec(one)
    assert one == two
    assert hash(one) == hash(two)
    assert pickle.loads(pickle.dumps(one)) == one


def test_batch_is_the_only_carrier_of_weights(small):
    """Batch has rows and weights, and nothing else to forget."""
    assert [field.name for field in dataclasses.fields(Batch)] == ["x", "weight"]
