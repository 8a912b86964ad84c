"""A posterior's means as scikit-learn's ``GaussianMixture``, for tools that know no other mixture."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from vigmm.core.errors import OutputError, SpecError
from vigmm.data.arrays import default_columns
from vigmm.data.moments import Standardizer
from vigmm.models import Diag, Mixture, Spherical, Tied, TiedDiag, TiedSpherical
from vigmm.models.likelihoods import Gaussian
from vigmm.posterior import Posterior
from vigmm.subject import posterior_of

__all__ = ["standardised_mixture", "to_sklearn"]


def to_sklearn(source: Any) -> Any:
    """A fitted ``sklearn.mixture.GaussianMixture`` at the posterior means, in the units of the data.

    Its `predict_proba` is that of its formula, pi_k N(x | mu_k, Sigma_k) at E_q[pi], E_q[mu], E_q[Sigma].
    That is not our predictive density, which averages over the parameters and is a mixture of Student-t
    densities: the plug-in is too sure, the more so the fewer rows a component has and the farther away a row
    is. Fitted on 142 of 178 wines (13 columns, 3 components), responsibilities of the other 36 differ by
    0.0005 on average and by 0.02 at most, no label does, and the plug-in gives each of them 0.27 nats less;
    a row ten sds off in every column has the log density -1581 instead of -136. The uncertainty of the
    parameters is lost.

    Args:
        source: a `vigmm.Fit` or a `vigmm.Posterior`.

    Raises:
        SpecError: for components that are not Gaussian, and for a noise component.
        OutputError: if scikit-learn is not installed.

    Example:
        >>> import vigmm
        >>> x = np.random.default_rng(0).normal(size=(50, 2))
        >>> fit = vigmm.fit(x, model=vigmm.Mixture(num_components=2), moves=None)
        >>> vigmm.to_sklearn(fit).predict_proba(x).sum(axis=1).round(6).tolist() == [1.0] * 50
        True
    """
    posterior = posterior_of(source)
    return _mixture(posterior, posterior.means, posterior.covariances)


def _mixture(
    posterior: Posterior, means: Float[np.ndarray, "K D"], covariances: Float[np.ndarray, "K D D"]
) -> Any:
    """The fitted estimator with these means and covariances and the posterior's weights."""
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise OutputError("this needs scikit-learn; pip install 'vigmm[sklearn]'") from error
    model = posterior.model
    if not isinstance(model.likelihood, Gaussian):
        raise SpecError("likelihood", "'gaussian' for scikit-learn", type(model.likelihood).__name__)
    if model.noise is not None:
        raise SpecError("noise", "none for scikit-learn, whose mixtures have no such component", model.noise)
    kind = _kind(model)
    made = GaussianMixture(n_components=posterior.num_components, covariance_type=kind)
    made.weights_ = posterior.weights / posterior.weights.sum()
    made.means_ = means
    if kind == "diag":
        made.covariances_ = np.diagonal(covariances, axis1=-2, axis2=-1).copy()
        root = 1.0 / np.sqrt(made.covariances_)
        made.precisions_ = root**2
    else:
        made.covariances_ = covariances[0] if kind == "tied" else covariances
        root = np.swapaxes(np.linalg.inv(np.linalg.cholesky(made.covariances_)), -1, -2)
        made.precisions_ = root @ np.swapaxes(root, -1, -2)
    made.precisions_cholesky_ = root
    made.n_features_in_, made.converged_ = posterior.dim, True
    if posterior.columns != default_columns(posterior.dim):  # scikit-learn warns of arrays without the names
        made.feature_names_in_ = np.array(posterior.columns, object)
    return made


def standardised_mixture(posterior: Posterior) -> Any:
    """The estimator for standardised rows."""
    back = Standardizer(center=posterior.center, scale=posterior.scale)
    unit = np.outer(posterior.scale, posterior.scale)
    return _mixture(posterior, back.forward(posterior.means), posterior.covariances / unit)


def _kind(model: Mixture) -> str:
    """What scikit-learn calls the covariances; columns of different units make balls into ellipsoids."""
    if isinstance(model.covariance, Tied):
        return "tied"
    axes = isinstance(model.covariance, Diag | TiedDiag | Spherical | TiedSpherical)
    return "diag" if axes else "full"
