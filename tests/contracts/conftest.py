"""One small problem for every row of the tables, and jitted functions that all contract tests share.

A contract test asks what the training loop and the posterior rely on. It is parametrised over the tables, so
a new row is tested by being there. Shapes are the same throughout: a combination is compiled once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Container, Iterable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vigmm.core.typing import Batch
from vigmm.estimators import Objective
from vigmm.families import Conjugate, ConjugateParams, Guess, guess
from vigmm.models import (
    COVARIANCES,
    DataScale,
    Diag,
    Dirichlet,
    DirichletProcess,
    Gamma,
    Independent,
    Mixture,
    Noise,
    NormalWishart,
    PitmanYor,
    StudentT,
    sticks,
)

DIM, ROWS, K = 2, 24, 2
DRAWS = 20_000


def small_row(row: Any) -> Any:
    """A covariance structure that fits two columns."""
    return row(rank=1) if "rank" in {field.name for field in dataclasses.fields(row)} else row()


# Parts of a model that are not the default: each row of a table at least once.
MODELS: dict[str, dict[str, Any]] = {
    **{name: {"covariance": small_row(row)} for name, row in COVARIANCES.items()},
    "dirichlet": {"weights": Dirichlet(0.8)},
    "dirichlet_hyper": {"weights": Dirichlet(hyper=Gamma(2.0, 2.0))},
    "process_hyper": {"weights": DirichletProcess(hyper=Gamma(2.0, 1.0))},
    "process_free": {"weights": DirichletProcess(last_stick="free")},
    "pitman_yor": {"weights": PitmanYor()},
    "student_t": {"likelihood": StudentT()},
    "student_t_known": {"likelihood": StudentT(dof=4.0)},
    "noise": {"noise": Noise()},
    "wishart_hyper": {"prior": NormalWishart(hyper=Gamma(2.0, 2.0))},
    "wishart_hyper_diag": {"prior": NormalWishart(hyper=Gamma(2.0, 2.0)), "covariance": Diag()},
    "independent": {"prior": Independent()},
    "independent_diag": {"prior": Independent(), "covariance": Diag()},
}


def cases(chosen: Iterable[str], quick: Container[str]) -> Any:
    """Cases as parameters, those that are not quick marked as slow."""
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        "case", [pytest.param(case, marks=() if case in quick else slow) for case in chosen]
    )


def in_both_types(chosen: Iterable[str], quick: Container[str]) -> Any:
    """Cases in single and double precision; slow ones in double only, where types can be mixed."""
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        ("case", "dtype"),
        [
            pytest.param(case, dtype, marks=() if case in quick else slow)
            for case in chosen
            for dtype in ("float32", "float64")
            if case in quick or dtype == "float64"
        ],
        indirect=["dtype"],
    )


def rows(dim: int = DIM, n: int = ROWS) -> np.ndarray:
    """Two overlapping clusters with correlated columns."""
    rng = np.random.default_rng(3)
    mix = np.eye(dim) + 0.5 * np.tril(np.ones((dim, dim)), -1)
    x = rng.normal(size=(n, dim)) @ mix.T
    x[: n // 2] += 2.0
    return (x - x.mean(0)) / x.std(0)


def prior_of(model: Mixture, x: np.ndarray, dtype: Any) -> Any:
    dim = x.shape[1]
    cov = np.cov(x.T, bias=True).reshape(dim, dim)
    data = DataScale(mean=np.zeros(dim), cov=cov, center=np.zeros(dim), scale=np.ones(dim))
    return model.build_prior(data, dtype=dtype)


@functools.partial(jax.jit, static_argnames=("model",))
def _conjugate_start(model: Mixture, prior: Any, x: Any, resp: Any, centre: Any) -> ConjugateParams:
    none = sticks.update(prior.weights, jnp.zeros_like(resp[0]))
    empty = ConjugateParams(weights=none, components=model.algebra.natural(prior.components, centre))
    stats = model.algebra.stats(x, resp, centre)
    return Conjugate().target(model, prior, empty, resp.sum(0), stats)


def conjugate_start(model: Mixture, prior: Any, x: np.ndarray, dtype: Any, seed: int = 0) -> ConjugateParams:
    """A conjugate posterior some way from the optimum: soft assignments, a centre that is not the mean."""
    rng = np.random.default_rng(seed)
    resp = (
        0.2 / model.num_components
        + 0.8 * np.eye(model.num_components)[np.arange(len(x)) * model.num_components // len(x)]
    )
    centre = 0.3 * rng.normal(size=(model.num_components, x.shape[1]))
    return _conjugate_start(
        model, prior, jnp.asarray(x, dtype), jnp.asarray(resp, dtype), jnp.asarray(centre, dtype)
    )


@functools.partial(jax.jit, static_argnames=("model",))
def _guess(model: Mixture, prior: Any, start: ConjugateParams, surrogate_prior: Any) -> Guess:
    return guess(model, prior, start, surrogate_prior)


def setting(
    family: Any, *, dtype: Any, dim: int = DIM, k: int = K, n: int = ROWS, **parts: Any
) -> SimpleNamespace:
    """Model, prior, parameters of `family` and a full batch of unit weights."""
    model = Mixture(num_components=k, **parts)
    x = rows(dim, n)
    prior = prior_of(model, x, dtype)
    surrogate_prior = prior_of(model.surrogate, x, dtype)
    start = conjugate_start(model.surrogate, surrogate_prior, x, dtype)
    batch = Batch(x=jnp.asarray(x, dtype), weight=jnp.ones(n, dtype))
    # The start's buffers stay the test's own.
    params = jax.tree.map(jnp.copy, family.init(model, _guess(model, prior, start, surrogate_prior)))
    return SimpleNamespace(model=model, prior=prior, start=start, params=params, batch=batch, family=family)


@functools.partial(jax.jit, static_argnames=("objective",))
def estimate(objective: Objective, params: Any, prior: Any, batch: Batch, key: Any) -> Any:
    return objective.estimate(params, prior, batch, key)


@functools.partial(jax.jit, static_argnames=("objective",))
def value(objective: Objective, params: Any, prior: Any, batch: Batch, key: Any) -> Any:
    return objective.value(params, prior, batch, key)


@functools.partial(jax.jit, static_argnames=("family", "model"))
def draw(family: Any, model: Mixture, params: Any, key: Any) -> Any:
    """`DRAWS` positions, their log q from the noise, and log q of the positions.

    Always as many and in double precision, because compiling a Gamma sampler takes longer than running it.
    """
    u, log_q = jax.vmap(lambda k: family.sample(model, params, k))(jax.random.split(key, DRAWS))
    return u, log_q, jax.vmap(lambda one: family.log_prob(model, params, one))(u)


@pytest.fixture(scope="session")
def small() -> SimpleNamespace:
    """Builders and jitted functions for the contract tests."""
    return SimpleNamespace(
        setting=setting,
        rows=rows,
        estimate=estimate,
        value=value,
        draw=draw,
        prior_of=prior_of,
        dim=DIM,
        n=ROWS,
        k=K,
    )
