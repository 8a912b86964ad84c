"""Independent priors integrate to one over unconstrained positions, and are the densities they are named for.

The proposals are drawn as sticks, means, standard deviations and correlations in the units of the data and
carried to positions by a map written here; its Jacobian is autodiff's. Nothing of the prior's own changes of
variables is used.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from vigmm.models import (
    DataScale,
    Diag,
    Dirichlet,
    Full,
    Independent,
    Mixture,
    Position,
    Spherical,
    Tied,
    TiedDiag,
    distribution,
)

pytestmark = pytest.mark.usefixtures("x64")

MEAN = distribution("Normal", loc=1.0, scale=2.0)
HALF = distribution("HalfNormal", scale=2.0)
LOG = distribution("LogNormal", loc=0.3, scale=0.6)
# Not of scale 1, where E[s^2] = 1 would hide a missing Jacobian of two standard deviations.
FACTOR = distribution("HalfNormal", scale=1.6)
UNIT, MOVED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), ((3.0, -1.0, 2.0), (0.5, 4.0, 1.5))


def lkj(concentration):
    return distribution("LKJ", concentration=concentration)


@dataclasses.dataclass(frozen=True)
class Case:
    """A prior, a structure and the units that the model works in."""

    spec: Independent
    covariance: Any
    dim: int = 1
    num: int = 1
    frame: tuple[tuple[float, ...], tuple[float, ...]] = UNIT

    @functools.cached_property
    def model(self):
        return Mixture(
            num_components=self.num, weights=Dirichlet(1.0), covariance=self.covariance, prior=self.spec
        )

    @property
    def center(self):
        return np.array(self.frame[0][: self.dim])

    @property
    def scale(self):
        return np.array(self.frame[1][: self.dim])

    @property
    def prior(self):
        # Moments of data that the prior must not follow.
        cov = 1.7 * np.diag(self.scale**2)
        data = DataScale(mean=self.center + 0.4, cov=cov, center=self.center, scale=self.scale)
        return self.model.build_prior(data, dtype=jnp.float64)

    @property
    def tied(self):
        return isinstance(self.covariance, Tied | TiedDiag)

    @property
    def known(self):
        return isinstance(self.spec.sd, float)

    @property
    def shapes(self):
        """Sizes of: sticks, means, log sds, rows of correlations, log of the common factor."""
        matrices = 0 if self.known else 1 if self.tied else self.num
        columns = 1 if isinstance(self.covariance, Spherical) else self.dim
        lower = self.dim * (self.dim - 1) // 2 if isinstance(self.covariance, Full | Tied) else 0
        hyper = int(self.spec.hyper is not None)
        return (
            (self.num - 1,),
            (self.num, self.dim),
            (matrices, columns),
            (matrices, lower),
            (hyper,),
        )


def log_prior(case, u):
    """Log prior of many positions at once."""
    prior = case.prior
    return np.asarray(jax.jit(jax.vmap(lambda one: case.model.log_prior(prior, one)))(u))


def position_of(case, natural):
    """The position where means, sds and correlations (in the units of the data) are these."""
    shapes = case.shapes
    pieces = np.cumsum([math.prod(shape) for shape in shapes])[:-1]
    sticks, mean, log_sd, rows, factor = (
        part.reshape(shape) for part, shape in zip(jnp.split(natural, pieces), shapes, strict=True)
    )
    dim, center, scale = case.dim, jnp.asarray(case.center), jnp.asarray(case.scale)
    loc = (mean - center[None]) / scale[None]
    if case.spec.ordered:
        # The first mean and the logs of the gaps, in standardised units.
        loc = jnp.concatenate([loc[:1], mean[1:] - jnp.log(scale)[None]])
    unit = jnp.log(scale)
    unit = jnp.mean(unit, keepdims=True) if isinstance(case.covariance, Spherical) else unit
    # sd = factor * ratio; in standardised units it is divided by the scale.
    log_root = unit[None] - log_sd - jnp.sum(factor)
    coords = log_root
    if rows.shape[1]:

        def coordinates(log_root, row):
            """W = C^-1 diag(1/sd), C C^T the correlations: rows (y_i, 1) divided by their lengths."""
            below = jnp.zeros((dim, dim)).at[np.tril_indices(dim, -1)].set(row) + jnp.eye(dim)
            corr_factor = below / jnp.linalg.norm(below, axis=1, keepdims=True)
            whitener = jnp.linalg.inv(corr_factor) * jnp.exp(log_root)[None]
            return jnp.concatenate([jnp.log(jnp.diag(whitener)), whitener[np.tril_indices(dim, -1)]])

        coords = jnp.stack([coordinates(log_root[c], rows[c]) for c in range(rows.shape[0])])
    if case.tied:
        return Position(weights=sticks, components=loc, shared=jnp.concatenate([coords[0], factor]))
    components = loc if case.known else jnp.concatenate([loc, coords], axis=1)
    return Position(weights=sticks, components=components, shared=factor)


def draws(case, rng, n):
    """Positions, and the log density that they were drawn from.

    Every tail of the priors is lighter than the Student t that is drawn: log sds and sticks have exponential
    tails, means normal ones. The rows y of correlations under LKJ(1) have the tails of a Student t with two
    degrees of freedom; here they have one.
    """
    scales = (2.0, 3.0, 1.2, 1.0, 1.0)
    dofs = (4, 4, 4, 1, 4)
    shifts = (0.0, 0.7, 0.2, 0.0, -0.3)
    values, logs = [], 0.0
    for shape, dof, scale, shift in zip(case.shapes, dofs, scales, shifts, strict=True):
        z = stats.t(df=dof).rvs(size=(n, math.prod(shape)), random_state=rng)
        values.append(shift + scale * z)
        logs = logs + (stats.t(df=dof).logpdf(z) - np.log(scale)).sum(-1)
    natural = jnp.asarray(np.concatenate(values, axis=1))

    def flat(one):
        u = position_of(case, one)
        return jnp.concatenate([u.weights, u.components.ravel(), u.shared]), u

    jacobian, u = jax.jit(jax.vmap(jax.jacfwd(flat, has_aux=True)))(natural)
    assert jacobian.shape[1:] == (natural.shape[1],) * 2
    assert natural.shape[1] == case.model.position_size(case.dim)
    return u, logs - np.linalg.slogdet(np.asarray(jacobian))[1]


SAMPLED = {
    "lkj 1": Case(Independent(MEAN, HALF, correlation=lkj(1.0)), Full(), dim=2),
    "lkj 3": Case(Independent(MEAN, LOG, correlation=lkj(3.0)), Full(), dim=2),
    "lkj 1, three columns, moved": Case(
        Independent(MEAN, LOG, correlation=lkj(1.0)), Full(), dim=3, frame=MOVED
    ),
    "lkj 2, tied, moved": Case(
        Independent(MEAN, LOG, correlation=lkj(2.0)), Tied(), dim=2, num=2, frame=MOVED
    ),
    "hyper": Case(Independent(MEAN, HALF, hyper=FACTOR), Full(), num=2),
    "hyper, correlated, moved": Case(Independent(MEAN, HALF, hyper=FACTOR), Full(), dim=2, frame=MOVED),
    "hyper, tied, moved": Case(
        Independent(MEAN, LOG, hyper=FACTOR),
        TiedDiag(),
        dim=2,
        num=2,
        frame=MOVED,
    ),
    "spherical, moved": Case(Independent(MEAN, HALF), Spherical(), dim=2, num=2, frame=MOVED),
    "ordered": Case(Independent(MEAN, LOG, ordered=True), Full(), num=2),
    "ordered, three, known sd, moved": Case(Independent(MEAN, 0.7, ordered=True), Diag(), num=3, frame=MOVED),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_importance_sampling(name):
    """E_proposal[prior / proposal] = 1 within 5 standard errors, which are small enough to mean something."""
    case = SAMPLED[name]
    u, log_q = draws(case, np.random.default_rng(6), 40_000)
    ratio = np.exp(log_prior(case, u) - log_q)
    error = ratio.std() / np.sqrt(ratio.size)
    assert error < 0.05
    np.testing.assert_allclose(ratio.mean(), 1.0, atol=5 * error)


def column(case, mean, log_sd):
    """Positions of one component of one column: (mean - center)/scale and log(scale/sd)."""
    center, scale = case.center[0], case.scale[0]
    components = np.stack([(mean - center) / scale, np.log(scale) - log_sd], -1)[:, None]
    none = np.zeros((mean.size, 0))
    return Position(weights=jnp.asarray(none), components=jnp.asarray(components), shared=jnp.asarray(none))


SCALES = {
    "sd": Independent(MEAN, HALF),
    "variance": Independent(MEAN, variance=distribution("InverseGamma", concentration=3.0, rate=2.0)),
}


@pytest.mark.parametrize("frame", [UNIT, MOVED], ids=["unit", "moved"])
@pytest.mark.parametrize("scales", SCALES)
def test_quadrature_of_one_component(scales, frame):
    """D = 1: trapezoid over the mean and log sd; both densities end inside the grid."""
    case = Case(SCALES[scales], Full(), frame=frame)
    # Tails: exp(-|u|) below for the half-normal sd, exp(-6 u) above for the inverse Gamma variance.
    mean, log_sd = np.linspace(1.0 - 18.0, 1.0 + 18.0, 201), np.linspace(-32.0, 8.0, 1001)
    u = column(case, np.repeat(mean, log_sd.size), np.tile(log_sd, mean.size))
    cell = (mean[1] - mean[0]) / case.scale[0] * (log_sd[1] - log_sd[0])
    np.testing.assert_allclose(np.exp(log_prior(case, u)).sum() * cell, 1.0, rtol=1e-9)


@pytest.mark.parametrize("frame", [UNIT, MOVED], ids=["unit", "moved"])
def test_quadrature_where_the_sd_is_known(frame):
    """D = 2, one component: only its means are coordinates."""
    case = Case(Independent(MEAN, 0.7), Diag(), dim=2, frame=frame)
    assert case.model.position_size(2) == 2
    grid = np.linspace(1.0 - 18.0, 1.0 + 18.0, 201)
    mean = np.stack(np.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 1, 2)
    none = jnp.zeros((mean.shape[0], 0))
    u = Position(
        weights=none, components=jnp.asarray((mean - case.center) / case.scale), shared=jnp.zeros_like(none)
    )
    cell = (grid[1] - grid[0]) ** 2 / case.scale.prod()
    np.testing.assert_allclose(np.exp(log_prior(case, u)).sum() * cell, 1.0, rtol=1e-9)


@pytest.mark.parametrize("frame", [UNIT, MOVED], ids=["unit", "moved"])
@pytest.mark.parametrize("scales", SCALES)
def test_density_of_one_component(scales, frame):
    """SciPy's densities of mean and sd, times d mean / dz = scale and |d sd / d log root| = sd."""
    case = Case(SCALES[scales], Full(), frame=frame)
    mean, log_sd = np.array([-2.0, 0.3, 5.0, 1.0]), np.array([-1.5, 0.2, 0.9, -0.3])
    sd = np.exp(log_sd)
    want = stats.norm(1.0, 2.0).logpdf(mean) + np.log(case.scale[0])
    if scales == "sd":
        want = want + stats.halfnorm(scale=2.0).logpdf(sd) + log_sd
    else:
        # d sd^2 / d log root = 2 sd^2.
        want = want + stats.invgamma(3.0, scale=2.0).logpdf(sd**2) + np.log(2.0) + 2.0 * log_sd
    np.testing.assert_allclose(log_prior(case, column(case, mean, log_sd)), want, rtol=1e-12)


@pytest.mark.parametrize("concentration", [1.0, 3.0])
def test_density_of_a_correlation(concentration):
    """D = 2: under LKJ(c), (1 + rho)/2 is Beta(c, c).

    With the whitener [[e^a, 0], [l, e^b]] and t = l e^-a: sd_1 = e^-a, sd_2 = sqrt(1 + t^2) e^-b and
    rho = -t / sqrt(1 + t^2), whose Jacobian is triangular: sd_1 * sd_2 * e^-a (1 + t^2)^(-3/2).
    """
    case = Case(Independent(MEAN, HALF, correlation=lkj(concentration)), Full(), dim=2)
    u = np.array([[0.5, -1.0, 0.3, -0.2, 0.8], [2.0, 1.0, -0.6, 0.4, -1.7], [0.0, 0.0, 0.0, 0.0, 0.0]])
    mean, (a, b, low) = u[:, :2], u[:, 2:].T
    t = low * np.exp(-a)
    first, second = np.exp(-a), np.sqrt(1.0 + t**2) * np.exp(-b)
    rho = -t / np.sqrt(1.0 + t**2)
    sd = stats.halfnorm(scale=2.0)
    want = stats.norm(1.0, 2.0).logpdf(mean).sum(-1) + sd.logpdf(first) + sd.logpdf(second)
    want = want + stats.beta(concentration, concentration).logpdf((1.0 + rho) / 2.0) - np.log(2.0)
    want = want + np.log(first * second) - a - 1.5 * np.log1p(t**2)
    none = jnp.zeros((len(u), 0))
    found = log_prior(
        case, Position(weights=none, components=jnp.asarray(u[:, None]), shared=jnp.zeros_like(none))
    )
    np.testing.assert_allclose(found, want, rtol=1e-10)
