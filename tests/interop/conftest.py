"""Posteriors without a fit, shared by the exports."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from tests.posterior.conftest import make_data, make_posterior
from vigmm.families import MeanField, guess
from vigmm.models import DataScale, Mixture
from vigmm.models.likelihoods import StudentT
from vigmm.models.mixture import Noise


@pytest.fixture(scope="session")
def table():
    """240 rows in units that are hard on float32."""
    return make_data()[0]


@pytest.fixture(scope="session")
def made():
    """Makes a posterior of those rows that knows their labels."""
    x, labels = make_data()

    def make(**options):
        return make_posterior(x, labels, **options)

    return make


@pytest.fixture(scope="session")
def conjugate(made):
    """A float32 conjugate posterior."""
    return made()


@pytest.fixture(scope="session")
def near(made, table):
    """Makes a float64 mean-field posterior of any model, near the conjugate one."""

    def make(model):
        family, conjugate = MeanField(), made(model=model.surrogate, dtype="float64")
        units = DataScale(
            mean=table.mean(axis=0),
            cov=np.cov(table.T, ddof=0),
            center=conjugate.center,
            scale=conjugate.scale,
            patterns=np.ones((1, 2), bool) if model.missing else None,
        )
        with jax.enable_x64(True):
            prior = model.build_prior(units, dtype=np.float64)
            params = family.init(model, guess(model, prior, conjugate.params, conjugate.prior))
        return dataclasses.replace(conjugate, model=model, family=family, params=params, prior=prior)

    return make


@pytest.fixture(scope="session")
def student(near):
    """Student-t components and noise."""
    return near(Mixture(num_components=3, likelihood=StudentT(), noise=Noise()))
