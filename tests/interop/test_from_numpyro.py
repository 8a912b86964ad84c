"""NumPyro models fitted by the engine's loop, against exact answers and NUTS."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS

import vigmm
from vigmm.core.errors import SpecError
from vigmm.estimators import Pathwise
from vigmm.families import Blocks, LowRank, MeanField
from vigmm.interop.numpyro_model import Example

N, SIGMA, TAU = 60, 2.0, 3.0
FULL = vigmm.Train(batch_size=10_000, min_steps=1000, holdout=0.0, tolerance=0.0)
QUIET = Pathwise(num_samples=8, noise="antithetic")


def normal_mean(x):
    """mu ~ N(0, TAU^2), x_n ~ N(mu, SIGMA^2); a subsample as NumPyro's users declare it."""
    mu = numpyro.sample("mu", dist.Normal(0.0, TAU))
    with numpyro.plate("N", 5_000, subsample_size=100):
        numpyro.sample("x", dist.Normal(mu, SIGMA), obs=x[:, 0])


def logistic(x):
    w = numpyro.sample("w", dist.Normal(0.0, 2.0).expand([x.shape[1] - 1]).to_event(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=x[:, 1:] @ w), obs=x[:, 0])


def hierarchical(x):
    scale = numpyro.sample("scale", dist.HalfNormal(2.0))
    w = numpyro.sample("w", dist.Normal(0.0, scale).expand([x.shape[1] - 1]).to_event(1))
    with numpyro.plate("rows", x.shape[0]):
        numpyro.sample("y", dist.Bernoulli(logits=x[:, 1:] @ w), obs=x[:, 0])


@pytest.fixture(scope="module")
def normal_rows():
    return np.random.default_rng(0).normal(1.5, SIGMA, size=(N, 1))


@pytest.fixture(scope="module")
def logistic_rows():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 2))
    y = rng.uniform(size=200) < 1 / (1 + np.exp(-(x @ [1.5, -0.7])))
    return np.c_[y, x]


def exact(x, weight=1.0):
    """Posterior mean and sd of mu, and the log evidence, of the conjugate model."""
    precision = 1 / TAU**2 + weight * len(x) / SIGMA**2
    mean = weight * x.sum() / SIGMA**2 / precision
    cov = SIGMA**2 * np.eye(len(x)) + TAU**2
    logdet = np.linalg.slogdet(2 * np.pi * cov)[1]
    evidence = -0.5 * (logdet + x[:, 0] @ np.linalg.solve(cov, x[:, 0]))
    return mean, precision**-0.5, evidence


def moments(fit, name="mu"):
    """Mean and sd of q of a site that needs no transform."""
    loc = np.asarray(fit.params.loc[name])
    return loc, np.exp(np.asarray(fit.params.log_scale[name]))


def test_a_conjugate_model_is_solved_exactly(normal_rows):
    """q is in the family: pathwise with sticking the landing has no noise left at the optimum."""
    fit = vigmm.fit_numpyro(
        normal_rows, normal_mean, family=MeanField(), estimator=Pathwise(entropy="stl"), train=FULL,
        optimizer=vigmm.Adam(rate=0.05), dtype="float64",
    )  # fmt: skip
    mean, sd, evidence = exact(normal_rows)
    loc, scale = moments(fit)
    assert fit.outcome.ok
    np.testing.assert_allclose(loc, mean, atol=1e-3 * sd)
    np.testing.assert_allclose(scale, sd, rtol=1e-3)
    # The bound is tight at the exact posterior; its estimate has noise.
    assert abs(fit.elbo.elbo - evidence) < 5 * fit.elbo.se + 1e-4
    draws = fit.draw(jax.random.key(0), 4000)["mu"]
    assert draws.shape == (4000,)
    assert abs(draws.mean() - mean) < 5 * sd / np.sqrt(4000)


def test_minibatches_weights_and_held_out_rows(normal_rows):
    """The minibatched answer is the full one up to the noise of the last steps; weights count rows."""
    config = vigmm.Train(batch_size=16, min_steps=2000, holdout=0.0, tolerance=0.0)
    mean, sd, _ = exact(normal_rows)
    loc, scale = moments(
        vigmm.fit_numpyro(normal_rows, normal_mean, family=MeanField(), estimator=QUIET, train=config)
    )
    assert abs(loc[0] - mean) < 0.2 * sd
    assert abs(scale[0] / sd - 1) < 0.1

    kept = vigmm.Train(batch_size=16, min_steps=2000, holdout=0.2, tolerance=0.0)
    fit = vigmm.fit_numpyro(
        normal_rows,
        normal_mean,
        family=MeanField(),
        estimator=QUIET,
        train=kept,
        sample_weight=np.full(N, 4.0),
    )
    assert abs(moments(fit)[1][0] * np.sqrt(4 * 0.8 * N / SIGMA**2 + 1 / TAU**2) - 1) < 0.1
    # Mean log density of N(1.5, 2^2) is -2.1, and 12 rows know it to 0.2.
    assert abs(fit.metrics["holdout"][-1] + 2.1) < 1.0


@pytest.mark.slow
def test_logistic_regression_agrees_with_nuts(logistic_rows):
    x = logistic_rows
    fit = vigmm.fit_numpyro(
        x, vigmm.from_numpyro(logistic, plate="rows"), estimator=QUIET, train=FULL, dtype="float64"
    )
    found = fit.draw(jax.random.key(1), 4000)["w"]
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(True))
        stack.enter_context(jax.numpy_dtype_promotion("standard"))
        stack.enter_context(jax.numpy_rank_promotion("allow"))
        mcmc = MCMC(NUTS(logistic), num_warmup=500, num_samples=4000, progress_bar=False)
        mcmc.run(jax.random.key(0), jnp.asarray(x))
        exact = np.asarray(mcmc.get_samples()["w"])
    sd = exact.std(0)
    # 4000 draws with an effective size above 1000 know the mean to 0.03 sd; the rest is q's shape.
    assert (np.abs(found.mean(0) - exact.mean(0)) < 0.15 * sd).all()
    assert (np.abs(found.std(0) / sd - 1) < 0.1).all()


@pytest.mark.slow
@pytest.mark.parametrize("family", [Blocks(), LowRank(rank=1)])
def test_other_families_fit_it(family, logistic_rows):
    config = vigmm.Train(batch_size=10_000, min_steps=20, passes=1, holdout=0.0)
    fit = vigmm.fit_numpyro(
        logistic_rows, vigmm.from_numpyro(hierarchical, plate="rows"), family=family, train=config
    )
    assert fit.outcome.ok
    assert (fit.draw(jax.random.key(0), 5)["scale"] > 0).all()


def test_a_family_with_closed_forms_is_refused(normal_rows):
    with pytest.raises(SpecError, match="NumPyro model has no conjugate form"):
        vigmm.fit_numpyro(normal_rows, normal_mean, family=vigmm.Conjugate())


def test_the_density_is_the_models():
    """Transforms, a support that depends on another site, a plate of global sites, factors and scales."""

    def model(x):
        top = numpyro.sample("top", dist.Gamma(2.0, 1.0))
        low = numpyro.sample("low", dist.Uniform(0.0, top))
        with numpyro.plate("columns", 3):
            w = numpyro.sample("w", dist.Dirichlet(jnp.ones(2)))
        numpyro.factor("tilt", -0.3 * low)
        numpyro.deterministic("twice", 2 * low)
        with numpyro.plate("N", x.shape[0]), numpyro.handlers.scale(scale=0.5):
            numpyro.sample("x", dist.Normal(low, 1.0).expand([2]).to_event(1), obs=x)
            numpyro.factor("row", w.sum() * x[:, 0])

    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)), jnp.float32)
    made = vigmm.from_numpyro(model)
    u = made.start(x, jax.random.key(0))
    assert {name: leaf.shape for name, leaf in u.items()} == {"top": (1,), "low": (1,), "w": (3,)}
    prior = Example(x=x[:2])
    values = made.constrain(prior, u)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        rows, _ = numpyro.infer.util.compute_log_probs(model, (x,), {}, values)
        shaped = {"top": u["top"][0], "low": u["low"][0], "w": u["w"][:, None]}
        total = -numpyro.infer.util.potential_energy(model, (x,), {}, shaped)
    np.testing.assert_allclose(made.log_lik(values, x).sum(), rows["x"] + rows["row"], rtol=1e-5)
    ours = made.log_prior(prior, u) + made.log_lik(values, x).sum()
    np.testing.assert_allclose(ours, total, rtol=1e-5)


def local(x):
    with numpyro.plate("N", x.shape[0]):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        numpyro.sample("x", dist.Normal(z, 1.0), obs=x[:, 0])


def discrete(x):
    k = numpyro.sample("k", dist.Poisson(3.0))
    with numpyro.plate("N", x.shape[0]):
        numpyro.sample("x", dist.Normal(k, 1.0), obs=x[:, 0])


def no_plate(x):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    numpyro.sample("x", dist.Normal(mu, 1.0), obs=x[:, 0])


def nothing_observed(x):
    numpyro.sample("mu", dist.Normal(0.0, 1.0))
    with numpyro.plate("N", x.shape[0]):
        pass


def twice(x):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    for name in ("a", "b"):
        with numpyro.plate("N", x.shape[0]):
            numpyro.sample(name, dist.Normal(mu, 1.0), obs=x[:, 0])


def second_subsample(x):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    with numpyro.plate("M", 100, subsample_size=10), numpyro.plate("N", x.shape[0]):
        numpyro.sample("x", dist.Normal(mu, 1.0), obs=x[:, 0])


def parameter(x):
    mu = numpyro.param("mu", 0.0)
    with numpyro.plate("N", x.shape[0]):
        numpyro.sample("x", dist.Normal(mu, 1.0), obs=x[:, 0])


def empirical_prior(x):
    mu = numpyro.sample("mu", dist.Normal(x.mean(), 1.0))
    with numpyro.plate("N", x.shape[0]):
        numpyro.sample("x", dist.Normal(mu, 1.0), obs=x[:, 0])


def centred_by_batch(x):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    with numpyro.plate("N", x.shape[0]):
        numpyro.sample("x", dist.Normal(mu, 1.0), obs=x[:, 0] - x[:, 0].mean())


def closed_over(x):
    data = jnp.arange(100.0)
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    with numpyro.plate("N", len(data), subsample_size=10) as index:
        numpyro.sample("x", dist.Normal(mu, 1.0), obs=data[index])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (local, "without latent sites in the plate 'N'"),
        (discrete, "without discrete latent sites"),
        (no_plate, "with a plate 'N'"),
        (nothing_observed, "observed site in the plate 'N'"),
        (twice, "enters the plate 'N' once"),
        (second_subsample, "no subsampled plate but 'N'"),
        (parameter, "without numpyro.param"),
        (empirical_prior, "prior does not depend on the rows"),
        (centred_by_batch, "independent of the others"),
        (closed_over, "reads its rows from its argument"),
        ("normal", "a function"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_a_remedy(model, message, normal_rows):
    with pytest.raises(SpecError, match=message):
        vigmm.fit_numpyro(normal_rows, model)
