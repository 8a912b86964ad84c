"""Exact answers for the golden tests, worked out with NumPy and SciPy from textbook formulas.

Nothing here calls the code under test, except `Problem`, which sets it up and runs coordinate ascent.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from vigmm.core.typing import Batch
from vigmm.estimators import Natural, Objective
from vigmm.families import Conjugate, ConjugateParams, Guess, guess
from vigmm.models import DataScale, Dirichlet, Mixture, NormalWishart, sticks

# Exact evidence (by enumeration) and best mean-field ELBO of two 8-point sets, from the reference file
# golden_shared.json, which says: "Full ELBO (all constants) ... agree to 1e-9 relative".
TINY = {
    "tiny_8_2_8": {"evidence": -36.031211213185166, "elbo": -36.7299549983823},
    "tiny_8_2_1": {"evidence": -30.097028828113547, "elbo": -31.36349200754841},
}


@functools.partial(jax.jit, static_argnames=("objective", "steps"))
def _ascend(objective: Objective, params: Any, prior: Any, batch: Batch, *, steps: int) -> Any:
    def body(params: Any, _: None) -> Any:
        found = objective.estimate(params, prior, batch, jax.random.key(0))
        return jax.tree.map(jnp.subtract, params, found.grads), found.elbo

    return jax.lax.scan(body, params, length=steps)


@functools.partial(jax.jit, static_argnames=("model",))
def _start(model: Mixture, prior: Any, batch: Batch, resp: Any, centre: Any) -> ConjugateParams:
    weighted = resp * batch.weight[:, None]
    none = sticks.update(prior.weights, jnp.zeros_like(weighted[0]))
    empty = ConjugateParams(weights=none, components=model.algebra.natural(prior.components, centre))
    stats = model.algebra.stats(batch.x, weighted, centre)
    return Conjugate().target(model, prior, empty, weighted.sum(0), stats)


@functools.partial(jax.jit, static_argnames=("objective",))
def _elbo(objective: Objective, params: Any, prior: Any, batch: Batch) -> Any:
    terms = objective.value(params, prior, batch, jax.random.key(0))
    return jax.tree.reduce(jnp.add, terms)


@dataclasses.dataclass(frozen=True)
class Problem:
    """Data, a model with prior N(0, (kappa Lambda)^-1) x Wishart(D + 2, rate I), in double precision."""

    x: np.ndarray
    num_components: int = 2
    weights: Any = dataclasses.field(default_factory=lambda: Dirichlet(1.0))
    kappa: float = 0.1
    rate: float = 1.0
    sample_weight: np.ndarray | None = None

    @property
    def dim(self) -> int:
        return self.x.shape[1]

    @property
    def model(self) -> Mixture:
        # With dof = D + 2 the expected covariance of the prior is its rate matrix.
        rate = tuple(map(tuple, (self.rate * np.eye(self.dim)).tolist()))
        prior = NormalWishart(mean=(0.0,) * self.dim, mean_precision=self.kappa, covariance=rate)
        return Mixture(num_components=self.num_components, weights=self.weights, prior=prior)

    @property
    def engine(self) -> Mixture:
        """The same model without its hyperparameters, which `prior` holds: one compilation serves many.

        What changes the coordinates, an inferred concentration or a free last stick, stays.
        """
        k, weights = self.num_components, self.weights
        if weights.num_hyper() or weights.num_sticks(k) != k - 1:
            return Mixture(num_components=k, weights=weights)
        return Mixture(num_components=k)

    @property
    def prior(self) -> Any:
        dim = self.dim
        unit = DataScale(mean=np.zeros(dim), cov=np.eye(dim), center=np.zeros(dim), scale=np.ones(dim))
        return self.model.build_prior(unit, dtype=jnp.float64)

    @property
    def batch(self) -> Batch:
        weight = np.ones(len(self.x)) if self.sample_weight is None else self.sample_weight
        return Batch(x=jnp.asarray(self.x), weight=jnp.asarray(weight, jnp.float64))

    @property
    def objective(self) -> Objective:
        return Objective(model=self.engine, family=Conjugate(), estimator=Natural())

    def start(self, resp: np.ndarray, centre: np.ndarray | None = None) -> ConjugateParams:
        """prior + statistics of given responsibilities."""
        zero = np.zeros((self.num_components, self.dim))
        centre = jnp.asarray(zero if centre is None else centre)
        return _start(self.engine, self.prior, self.batch, jnp.asarray(resp), centre)

    def random_start(self, seed: int) -> ConjugateParams:
        shape = np.ones(self.num_components)
        return self.start(np.random.default_rng(seed).dirichlet(shape, len(self.x)))

    def guess(self, params: ConjugateParams) -> Guess:
        """Where other families start, given a conjugate posterior."""
        return guess(self.engine, self.prior, params, self.prior)

    def ascend(self, params: ConjugateParams, steps: int) -> tuple[ConjugateParams, np.ndarray]:
        """Coordinate ascent: natural gradients at rate 1 on the full batch; the ELBO before every step."""
        params, trace = _ascend(self.objective, params, self.prior, self.batch, steps=steps)
        return params, np.asarray(trace)

    def elbo(self, params: ConjugateParams) -> float:
        return float(_elbo(self.objective, params, self.prior, self.batch))

    def labels(self, params: ConjugateParams) -> np.ndarray:
        """The most probable component of every row, by the expected log joint density."""
        family, model = Conjugate(), self.model
        theta = family.expected(model, family.posterior(model, params))
        return np.asarray(model.log_joint(theta, self.batch.x)).argmax(1)


def log_wishart_normaliser(dof: Any, rate: np.ndarray) -> np.ndarray:
    """log of the integral of |L|^((dof - D - 1)/2) exp(-tr(rate L)/2); `rate` is (..., D, D)."""
    dim = rate.shape[-1]
    dof = np.asarray(dof, float)
    lgamma = np.sum(special.gammaln((dof[..., None] - np.arange(dim)) / 2), -1)
    lgamma = lgamma + dim * (dim - 1) / 4 * np.log(np.pi)
    return dof * dim / 2 * np.log(2) - dof / 2 * np.linalg.slogdet(rate)[1] + lgamma


def posterior(x: np.ndarray, resp: np.ndarray, *, kappa: float, rate: float) -> SimpleNamespace:
    """Normal-Wishart posteriors, for responsibilities (..., N, K), of the prior of `Problem`."""
    dim = x.shape[1]
    count = resp.sum(-2)
    first = np.einsum("...nk,nd->...kd", resp, x)
    second = np.einsum("...nk,nd,ne->...kde", resp, x, x)
    strength = kappa + count
    mean = first / strength[..., None]
    shrunk = strength[..., None, None] * mean[..., :, None] * mean[..., None, :]
    return SimpleNamespace(
        count=count, kappa=strength, dof=dim + 2 + count, mean=mean, rate=rate * np.eye(dim) + second - shrunk
    )


def log_marginal(x: np.ndarray, resp: np.ndarray, *, kappa: float, rate: float) -> np.ndarray:
    """log p(rows of each component), parameters integrated out: one value per component."""
    dim = x.shape[1]
    post = posterior(x, resp, kappa=kappa, rate=rate)
    return (
        -post.count * dim / 2 * np.log(2 * np.pi)
        + dim / 2 * np.log(kappa / post.kappa)
        + log_wishart_normaliser(post.dof, post.rate)
        - log_wishart_normaliser(dim + 2.0, rate * np.eye(dim))
    )


def expected_log_det(q: Any) -> np.ndarray:
    """E[log |Lambda|], Bishop (2006) B.81."""
    dim = q.rate.shape[-1]
    psi = special.psi((np.asarray(q.dof)[..., None] - np.arange(dim)) / 2).sum(-1)
    return psi + dim * np.log(2) - np.linalg.slogdet(q.rate)[1]


def kl_normal_wishart(q: Any, p: Any) -> np.ndarray:
    """KL(q || p) as -entropy(q) - E_q[log p]; broadcasts over leading axes."""
    dim = q.rate.shape[-1]
    trace = np.trace(p.rate @ np.linalg.inv(q.rate), axis1=-2, axis2=-1)
    wishart = (
        log_wishart_normaliser(p.dof, p.rate)
        - log_wishart_normaliser(q.dof, q.rate)
        + (q.dof - p.dof) / 2 * expected_log_det(q)
        + q.dof / 2 * (trace - dim)
    )
    gap = q.mean - p.mean
    square = np.einsum("...d,...de,...e->...", gap, np.linalg.inv(q.rate), gap)
    ratio = p.kappa / q.kappa
    return wishart + 0.5 * (dim * (ratio - 1 - np.log(ratio)) + p.kappa * q.dof * square)


def log_dirichlet_normaliser(alpha: np.ndarray) -> np.ndarray:
    return special.gammaln(alpha).sum(-1) - special.gammaln(alpha.sum(-1))


def kl_beta(a: Any, b: Any, c: Any, d: Any) -> np.ndarray:
    """KL(Beta(a, b) || Beta(c, d)), textbook form."""
    return (
        special.betaln(c, d)
        - special.betaln(a, b)
        + (a - c) * special.psi(a)
        + (b - d) * special.psi(b)
        + (c - a + d - b) * special.psi(a + b)
    )


def enumerate_posterior(problem: Problem) -> SimpleNamespace:
    """Every assignment z of N rows to K components with log p(X, z), parameters integrated out."""
    k, n = problem.num_components, len(problem.x)
    labels = np.array(list(itertools.product(range(k), repeat=n)))
    one_hot = np.eye(k)[labels]
    hyper = {"kappa": problem.kappa, "rate": problem.rate}
    counts = one_hot.sum(1)
    if isinstance(problem.weights, Dirichlet):
        alpha = np.full(k, problem.weights.concentration)
        log_pz = log_dirichlet_normaliser(alpha + counts) - log_dirichlet_normaliser(alpha)
        sticks = None
    else:
        alpha = None
        beyond = np.cumsum(counts[:, ::-1], 1)[:, ::-1][:, 1:]
        gamma = problem.weights.concentration
        sticks = (1 + counts[:, :-1], gamma + beyond)
        log_pz = (special.betaln(*sticks) - special.betaln(1.0, gamma)).sum(1)
    joint = log_pz + log_marginal(problem.x, one_hot, **hyper).sum(1)
    evidence = special.logsumexp(joint)
    return SimpleNamespace(
        labels=labels,
        evidence=evidence,
        log_pz=joint - evidence,
        alpha=None if alpha is None else alpha + counts,
        sticks=sticks,
        components=posterior(problem.x, one_hot, **hyper),
    )


def kl_to_enumerated(problem: Problem, exact: SimpleNamespace, q: SimpleNamespace) -> float:
    """KL(q(z) q(pi) prod_k q(mu_k, Lambda_k) || p(z, pi, mu, Lambda | X)), exactly.

    = sum_z q(z) [log q(z) - log p(z | X) + KL(q(pi) || p(pi | z)) + sum_k KL(q_k || p(. | X, z))],
    with q(z) at its optimum r_nk ~ exp(E[log pi_k] + E[log N_k(x_n)]) (Bishop 10.46).
    """
    x, dim = problem.x, problem.dim
    total = special.psi(q.a + q.b)
    log_rest = special.psi(q.b) - total
    log_pi = np.append(special.psi(q.a) - total, 0.0) + np.append(0.0, np.cumsum(log_rest))
    gap = x[:, None, :] - q.mean[None]
    square = np.einsum("nkd,kde,nke->nk", gap, np.linalg.inv(q.rate), gap)
    log_r = log_pi + 0.5 * (expected_log_det(q) - dim * np.log(2 * np.pi) - dim / q.kappa - q.dof * square)
    log_r = log_r - special.logsumexp(log_r, axis=1, keepdims=True)
    log_qz = log_r[np.arange(len(x)), exact.labels].sum(1)
    if exact.alpha is None:
        kl_pi = kl_beta(q.a, q.b, *exact.sticks).sum(1)
    elif problem.num_components == 2:
        kl_pi = kl_beta(q.a[0], q.b[0], exact.alpha[:, 0], exact.alpha[:, 1])
    else:
        # The sticks of a posterior under a Dirichlet prior are those of a Dirichlet.
        alpha = np.append(q.a, q.b[-1])
        np.testing.assert_allclose(q.b, np.cumsum(alpha[::-1])[::-1][1:], rtol=1e-12)
        mean_log = special.psi(alpha) - special.psi(alpha.sum())
        kl_pi = (
            log_dirichlet_normaliser(exact.alpha)
            - log_dirichlet_normaliser(alpha)
            + ((alpha - exact.alpha) * mean_log).sum(1)
        )
    kl_theta = kl_normal_wishart(q, exact.components).sum(1)
    return float(np.sum(np.exp(log_qz) * (log_qz - exact.log_pz + kl_pi + kl_theta)))


def as_numpy(params: ConjugateParams) -> SimpleNamespace:
    """Conjugate parameters about centre zero as plain NumPy arrays, in textbook form."""
    assert not np.any(params.components.centre)
    kappa, first, second, dof = (
        np.asarray(getattr(params.components, name)) for name in ("count", "first", "second", "dof")
    )
    mean = first / kappa[:, None]
    rate = second - kappa[:, None, None] * mean[:, :, None] * mean[:, None, :]
    return SimpleNamespace(
        a=np.asarray(params.weights.a),
        b=np.asarray(params.weights.b),
        kappa=kappa,
        dof=dof,
        mean=mean,
        rate=rate,
    )


@pytest.fixture(scope="session")
def exact() -> SimpleNamespace:
    """The textbook formulas above."""
    return SimpleNamespace(
        Problem=Problem,
        as_numpy=as_numpy,
        enumerate=enumerate_posterior,
        kl_to_enumerated=kl_to_enumerated,
        log_marginal=log_marginal,
        tiny=TINY,
    )


@pytest.fixture(scope="session")
def golden(refs: Path) -> dict[str, Any]:
    """The reference file of golden numbers."""
    return json.loads((refs / "golden" / "golden_shared.json").read_text())


@pytest.fixture(scope="session")
def faithful_z(refs: Path) -> np.ndarray:
    """Old Faithful, z-scored with the population sd, as the golden numbers want it."""
    x = np.loadtxt(refs / "small" / "faithful.csv", delimiter=",", skiprows=1)[:, -2:]
    assert x.shape == (272, 2)
    return (x - x.mean(0)) / x.std(0)


@pytest.fixture(scope="session")
def asterisk(refs: Path) -> tuple[np.ndarray, np.ndarray]:
    """AsteriskK8: rows and true labels from 0."""
    with np.load(refs / "bnpy" / "AsteriskK8.npz") as archive:
        names = sorted(archive.files)
        x, labels = archive["X"], np.asarray(archive["TrueZ"]).ravel().astype(int)
    assert x.shape == (5000, 2), names
    return np.asarray(x, np.float64), labels - labels.min()


@pytest.fixture(scope="session", params=sorted(TINY))
def tiny(request: pytest.FixtureRequest) -> tuple[str, np.ndarray]:
    """The 8-point sets. The first is NumPy's own stream, so it needs no reference file."""
    if request.param == "tiny_8_2_8":
        x = np.random.default_rng(0).normal(size=(8, 2))
        x[4:] += 8.0
    else:
        x = np.asarray(request.getfixturevalue("golden")["tiny_data"][request.param])
    return request.param, x
