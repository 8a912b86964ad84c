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

from tests.contracts.conftest import MODELS, cases, in_both_types
from vigmm.core.errors import SpecError
from vigmm.core.struct import is_spec
from vigmm.core.typing import Batch
from vigmm.estimators import ESTIMATORS, Estimate, Objective
from vigmm.families import FAMILIES
from vigmm.models import COVARIANCES, Mixture

pytestmark = pytest.mark.contract

TRIPLES = ["-".join(triple) for triple in itertools.product(ESTIMATORS, FAMILIES, MODELS)]


def parts(case):
    """Estimator, family and model of a combination."""
    estimator, family, model = case.split("-")
    return ESTIMATORS[estimator](), FAMILIES[family](), Mixture(**MODELS[model])


def takes(case):
    estimator, family, model = parts(case)
    try:
        family.check(model)
        estimator.check(model, family)
    except SpecError:
        return False
    return True


TAKEN = [case for case in TRIPLES if takes(case)]
REFUSED = [case for case in TRIPLES if not takes(case)]
# Every combination compiles for seconds. So: every estimator with every family that it takes on one model,
# and every other model in closed form and by gradients.
ONE_MODEL = [case for case in TAKEN if case.endswith("-full")]
MODELS_ONCE = [case for case in TAKEN if case.startswith(("natural-conjugate-", "pathwise-blocks-"))]
COVER = list(dict.fromkeys([*ONE_MODEL, *MODELS_ONCE]))
# Rows are read by the estimator and the model alone: one family for each estimator, one prior of the weights.
READ = [case for case in ONE_MODEL if case == "natural-conjugate-full" or case.split("-")[1] == "blocks"]
READ += [
    case for case in MODELS_ONCE if case.split("-")[0] == "natural" and case.split("-")[2] in COVARIANCES
]
READ += ["pathwise-blocks-noise", "pathwise-blocks-low_rank", "natural-conjugate-process_hyper"]
READ = list(dict.fromkeys(READ))
TRACED = [case for case in TAKEN if case.startswith(("natural-", "pathwise-")) or case in COVER]

# On every commit: each estimator once, and the closed forms of unlike structures (families: test_families).
# The others compile for minutes together and run with the slow tests.
QUICK = {case for case in ONE_MODEL if case.startswith("natural-")}
QUICK |= {f"{name}-meanfield-full" for name in ESTIMATORS}
QUICK |= {f"natural-conjugate-{model}" for model in ("tied", "diag")}
QUICK |= {"pathwise-blocks-full", "pathwise-blocks-low_rank"}


QUICK_READ = {f"natural-conjugate-{model}" for model in ("full", "tied", "diag")} | {"pathwise-blocks-full"}
everything = cases(TRACED, QUICK)
read = cases(READ, QUICK_READ)
# What an estimator does with draws does not depend on who drew them: all families for one of them.
alike = ("-fullrank-", "-lowrank-", "-flow-")
compared = cases(
    [case for case in COVER if case.startswith("pathwise-") or not any(name in case for name in alike)],
    QUICK_READ | {"pathwise-meanfield-full"},
)
both = in_both_types(COVER, QUICK)


class Case:
    """One combination on the shared problem."""

    def __init__(self, small, case, dtype=jnp.float32, **changes):
        self.estimator, family, _ = parts(case)
        found = small.setting(family, dtype=dtype, **{**MODELS[case.split("-")[2]], **changes})
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
    """The largest number, the error of a single draw apart, which is infinite."""
    return max(
        float(np.abs(leaf).max(initial=0.0, where=np.isfinite(leaf))) for leaf in jax.tree.leaves(tree)
    )


def test_every_family_has_an_estimator_and_the_other_way_round():
    taken = [case.split("-") for case in TAKEN]
    assert {family for _, family, _ in taken} == set(FAMILIES)
    assert {estimator for estimator, _, _ in taken} == set(ESTIMATORS)
    assert {model for _, _, model in taken} == set(MODELS)


@pytest.mark.parametrize("case", REFUSED)
def test_a_combination_that_makes_no_sense_is_refused_at_once(case):
    estimator, family, model = parts(case)
    with pytest.raises(SpecError, match=r"family|covariance|estimator|model|entropy"):
        Objective(model=model, family=family, estimator=estimator)


@everything
def test_shapes_of_every_combination(small, case):
    """Traced and not compiled: the bound is a scalar, grads look like params."""
    case = Case(small, case)
    found = jax.eval_shape(case.objective.estimate, case.params, case.prior, case.batch, case.key)
    assert found.elbo.shape == found.se.shape == ()
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), found.grads) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), case.params
    )
    assert all(term.shape == () for term in found.terms.values())


@both
def test_shapes_types_and_terms(small, case, dtype):
    """The bound is a finite scalar, the sum of its terms; grads look like params; types are kept."""
    case = Case(small, case, dtype)
    found = case()
    assert isinstance(found, Estimate)
    for leaf in jax.tree.leaves(found):
        assert leaf.dtype == dtype
    for leaf in jax.tree.leaves((found.elbo, found.grads, found.terms)):
        assert np.isfinite(leaf).all()
    # Nothing is drawn, or one draw says nothing of its error, or some do.
    assert float(found.se) >= 0
    assert found.elbo.shape == ()
    assert all(term.shape == () for term in found.terms.values())
    np.testing.assert_allclose(
        sum(map(float, found.terms.values())), found.elbo, rtol=20 * np.finfo(dtype).eps
    )
    assert jax.tree.structure(found.grads) == jax.tree.structure(case.params)
    assert jax.tree.map(jnp.shape, found.grads) == jax.tree.map(jnp.shape, case.params)


@read
def test_value_is_the_estimate_without_the_gradient(small, case, x64):
    case = Case(small, case, jnp.float64)
    terms = small.value(case.objective, case.params, case.prior, case.batch, case.key)
    assert_close(terms, case().terms, rtol=1e-10)


@functools.partial(jax.jit, static_argnames=("objective",))
def many(objective, params, prior, batch, keys):
    """Mean gradient over keys."""
    grads = jax.vmap(lambda key: objective.estimate(params, prior, batch, key).grads)(keys)
    return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), grads)


@functools.partial(jax.jit, static_argnames=("objective",))
def values(objective, params, prior, batch, keys):
    """Bounds of many keys."""
    terms = jax.vmap(lambda key: objective.value(params, prior, batch, key))(keys)
    return jax.tree.reduce(jnp.add, terms)


@compared
def test_grads_descend(small, case, x64):
    """A small step against them raises the bound, and one along them lowers it.

    In the mean over keys: at one key the score's gradient, and the doubly reparameterised one, is not the
    gradient of the value. The same keys on both sides, so that the noise of the value cancels.
    """
    case = Case(small, case, jnp.float64)
    data = (case.prior, case.batch)
    fixed = case.objective.estimator == ESTIMATORS["pathwise"]() or float(case().se) == 0
    keys = jax.random.split(case.key, 1 if fixed else 2000)
    grads = many(case.objective, case.params, *data, keys)
    length = 1e-4 / max(1.0, scale(grads))

    def bounds(sign):
        moved = jax.tree.map(lambda p, g: p + sign * length * g, case.params, grads)
        return np.asarray(values(case.objective, moved, *data, keys))

    here = np.asarray(values(case.objective, case.params, *data, keys))
    for sign in (-1, 1):
        gain = -sign * (bounds(sign) - here)
        error = 0.0 if fixed else gain.std() / np.sqrt(len(keys))
        assert gain.mean() > 5 * error


@read
def test_only_log_lik_reads_the_batch(small, case):
    case = Case(small, case)
    if case.estimator.full_batch:
        pytest.skip("this bound is not additive over the batch")
    one, two = case().terms, case(x=case.batch.x + 1.0).terms
    assert one["log_lik"] != two["log_lik"]
    for name in set(one) - {"log_lik"}:
        assert one[name] == two[name]


@read
def test_rows_of_weight_zero_count_nothing(small, case, x64):
    case = Case(small, case, jnp.float64)
    weight = case.batch.weight.at[-5:].set(0.0)
    garbage = case.batch.x.at[-5:].set(jnp.asarray([[1e6, -3e5]] * 5))
    padded = case(x=garbage, weight=weight)
    # Whatever the padding holds, to the last bit.
    jax.tree.map(np.testing.assert_array_equal, padded, case(x=garbage.at[-5:].set(0.0), weight=weight))
    # And it is as if the rows were not there.
    without = case(x=case.batch.x[:-5], weight=jnp.ones(small.n - 5))
    assert_close(padded, without, rtol=1e-10, atol=1e-10 * scale(without))


@read
def test_weight_two_is_the_row_twice(small, case, x64):
    case = Case(small, case, jnp.float64)
    twice = case(x=case.batch.x.at[1].set(case.batch.x[0]))
    weighted = case(weight=case.batch.weight.at[0].set(2.0).at[1].set(0.0))
    assert_close(twice, weighted, rtol=1e-10, atol=1e-10 * scale(twice))
    # The test has something to find.
    assert abs(float(twice.elbo - case().elbo)) > 0.01


@read
def test_order_of_rows_does_not_matter(small, case, x64):
    case = Case(small, case, jnp.float64)
    shuffled = case(x=case.batch.x[::-1])
    assert_close(shuffled, case(), rtol=1e-10, atol=1e-10 * scale(shuffled))


@read
def test_minibatches_are_unbiased(small, case, x64):
    """The mean over every batch of one row, scaled by N, is the full batch, at the same key."""
    case = Case(small, case, jnp.float64)
    if case.estimator.full_batch:
        pytest.skip("this bound needs the full batch")
    batches = [case(weight=small.n * jnp.eye(small.n)[i]) for i in range(small.n)]
    batches = [(found.elbo, found.grads, found.terms) for found in batches]
    mean = jax.tree.map(lambda *leaves: sum(leaves) / small.n, *batches)
    full = case()
    found = (full.elbo, full.grads, full.terms)
    assert_close(mean, found, rtol=1e-9, atol=1e-10 * scale(found))
    assert abs(float(batches[0][0] - full.elbo)) > 0.1


@read
def test_tiles_do_not_change_the_answer(small, case, x64):
    case = Case(small, case, jnp.float64)
    if "tile" not in {field.name for field in dataclasses.fields(case.estimator)}:
        pytest.skip("this estimator is not tiled")
    # 7 does not divide the rows: the last tile is padded.
    tiled = dataclasses.replace(case.objective, estimator=dataclasses.replace(case.estimator, tile=7))
    found = case(objective=tiled)
    assert_close(found, case(), rtol=1e-10, atol=1e-10 * scale(found))


@read
def test_float32_is_close_to_float64(small, case):
    """To rounding where nothing is drawn; else in the mean, for a key gives other noise in other types."""
    keys = 64

    def run(dtype, like=None):
        made = Case(small, case, dtype)
        if like is not None:
            # Rounded alike, so that only the estimator's own rounding is seen.
            made.params, made.prior, made.batch = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), like)
        found = [jax.tree.map(np.asarray, made(key=jax.random.key(i))) for i in range(keys)]
        found = [(one.elbo, one.grads, one.terms) for one in found]
        return found, jax.tree.map(np.asarray, (made.params, made.prior, made.batch))

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


@read
def test_the_key_alone_decides(small, case):
    case = Case(small, case)
    jax.tree.map(np.testing.assert_array_equal, case(), case())
    same = float(case(key=jax.random.key(1)).elbo) == float(case().elbo)
    assert same == (float(case(key=jax.random.key(2)).elbo) == float(case().elbo))


@read
def test_a_refit_does_not_compile_again(small, case):
    """Equal specs are one static argument; data, prior, parameters and key are all traced."""
    first, again = Case(small, case), Case(small, case)
    first()
    before = small.estimate._cache_size()
    again.prior = jax.tree.map(lambda leaf: leaf * 1.1, again.prior)
    again(x=again.batch.x * 2.0, key=jax.random.key(7))
    assert small.estimate._cache_size() == before


@read
def test_under_vmap_over_restarts(small, case, x64):
    case = Case(small, case, jnp.float64)
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


# The evidence is known where q has a conjugate form, and at K = 1 whatever the weights are.
KNOWN = [case for case in COVER if Mixture(**MODELS[case.split("-")[2]]).refusal() is None]
KNOWN = [case for case in KNOWN if case.split("-")[2] != "process_free"]


@cases(KNOWN, QUICK)
def test_the_bound_is_below_the_evidence_and_close(small, case, x64):
    """At K = 1 the evidence is known: sum over rows of the predictive of each given those before it."""
    case = Case(small, case, jnp.float64, k=1)
    evidence, algebra = 0.0, case.model.algebra
    natural = algebra.natural(case.prior.components, jnp.zeros((1, small.dim)))

    for row in case.batch.x:
        natural, log_predictive = follow(algebra, natural, row)
        evidence += float(log_predictive)
    keys = jax.random.split(case.key, 2000)
    found = np.asarray(values(case.objective, case.params, case.prior, case.batch, keys))
    error = float(np.std(found)) / np.sqrt(len(keys))
    assert error < 0.5
    assert float(np.mean(found)) <= evidence + 5 * error + 1e-9 * abs(evidence)
    # A start that is the exact posterior up to the family's form: a stray constant would show.
    assert float(np.mean(found)) > evidence - 1.0 - 5 * error


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
