"""Passes by fused kernels, interpreted: those of XLA in double precision, or refused.

The tolerance of a sum over rows is its size, the sum of what single rows add to it, times rounding errors:
D + 4 for each log density and each share (they are of order one to ten here, and two of them matter), and
one for each addition on the longest path.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vigmm
from vigmm.core.errors import SpecError
from vigmm.core.typing import Batch
from vigmm.estimators import Natural, Objective, Pathwise
from vigmm.families import Conjugate, MeanField
from vigmm.models import COVARIANCES, Components, FactorAnalytic, Full, Mixture, Noise, StudentT, Tied, passes
from vigmm.models.covariance.matrices import Whitened
from vigmm.train import Train

EPS = float(np.finfo(np.float32).eps)
ROWS, DIM, NUM, DRAWS = 90, 3, 3, 2
# Log densities are up to 30 nats: 2 x 30 x (D + 4) rounding errors, and a path of all rows.
WRONG = (60 * (DIM + 4) + ROWS) * EPS


def inputs(tied: bool, dtype) -> tuple[Components, Batch]:
    """Two draws of three components, of which one is out of use, and rows far from the origin."""
    draw = np.random.default_rng(2)
    loc = 20.0 + draw.normal(size=(DRAWS, NUM, DIM))
    whitener = np.tril(0.3 * draw.normal(size=(DRAWS, 1 if tied else NUM, DIM, DIM))) + np.eye(DIM)
    log_weights = np.log(draw.dirichlet(np.ones(NUM), DRAWS))
    log_weights[1, 2] = -np.inf
    log_det = np.sum(np.log(np.abs(np.diagonal(whitener, axis1=-2, axis2=-1))), axis=-1)
    offset = np.einsum("skij,skj->ski", np.broadcast_to(whitener, (DRAWS, NUM, DIM, DIM)), loc)
    x = 20.0 + draw.normal(size=(ROWS, DIM))
    weight = draw.uniform(size=ROWS)
    weight[3] = 0.0

    def given(array: np.ndarray) -> jax.Array:
        return jnp.asarray(np.float32(array), dtype)

    parts = Whitened(
        log_det=given(np.broadcast_to(log_det, (DRAWS, NUM))),
        whitener=given(whitener),
        offset=given(offset),
        loc=given(loc),
    )
    theta = Components(
        log_weights=given(log_weights),
        parts=parts,
        own=given(np.zeros((DRAWS, NUM, 0))),
        log_noise=given(np.zeros((DRAWS, 0))),
        patterns=given(np.zeros((DRAWS, 0, DIM))),
    )
    return theta, Batch(x=given(x), weight=given(weight))


def each(batch: Batch):
    """One row after the other."""
    return Batch(x=batch.x[:, None], weight=batch.weight[:, None])


def near(found, single) -> None:
    """The sum of what each row adds, within `WRONG` of the sum of its sizes."""
    for made, one in zip(*map(jax.tree.leaves, (found, single)), strict=True):
        assert made.dtype == jnp.float32
        parts = np.asarray(one)
        wrong = np.abs(np.asarray(made) - np.sum(parts, axis=0))
        assert np.all(wrong <= WRONG * np.sum(np.abs(parts), axis=0))


@pytest.mark.parametrize("tied", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_statistics_are_those_of_the_other_form_for_draws_side_by_side(tied, x64):
    model = Mixture(num_components=NUM, covariance=Tied() if tied else Full())
    (theta, batch), (exact, whole) = inputs(tied, jnp.float32), inputs(tied, jnp.float64)
    centre = theta.parts.loc + 0.5

    def fused(theta, centre):
        return passes.gather(model, theta, batch, centre, kernel="pallas")

    def xla(theta, batch, centre):
        return passes.gather(model, theta, batch, centre)

    found = jax.jit(jax.vmap(fused))(theta, centre)
    about = centre.astype(jnp.float64)
    draws = jax.vmap(xla, (0, None, 0))
    near(found, jax.jit(jax.vmap(draws, (None, 0, None)))(exact, each(whole), about))


@pytest.mark.parametrize("tied", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_value_and_gradient_of_draws_are_those_of_the_other_form(tied, x64):
    model = Mixture(num_components=NUM, covariance=Tied() if tied else Full())
    (theta, batch), (exact, whole) = inputs(tied, jnp.float32), inputs(tied, jnp.float64)
    scale = jnp.asarray([1.0, -2.0], jnp.float32)

    def moving(parts, log_weights, like, batch, kernel):
        log_det, whitener, offset = parts
        parts = dataclasses.replace(like.parts, log_det=log_det, whitener=jnp.tril(whitener), offset=offset)
        theta = dataclasses.replace(like, log_weights=log_weights, parts=parts)
        values = passes.log_lik(model, theta, batch, kernel=kernel)
        return jnp.sum(scale.astype(values.dtype) * values), values

    def gradient(theta, batch, kernel):
        parts = (theta.parts.log_det, theta.parts.whitener, theta.parts.offset)
        both = jax.value_and_grad(moving, argnums=(0, 1), has_aux=True)
        (_, values), grads = both(parts, theta.log_weights, theta, batch, kernel)
        return values, grads

    found = jax.jit(lambda theta: gradient(theta, batch, "pallas"))(theta)
    one = jax.jit(jax.vmap(lambda theta, batch: gradient(theta, batch, "xla"), (None, 0)))
    near(found, one(exact, each(whole)))


def test_a_value_alone_makes_no_moments():
    model = Mixture(num_components=NUM)
    theta, batch = inputs(False, jnp.float32)

    def value(theta):
        return jnp.sum(passes.log_lik(model, theta, batch, kernel="pallas"))

    for function, wanted, others in (
        (value, "log_norms", "moments"),
        (jax.grad(value), "moments", "log_norms"),
    ):
        text = jax.jit(function).trace(theta).lower(lowering_platforms=("cuda",)).as_text()
        assert f'name = "{wanted}"' in text
        assert f'name = "{others}"' not in text


@pytest.mark.parametrize(
    ("family", "estimator"),
    [(Conjugate(), Natural()), (MeanField(), Pathwise())],
    ids=["natural", "pathwise"],
)
def test_estimators_call_the_kernels_where_they_are_asked_for(family, estimator):
    x = np.random.default_rng(0).normal(size=(40, 2))
    train = Train(passes=1, min_steps=1, holdout=0.0)
    model = Mixture(num_components=NUM, covariance=Full())
    fit = vigmm.fit(x, model=model, family=family, estimator=estimator, moves=None, train=train)
    rows, key = fit.context.rows(), jax.random.key(0)
    batch = Batch(x=rows.x, weight=rows.weight)

    def text(objective: Objective) -> str:
        traced = jax.make_jaxpr(objective.estimate)(fit.posterior.params, fit.context.prior, batch, key)
        return str(traced)

    plain = fit.context.objective
    fused = dataclasses.replace(plain, estimator=dataclasses.replace(estimator, kernel="pallas"))
    assert "pallas_call" not in text(plain)
    assert "pallas_call" in text(fused)


def test_a_fit_ends_where_it_ends_without():
    draw = np.random.default_rng(0)
    x = np.concatenate([draw.normal(c, 0.5, size=(60, 2)) for c in (-3.0, 0.0, 4.0)])
    options = {"model": Mixture(num_components=NUM), "moves": None, "train": Train(batch_size=180, passes=20)}
    plain = vigmm.fit(x, **options)
    fused = vigmm.fit(x, estimator=Natural(kernel="pallas"), **options)
    # Near the optimum the bound is wrong by the square of what the parameters are; they are wrong by `WRONG`.
    assert fused.elbo.elbo == pytest.approx(plain.elbo.elbo, abs=180 * WRONG**2)
    np.testing.assert_array_equal(fused.posterior.predict(x), plain.posterior.predict(x))


REFUSED = {
    "covariance": (Mixture(covariance=COVARIANCES["diag"]()), "without whiteners"),
    "low rank": (Mixture(covariance=FactorAnalytic()), "without whiteners"),
    "likelihood": (Mixture(likelihood=StudentT()), "not Gaussian"),
    "noise": (Mixture(noise=Noise()), "noise"),
    "missing": (Mixture(missing=True), "missing values"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_kernels_cannot_do_is_refused_by_name(name):
    model, why = REFUSED[name]
    estimator = Pathwise(kernel="pallas")
    with pytest.raises(SpecError, match=f"kernel must be 'xla' for .*{why}.*, got 'pallas'"):
        Objective(model=model, family=MeanField(), estimator=estimator)


def test_kernels_are_refused_where_rows_are_not_for_them():
    theta, batch = inputs(False, jnp.float32)
    wide = Batch(x=jnp.zeros((4, 129)), weight=jnp.ones(4))
    with pytest.raises(SpecError, match="kernel must be 'xla' for more than 128 columns"):
        passes.log_lik(Mixture(num_components=NUM), theta, wide, kernel="pallas")
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), batch)
    with pytest.raises(SpecError, match="kernel must be 'xla' for rows of bfloat16"):
        passes.log_lik(Mixture(num_components=NUM), theta, half, kernel="pallas")
    with pytest.raises(SpecError, match="kernel must be 'xla' with candidates"):
        Natural(kernel="pallas", candidates=4)
    unknown = Natural(kernel="cuda")  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="kernel must be 'xla' or 'pallas', got 'cuda'"):
        Objective(model=Mixture(), family=Conjugate(), estimator=unknown)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("estimator", [Natural(kernel="pallas"), Pathwise(kernel="pallas", num_samples=2)])
def test_devices_share_the_rows(estimator):
    draw = np.random.default_rng(0)
    x = np.concatenate([draw.normal(c, 0.5, size=(60, 2)) for c in (-3.0, 0.0, 4.0)])
    family = Conjugate() if isinstance(estimator, Natural) else MeanField()
    ends = [
        vigmm.fit(
            x, model=Mixture(num_components=NUM), family=family, estimator=estimator, moves=None,
            train=Train(batch_size=180, passes=20, devices=devices),
        )
        for devices in (1, 4)
    ]  # fmt: skip
    # The same twenty steps, with sums in another order.
    assert ends[1].elbo.elbo == pytest.approx(ends[0].elbo.elbo, abs=180 * WRONG)
