"""Fitted attributes in scikit-learn's shapes and in the units of the data, from a posterior."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from vigmm.core.effort import program
from vigmm.core.precision import double
from vigmm.families import Conjugate, ConjugateParams
from vigmm.models import Dirichlet, Mixture, NormalWishart, sticks
from vigmm.models.covariance import COVARIANCES
from vigmm.posterior import Posterior

__all__ = ["fitted", "forget", "prior_rate", "with_numpy"]

_CONJUGATE = ("weight_concentration_", "mean_precision_", "degrees_of_freedom_")


@program(lambda *_: 0.0, static_argnames=("model",))
def _read(model: Mixture, params: ConjugateParams) -> tuple[Any, ...]:
    """Standard parameters, E[log N] as parts (which hold E[precision] as a root), and E[weights]."""
    standard = Conjugate().posterior(model, params).components
    weights = sticks.expected_weights(params.weights, model.num_components)
    return standard, model.algebra.expected(standard), weights


def with_numpy(posterior: Posterior) -> Posterior:
    """The same with NumPy arrays, which are pickled in their own dtype whatever JAX has enabled."""
    params, prior = jax.tree.map(np.asarray, (posterior.params, posterior.prior))
    return dataclasses.replace(posterior, params=params, prior=prior)


def fitted(posterior: Posterior, dtype: Any) -> dict[str, Any]:
    """Attributes by name.

    A conjugate posterior is read in closed form: `precisions_` are E_q[precision], as in scikit-learn, and
    `covariances_` their inverses. Of other families they are averages over draws, and `covariances_` are
    E_q[covariance].

    Args:
        posterior: the model.
        dtype: of the arrays.
    """
    kind = _kind(posterior)
    made: dict[str, Any]
    if isinstance(posterior.family, Conjugate):
        made = _conjugate(posterior, kind)
    else:
        covariances = posterior.covariances
        # Sigma = L L^T, so that P = L^-T is upper triangular with P P^T = Sigma^-1.
        roots = np.swapaxes(np.linalg.inv(np.linalg.cholesky(covariances)), -1, -2)
        made = {"weights_": posterior.weights, "means_": posterior.means, **_shaped(roots, kind)}

    def cast(value: Any) -> Any:
        return tuple(map(cast, value)) if isinstance(value, tuple) else np.asarray(value, dtype)[()]

    return {name: cast(value) for name, value in made.items()}


def _conjugate(posterior: Posterior, kind: str) -> dict[str, Any]:
    model, scale = posterior.model, posterior.scale
    num, dim = model.num_components, posterior.dim
    with jax.enable_x64(True):
        params = double(posterior.params)
        standard, parts, weights = jax.tree.map(np.asarray, _read(model, params))
    prior: NormalWishart = model.prior  # type: ignore[assignment]
    held = standard.mean_precision - prior.mean_precision
    # Lambda = W^T W = P P^T; P = W^T is upper triangular, as scikit-learn's is.
    if hasattr(parts, "whitener"):
        roots = np.swapaxes(parts.whitener, -1, -2) / scale[:, None]
    else:
        roots = (parts.root / scale)[:, None, :] * np.eye(dim)
    tied = kind.startswith("tied")
    dof = dim + 2.0 if prior.dof is None else prior.dof
    return {
        "weights_": weights,
        "means_": posterior.center + scale * standard.loc,
        **_shaped(np.broadcast_to(roots, (num, dim, dim)), kind),
        "weight_concentration_": _concentration(model, params.weights, held),
        "mean_precision_": standard.mean_precision,
        "degrees_of_freedom_": dof + (held.sum() if tied else held),
    }


def _concentration(model: Mixture, q: sticks.Sticks, held: Float[np.ndarray, " K"]) -> Any:
    """Dirichlet parameters, or Beta parameters (a, b) of all sticks, the last of which is one."""
    if isinstance(model.weights, Dirichlet):
        # a_j = alpha_j, b_j = sum_{l>j} alpha_l: the last parameter is what the last stick leaves over.
        return np.append(q.a, q.b[-1]) if len(held) > 1 else model.weights.concentration + held
    return np.append(q.a, 1.0 + held[-1]), np.append(q.b, 0.0)


def _shaped(roots: Float[np.ndarray, "K D D"], kind: str) -> dict[str, Any]:
    """Precisions, their upper triangular roots and their inverses, in the shape of a covariance type."""
    precisions = roots @ np.swapaxes(roots, -1, -2)
    if "diag" in kind or "spherical" in kind:
        made = np.diagonal(precisions, axis1=-2, axis2=-1)
        made = made[:, 0] if "spherical" in kind else made
        made = made[0] if kind.startswith("tied") else made
        return {"precisions_": made, "precisions_cholesky_": np.sqrt(made), "covariances_": 1.0 / made}
    if kind == "tied":
        roots, precisions = roots[0], precisions[0]
    inverse = np.linalg.inv(roots)
    covariances = np.swapaxes(inverse, -1, -2) @ inverse
    return {"precisions_": precisions, "precisions_cholesky_": roots, "covariances_": covariances}


def forget(estimator: Any) -> None:
    """Take off the attributes that only a conjugate posterior has."""
    for name in _CONJUGATE:
        vars(estimator).pop(name, None)


def _kind(posterior: Posterior) -> str:
    """`covariance_type` of a posterior."""
    covariance = type(posterior.model.covariance)
    return next(name for name, row in COVARIANCES.items() if row is covariance)


def prior_rate(posterior: Posterior) -> Any:
    """The prior's rate B in the shape of `covariance_prior`."""
    components = posterior.prior.components
    if hasattr(components, "rate_factor"):
        factor = np.asarray(components.rate_factor, np.float64)[0] * posterior.scale[:, None]
        return factor @ factor.T
    diagonal = 2.0 * np.asarray(components.rate, np.float64)[0] * posterior.scale**2
    return float(diagonal[0]) if "spherical" in _kind(posterior) else diagonal
