"""Posteriors made without a fit: statistics of known labels, in units that are hard on float32."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vigmm.data.moments import Standardizer
from vigmm.families import FAMILIES, Conjugate, ConjugateParams, guess
from vigmm.models import DataScale, Mixture
from vigmm.posterior import Posterior

OFFSET, SCALE = np.array([-3.0, 1000.0]), np.array([10.0, 0.01])
CENTRES = np.array([[0.0, 0.0], [4.0, 1.0], [-3.0, 5.0]])


def make_data(n=240, dim=2):
    rng = np.random.default_rng(7)
    labels = np.arange(n) % 3
    z = CENTRES[labels] + rng.normal(size=(n, 2)) * [[1.0, 0.5]]
    return (OFFSET + SCALE * z)[:, :dim], labels


@functools.partial(jax.jit, static_argnames=("model", "family"))
def _params(model, family, prior, z, labels):
    """The family's match of the exact conjugate posterior given the labels."""
    resp = jax.nn.one_hot(labels, model.num_components, dtype=z.dtype)
    centre = jnp.zeros((model.num_components, z.shape[1]), z.dtype)
    none = ConjugateParams(weights=prior.weights, components=model.algebra.natural(prior.components, centre))
    stats = model.algebra.stats(z, resp, centre)
    params = Conjugate().target(model, prior, none, resp.sum(axis=0), stats)
    return family.init(model, guess(model, prior, params, prior))


def make_posterior(x, labels, *, family="conjugate", dtype="float32", columns=None, model=None, seed=3):
    """A posterior that knows the labels. Always computed in float64, so that it is compiled once."""
    model, made, dim = model or Mixture(num_components=3), FAMILIES[family](), x.shape[1]
    cov = np.atleast_2d(np.cov(x.T, ddof=0))
    units = Standardizer(center=x.mean(axis=0), scale=np.sqrt(np.diag(cov)))
    scale = DataScale(mean=x.mean(axis=0), cov=cov, center=units.center, scale=units.scale)
    with jax.enable_x64(True):
        prior = model.build_prior(scale, dtype=jnp.float64)
        params = _params(model, made, prior, jnp.asarray(units.forward(x)), jnp.asarray(labels))
        params, prior = (
            jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree) for tree in (params, prior)
        )
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
    """240 rows, their labels, and a way to make posteriors of them."""
    x, labels = make_data()
    return SimpleNamespace(x=x, labels=labels)


@pytest.fixture(scope="session")
def make():
    """Makes a posterior; see `make_posterior`."""
    return make_posterior


# On every commit: closed forms, and a family of each kind that has none; the others run with the slow tests.
QUICK = ("blocks", "conjugate", "meanfield")


def families():
    """Names of all families, those that are not quick marked as slow."""
    return [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in sorted(FAMILIES)]


@pytest.fixture(scope="session", params=families())
def pair(request, rows):
    """The posterior of every family, in single and in double precision."""
    return tuple(
        make_posterior(rows.x, rows.labels, family=request.param, dtype=dtype)
        for dtype in ("float32", "float64")
    )


@pytest.fixture(scope="session")
def posterior(pair):
    """A float32 posterior of every family."""
    return pair[0]


@pytest.fixture(scope="session")
def double(pair):
    """A float64 posterior of every family."""
    return pair[1]


@pytest.fixture(scope="session")
def conjugate(rows):
    """A float32 conjugate posterior."""
    return make_posterior(rows.x, rows.labels)
