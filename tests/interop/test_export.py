"""The exported NumPyro model is the engine's model: the same density, up to the change of variables."""

from __future__ import annotations

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, init_to_value
from numpyro.infer.autoguide import AutoNormal
from numpyro.infer.util import log_density, potential_energy, unconstrain_fn
from numpyro.optim import Adam

import vigmm
from vigmm.core.errors import SpecError
from vigmm.interop import as_distribution, sites, to_numpyro, to_numpyro_guide
from vigmm.models import (
    DataScale,
    Diag,
    Dirichlet,
    DirichletProcess,
    Full,
    Mixture,
    NormalWishart,
    PitmanYor,
    Position,
    Spherical,
    Tied,
    TiedDiag,
    TiedSpherical,
)
from vigmm.models.likelihoods import StudentT
from vigmm.models.mixture import Noise
from vigmm.models.priors import Independent, distribution
from vigmm.models.weights import Gamma

DIM, K, ROWS = 2, 3, 7
CENTER, SCALE = np.array([10.0, -3.0]), np.array([4.0, 0.5])

INDEPENDENT = {
    "sd": Independent(mean=distribution("StudentT", df=4.0, loc=9.0, scale=6.0)),
    "variance": Independent(variance=distribution("InverseGamma", concentration=3.0, rate=2.0)),
    "hyper": Independent(
        sd=distribution("LogNormal", loc=0.0, scale=0.7), hyper=distribution("HalfNormal", scale=1.5)
    ),
}
ROWS_OF_COVARIANCES = (Full, Tied, Diag, TiedDiag, Spherical, TiedSpherical)

CASES: dict[str, Mixture] = {
    **{f"wishart-{row.__name__}": Mixture(num_components=K, covariance=row()) for row in ROWS_OF_COVARIANCES},
    **{
        f"independent-{row.__name__}": Mixture(
            num_components=K, covariance=row(), prior=list(INDEPENDENT.values())[i % 3]
        )
        for i, row in enumerate(ROWS_OF_COVARIANCES)
    },
    "known-sd": Mixture(num_components=K, covariance=Spherical(), prior=Independent(sd=0.8)),
    "student": Mixture(num_components=K, covariance=Tied(), likelihood=StudentT(), weights=Dirichlet(2.0)),
    "student-known": Mixture(num_components=K, covariance=Diag(), likelihood=StudentT(dof=5.0)),
    "noise": Mixture(num_components=K, covariance=Diag(), noise=Noise(), weights=PitmanYor()),
    "free-stick": Mixture(num_components=K, weights=DirichletProcess(last_stick="free", hyper=Gamma())),
    "dirichlet-hyper": Mixture(num_components=K, weights=Dirichlet(hyper=Gamma(2.0, 1.0))),
    "one": Mixture(num_components=1),
    "factor": Mixture(num_components=K, prior=NormalWishart(hyper=Gamma(2.0, 3.0))),
    "factor-tied": Mixture(
        num_components=K, covariance=TiedDiag(), prior=NormalWishart(hyper=Gamma(2.0, 3.0)), noise=Noise()
    ),
}


@pytest.fixture(autouse=True)
def _double():
    """NumPyro relies on JAX's default promotion."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(True))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        yield


def rows(dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(ROWS, dim))


def prior_of(model: Mixture, dim: int = DIM):
    cov = np.array([[16.0, 1.0], [1.0, 0.25]])[:dim, :dim]
    data = DataScale(mean=CENTER[:dim], cov=cov, center=CENTER[:dim], scale=SCALE[:dim])
    return model.build_prior(data, dtype=np.float64)


def random_position(model: Mixture, dim: int, seed: int) -> Position:
    rng = np.random.default_rng(seed)
    weights, own, shared = model.sizes(dim)
    shapes = {"weights": (weights,), "components": (model.num_components, own), "shared": (shared,)}
    return Position(**{name: jnp.asarray(0.6 * rng.normal(size=shape)) for name, shape in shapes.items()})


def check_density(model: Mixture, dim: int = DIM) -> None:
    """log p(x, u) of the engine = log p(x, v) of NumPyro + log|dv/du|, v NumPyro's unconstrained sites."""
    prior, x = prior_of(model, dim), jnp.asarray(rows(dim))
    weight = jnp.asarray(np.r_[0.0, 2.5, np.ones(ROWS - 2)])
    exported = to_numpyro(model, prior)
    like = random_position(model, dim, 0)
    unravel = ravel_pytree(like)[1]

    @jax.jit
    def both(flat):
        def unconstrained(flat):
            values = sites(model, prior, unravel(flat))
            return ravel_pytree(unconstrain_fn(exported, (x,), {}, values))[0]

        u = unravel(flat)
        ours = model.log_prior(prior, u) + jnp.sum(weight * model.log_lik(model.constrain(prior, u), x))
        values = unconstrain_fn(exported, (x,), {}, sites(model, prior, u))
        jacobian = jax.jacfwd(unconstrained)(flat)
        theirs = -potential_energy(exported, (x, weight), {}, values)
        return ours, theirs + jnp.linalg.slogdet(jacobian)[1], jnp.asarray(jacobian.shape)

    for seed in range(3):
        ours, theirs, shape = both(ravel_pytree(random_position(model, dim, seed))[0])
        assert shape[0] == shape[1] == model.position_size(dim)
        # Sums of about a hundred terms of order 10 in double precision.
        np.testing.assert_allclose(theirs, ours, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_density_is_the_engines(name):
    check_density(CASES[name])


def test_the_density_of_ordered_means_is_the_engines():
    check_density(Mixture(num_components=K, covariance=Spherical(), prior=Independent(ordered=True)), dim=1)


def test_rows_in_the_units_of_the_data():
    """Only the likelihood knows the units: it is lower by the log volume of a unit, for every row."""
    model = CASES["wishart-Full"]
    prior, z = prior_of(model), jnp.asarray(rows())
    values = sites(model, prior, random_position(model, DIM, 0))
    standard, trace = log_density(to_numpyro(model, prior), (z,), {}, values)
    exported = to_numpyro(model, prior, center=CENTER, scale=SCALE)
    other, found = log_density(exported, (CENTER + SCALE * z,), {}, values)
    np.testing.assert_allclose(other, standard - ROWS * np.log(SCALE).sum(), rtol=1e-10)
    np.testing.assert_allclose(found["means"]["value"], CENTER + SCALE * trace["means"]["value"])
    unit = np.outer(SCALE, SCALE)
    np.testing.assert_allclose(found["covariances"]["value"], unit * trace["covariances"]["value"])
    np.testing.assert_allclose(found["weights"]["value"].sum(), 1.0)


@functools.lru_cache(maxsize=1)
def _fit():
    x = CENTER + SCALE * np.random.default_rng(2).normal(size=(120, DIM))
    x[:60, 0] += 20.0
    family = vigmm.MeanField()
    config = vigmm.Train(batch_size=120, min_steps=50, passes=50, holdout=0.0)
    model = Mixture(num_components=2, covariance=Diag(), prior=NormalWishart())
    return x, vigmm.fit(x, model=model, family=family, train=config, moves=None, dtype="float64")


@pytest.mark.slow
def test_the_guide_gives_numpyro_our_bound():
    """Trace_ELBO of exported model and guide is our ELBO, and a draw's log ratio agrees exactly."""
    x, fit = _fit()
    exported, q = vigmm.to_numpyro(fit), vigmm.to_numpyro_guide(fit)
    losses = jax.jit(jax.vmap(lambda key: Trace_ELBO().loss(key, {}, exported, q, jnp.asarray(x))))
    values = -np.asarray(losses(jax.random.split(jax.random.key(0), 400)))
    se = np.hypot(values.std() / 20, fit.elbo.se)
    assert abs(values.mean() - fit.elbo.elbo) < 5 * se

    posterior = fit.posterior
    flat = as_distribution(fit).sample(jax.random.key(3), (2, 3))
    log_q = as_distribution(fit).log_prob(flat)
    assert flat.shape == (2, 3, posterior.model.position_size(DIM))
    assert log_q.shape == (2, 3)
    one = posterior.family.log_prob(
        posterior.model, posterior.params, as_distribution(fit).unravel(flat[1, 2])
    )
    np.testing.assert_allclose(log_q[1, 2], one)


@pytest.mark.slow
def test_svi_and_nuts_run_on_it():
    x, fit = _fit()
    exported = vigmm.to_numpyro(fit)
    svi = SVI(exported, AutoNormal(exported), Adam(0.01), Trace_ELBO())
    assert np.isfinite(svi.run(jax.random.key(0), 20, jnp.asarray(x), progress_bar=False).losses).all()
    mcmc = MCMC(NUTS(exported, max_tree_depth=3), num_warmup=20, num_samples=10, progress_bar=False)
    mcmc.run(jax.random.key(0), jnp.asarray(x))
    assert mcmc.get_samples()["covariances"].shape == (10, 2, DIM, DIM)


@pytest.mark.slow
def test_svi_goes_on_from_a_trainable_guide():
    """Its parameters start at q, its loss at minus our bound; with a small rate it stays there."""
    x, fit = _fit()
    exported, q = vigmm.to_numpyro(fit), vigmm.to_numpyro_guide(fit, trainable=True)
    svi = SVI(exported, q, Adam(1e-3), Trace_ELBO(num_particles=50))
    state = svi.init(jax.random.key(0), jnp.asarray(x))
    start = svi.get_params(state)
    for i, leaf in enumerate(jax.tree.leaves(fit.posterior.params)):
        np.testing.assert_array_equal(start[f"q.{i}"], leaf)

    found = svi.run(jax.random.key(1), 40, jnp.asarray(x), init_state=state, progress_bar=False)
    values = -np.asarray(found.losses)
    # A mean of 50 draws has 1/7 of the sd of one; q hardly moves in 40 steps of 0.001.
    se = np.hypot(values.std() / np.sqrt(len(values)), fit.elbo.se)
    assert abs(values.mean() - fit.elbo.elbo) < 5 * se + 0.5
    moved = [np.abs(found.params[name] - leaf).max() for name, leaf in start.items() if leaf.size]
    assert max(moved) > 1e-3


@pytest.mark.slow
def test_draws_of_the_guide_are_draws_of_q_and_start_nuts():
    x, fit = _fit()
    q = vigmm.to_numpyro_guide(fit)
    draws = Predictive(q, num_samples=2000)(jax.random.key(0))
    ours = fit.posterior.draw(jax.random.key(1), 2000)
    # Standardised means of the sites against ours in the units of the data.
    means = fit.posterior.center + fit.posterior.scale * np.asarray(draws["loc"])
    se = np.hypot(means.std(axis=0), ours.means.std(axis=0)) / np.sqrt(2000)
    assert (np.abs(means.mean(axis=0) - ours.means.mean(axis=0)) < 5 * se).all()
    start = {name: values[0] for name, values in draws.items() if name != "position"}
    kernel = NUTS(vigmm.to_numpyro(fit), init_strategy=init_to_value(values=start), max_tree_depth=3)
    mcmc = MCMC(kernel, num_warmup=0, num_samples=1, progress_bar=False)
    mcmc.run(jax.random.key(0), jnp.asarray(x))
    # Without warm-up a step is small: the first sample is still near the draw.
    first = mcmc.get_samples()["loc"][0]
    assert np.abs(first - start["loc"]).max() < 1.0


def test_what_cannot_be_exported_is_refused(conjugate):
    with pytest.raises(SpecError, match="source must be"):
        vigmm.to_numpyro("faithful.csv")
    with pytest.raises(SpecError, match="family must be one whose draws can be differentiated"):
        to_numpyro_guide(conjugate, trainable=True)
    with pytest.raises(SpecError, match="fitted must be"):
        to_numpyro_guide(3)
