"""Passes over rows: all forms say the same where they may be used, and it is known where that is."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vigmm.core.typing import Batch
from vigmm.families import Conjugate
from vigmm.math.features import features
from vigmm.models import COVARIANCES, DataScale, Mixture, passes
from vigmm.train.starts.statistics import posterior_of_labels

# One of each algebra by default: what tied and spherical ones add is little, and compiling is the cost.
DEFAULT = ("full", "spherical")
CONJUGATE = [
    pytest.param(name, marks=[] if name in DEFAULT else pytest.mark.slow)
    for name in COVARIANCES
    if hasattr(COVARIANCES[name]().structure, "stats")
]
ROWS, DIM, NUM = 300, 5, 3


def clusters(offset: float = 0.0, spread: float = 0.5, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Rows in NUM clusters of sd `spread`, everything moved by `offset`."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, NUM, rows)
    means = draw.normal(size=(NUM, DIM))
    return means[labels] + spread * draw.normal(size=(rows, DIM)) + offset, labels


class Case:
    """A conjugate posterior of known clusters, in some dtype."""

    def __init__(self, covariance: str, x: np.ndarray, labels: np.ndarray, dtype) -> None:
        self.model = Mixture(num_components=NUM, covariance=COVARIANCES[covariance]())
        mean, ones = x.mean(0), np.ones(DIM)
        scale = DataScale(mean=mean, cov=np.cov(x.T), center=np.zeros(DIM), scale=ones)
        prior = self.model.build_prior(scale, dtype=dtype)
        draw = np.random.default_rng(1)
        weight = draw.uniform(0.5, 1.5, len(x))
        weight[7] = 0.0
        self.batch = Batch(x=jnp.asarray(x, dtype), weight=jnp.asarray(weight, dtype))
        label, keep = jnp.asarray(labels, jnp.int32), jnp.ones(len(x), dtype)
        params, _ = posterior_of_labels(self.model, prior, self.batch, label, keep)
        self.posterior = Conjugate().posterior(self.model, params)
        self.theta = Conjugate().expected(self.model, self.posterior)
        self.centre = self.posterior.components.loc
        self.prior = prior

    def gather(self, theta=None):
        return jax.jit(lambda theta: passes.gather(self.model, theta, self.batch, self.centre))(
            self.theta if theta is None else theta
        )

    def roughness(self) -> float:
        power = jnp.mean(self.batch.x**2, axis=0)
        return float(jnp.max(self.model.structure.roughness(self.theta.parts, power)))


def forced(monkeypatch, form: int) -> None:
    monkeypatch.setattr(passes, "_form", lambda *_: jnp.int32(form))


def forms(case: Case) -> range:
    """Exact, statistics from features, and, for variances, log densities from features as well."""
    return range(2 + case.model.structure.sloped)


@pytest.mark.parametrize("covariance", CONJUGATE)
def test_all_forms_agree(covariance, x64, monkeypatch):
    """In float64, far from rounding: the bound's likelihood and every statistic about the same centre."""
    case = Case(covariance, *clusters(), jnp.float64)
    found = []
    for form in forms(case):
        forced(monkeypatch, form)
        found.append(case.gather())
    for value, stats in found[1:]:
        np.testing.assert_allclose(value, found[0][0], rtol=1e-12)
        close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
        jax.tree.map(close, stats, found[0][1])


@pytest.mark.parametrize("covariance", CONJUGATE)
def test_slopes_are_those_of_the_squares(covariance, x64):
    """The definition: -square / 2 less its value at the origin is linear in the features."""
    case = Case(covariance, *clusters(), jnp.float64)
    structure, parts, x = case.model.structure, case.theta.parts, case.batch.x
    linear = features(structure.features, x)[:, :-1] @ structure.slopes(parts).T
    origin = structure.square(parts, jnp.zeros_like(x[:1]))
    np.testing.assert_allclose(-0.5 * (structure.square(parts, x) - origin), linear, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("covariance", CONJUGATE)
def test_the_gradient_is_that_of_plain_autodiff(covariance, x64, monkeypatch):
    """Two draws side by side, each with a cotangent of its own, in every form."""
    case = Case(covariance, *clusters(), jnp.float64)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * 1.1]), case.theta)
    weigh = jnp.asarray([1.0, -0.3])

    def plain(theta):
        one = jax.vmap(lambda theta: case.batch.weight @ case.model.log_lik(theta, case.batch.x))
        return weigh @ one(theta)

    def coarse(grad):
        """Where columns share a precision, only the sum over columns is a derivative of anything."""
        if "spherical" not in covariance:
            return grad
        parts = dataclasses.replace(grad.parts, root=grad.parts.root.sum(-1))
        return dataclasses.replace(grad, parts=parts)

    want, want_grad = jax.value_and_grad(plain)(many)
    for form in forms(case):
        forced(monkeypatch, form)
        value, grad = jax.jit(
            jax.value_and_grad(lambda theta: weigh @ passes.log_lik(case.model, theta, case.batch, tile=64))
        )(many)
        np.testing.assert_allclose(value, want, rtol=1e-12)
        for a, b in zip(jax.tree.leaves(coarse(grad)), jax.tree.leaves(coarse(want_grad)), strict=True):
            size = max(1.0, float(jnp.abs(b).max(initial=0.0)))
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8 * size)


@pytest.mark.parametrize("offset", [0.0, 10.0, 100.0])
def test_roughness_is_the_error_of_the_quick_form(offset, monkeypatch):
    """Of a component's second moments, in its tightest direction, within a factor of ten: 1e-6 to 1e-2.

    It is made of root mean squares, and rounding errors have random signs, so that no more can be said.
    """
    case = Case("full", *clusters(offset, rows=4000), jnp.float32)
    forced(monkeypatch, 1)
    second = np.asarray(case.gather()[1].second, np.float64)
    # Responsibilities have their own rounding, which is not in question: as the float32 theta has them.
    shares = np.asarray(jax.nn.softmax(case.model.log_joint(case.theta, case.batch.x), axis=-1), np.float64)
    shifted = np.asarray(case.batch.x, np.float64)[:, None] - np.asarray(case.centre, np.float64)
    weighted = np.asarray(case.batch.weight, np.float64)[:, None] * shares
    exact = np.einsum("bk,bki,bkj->kij", weighted, shifted, shifted)
    inverse = np.linalg.inv(np.linalg.cholesky(exact))
    relative = inverse @ (second - exact) @ np.swapaxes(inverse, 1, 2)
    found, told = float(np.abs(np.linalg.eigvalsh(relative)).max()), case.roughness()
    assert told / 10 < found < told * 10, (found, told)


@pytest.mark.parametrize("covariance", ["full", "diag"])
@pytest.mark.parametrize(("offset", "spread", "form"), [(0.0, 0.5, 1), (100.0, 0.01, 0)])
def test_the_form_is_chosen_by_roughness(covariance, offset, spread, form):
    """300 rows of unit weight, on about the scale of the data, and tight clusters far off."""
    case = Case(covariance, *clusters(offset, spread), jnp.float32)
    many = jax.tree.map(lambda leaf: leaf[None], case.theta)
    want = form * (1 + case.model.structure.sloped)
    assert int(passes._form(case.model.structure, many, case.batch)) == want


def test_slopes_must_not_show_in_the_bound():
    """The same components and many times the rows, all read at once: rounding of slopes would add up."""
    case = Case("diag", *clusters(), jnp.float32)
    many = jax.tree.map(lambda leaf: leaf[None], case.theta)
    rows = case.batch.x.shape[0]
    every = Batch(x=jnp.tile(case.batch.x, (1000, 1)), weight=jnp.ones(1000 * rows, jnp.float32))
    assert int(passes._form(case.model.structure, many, every)) == 1
    # A minibatch of so many more rows has a sampling error that hides it.
    some = Batch(x=case.batch.x, weight=1000 * jnp.ones(rows, jnp.float32))
    assert int(passes._form(case.model.structure, many, some)) == 2


def test_what_is_not_finite_is_left_to_the_exact_form():
    case = Case("full", *clusters(), jnp.float32)
    broken = jax.tree.map(lambda leaf: leaf[None] * jnp.nan, case.theta)
    assert int(passes._form(case.model.structure, broken, case.batch)) == 0
