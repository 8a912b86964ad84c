"""Importance ratios of one block: the short ways over the rows say what the long one says."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vigmm.data.sampler import Rows
from vigmm.models import DataScale, Diag, Independent, Mixture, Position
from vigmm.models.likelihoods import StudentT
from vigmm.models.mixture import Noise
from vigmm.posterior import weighing
from vigmm.posterior.weighing import block_names

DRAWS, ROWS, DIM = 3, 40, 2

MODELS = {
    "noise": Mixture(num_components=3, noise=Noise(), likelihood=StudentT()),
    "missing": Mixture(num_components=3, covariance=Diag(), missing=True),
}


def setting(model, dim=DIM):
    """Hyperparameters, weighted rows, a position, and draws about it."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(ROWS, dim)) + np.arange(ROWS)[:, None] % 3 * 3.0
    if model.missing:
        x[::5, 0] = np.nan
    scale = DataScale(
        mean=np.full(dim, 3.0),
        cov=7.0 * np.eye(dim),
        center=np.zeros(dim),
        scale=np.ones(dim),
        low=np.full(dim, -9.0),
        high=np.full(dim, 12.0),
        patterns=np.array([[1.0] * dim, [0.0] + [1.0] * (dim - 1)]),
    )
    prior = model.build_prior(scale, dtype=jnp.float64)
    weights, own, shared = model.sizes(dim)
    shapes = {"weights": (weights,), "components": (model.num_components, own), "shared": (shared,)}
    centre = Position(**{name: jnp.asarray(rng.normal(size=shape)) for name, shape in shapes.items()})
    noise = {name: rng.normal(size=(DRAWS, *shape)) for name, shape in shapes.items()}
    rows = Rows(x=jnp.asarray(x), weight=jnp.asarray(rng.uniform(0.5, 2.0, size=ROWS)))
    return prior, rows, centre, Position(**{name: jnp.asarray(value) for name, value in noise.items()})


def only(block, index, u, centre):
    """Draws of one block, everything else at the centre."""
    made = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], DRAWS, axis=0), centre)
    at = np.s_[:, index] if block == "components" else np.s_[:]
    getattr(made, block)[at] = np.asarray(getattr(u, block))[at]
    return jax.tree.map(jnp.asarray, made)


@pytest.mark.parametrize("name", MODELS)
def test_a_block_alone_has_the_ratio_of_the_whole_position(name):
    model = MODELS[name]
    with jax.enable_x64(True):
        prior, rows, centre, drawn = setting(model)
        for block, index in block_names(model, DIM):
            u = only(block, index, drawn, centre)
            whole = weighing._log_lik(model, prior, rows, u, None, np.int32(0), None)
            short = weighing._log_lik(model, prior, rows, u, centre, np.int32(index), block)
            assert np.ptp(whole) > 0.1, block
            np.testing.assert_allclose(short, whole, rtol=1e-11, err_msg=f"{block} {index}")


@pytest.mark.parametrize(("ordered", "way"), [(True, "all"), (False, "component")])
def test_where_means_are_in_order_a_component_takes_the_others_along(monkeypatch, ordered, way):
    model = Mixture(num_components=3, covariance=Diag(), prior=Independent(ordered=ordered))
    for name in ("all", "component"):
        monkeypatch.setattr(weighing, f"_of_{name}", lambda *_, name=name: name)
    u = Position(weights=np.zeros(2), components=np.zeros((3, 2)), shared=np.zeros(0))
    assert weighing._log_lik(model, None, None, u, u, np.int32(0), "components") == way
