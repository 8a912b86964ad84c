"""Posteriors made without a fit: statistics of known labels, in units that are hard on float32."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vigmm.data.moments import Standardizer
from vigmm.families import FAMILIES, Conjugate, ConjugateParams
from vigmm.models import DataScale, Mixture
from vigmm.posterior import Posterior

OFFSET, SCALE = np.array([-3.0, 1000.0]), np.array([10.0, 0.01])
CENTRES = np.array([[0.0, 0.0], [4.0, 1.0], [-3.0, 5.0]])


def make_data(n=300, dim=2):
    rng = np.random.default_rng(7)
    labels = np.arange(n) % 3
    z = CENTRES[labels] + rng.normal(size=(n, 2)) * [[1.0, 0.5]]
    return (OFFSET + SCALE * z)[:, :dim], labels


def make_posterior(x, labels, *, family="conjugate", dtype="float32", columns=None, model=None, seed=3):
    """The exact conjugate posterior given the labels, or the family's match of it."""
    model = model or Mixture(num_components=3)
    dim = x.shape[1]
    cov = np.atleast_2d(np.cov(x.T, ddof=0))
    units = Standardizer(center=x.mean(axis=0), scale=np.sqrt(np.diag(cov)))
    with jax.enable_x64(dtype == "float64"):
        prior = model.build_prior(
            DataScale(mean=x.mean(axis=0), cov=cov, center=units.center, scale=units.scale),
            dtype=np.dtype(dtype),
        )
        z = jnp.asarray(units.forward(x), dtype)
        resp = jax.nn.one_hot(jnp.asarray(labels), model.num_components, dtype=dtype)
        centre = jnp.zeros((model.num_components, dim), dtype)
        none = ConjugateParams(
            weights=prior.weights, components=model.covariance.natural(prior.components, centre)
        )
        stats = model.covariance.stats(z, resp, centre)
        params = Conjugate().target(model, prior, none, resp.sum(axis=0), stats)
        made = FAMILIES[family]()
        params = made.init(model, params)
    return Posterior(
        model=model,
        family=made,
        params=params,
        prior=prior,
        center=units.center,
        scale=units.scale,
        columns=columns or ("a", "b")[:dim],
        seed=seed,
        dtype=dtype,
    )


@pytest.fixture(scope="session")
def rows():
    """300 rows, their labels, and a way to make posteriors of them."""
    x, labels = make_data()
    return SimpleNamespace(x=x, labels=labels)


@pytest.fixture(scope="session")
def make():
    """Makes a posterior; see `make_posterior`."""
    return make_posterior


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def posterior(request, rows):
    """A float32 posterior of every family."""
    return make_posterior(rows.x, rows.labels, family=request.param)


@pytest.fixture(scope="session", params=sorted(FAMILIES))
def double(request, rows):
    """A float64 posterior of every family."""
    return make_posterior(rows.x, rows.labels, family=request.param, dtype="float64")


@pytest.fixture(scope="session")
def conjugate(rows):
    """A float32 conjugate posterior."""
    return make_posterior(rows.x, rows.labels)
