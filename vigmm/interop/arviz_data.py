"""Draws of the posterior as ArviZ data: an ``InferenceData``, or from ArviZ 1 on an xarray ``DataTree``."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from vigmm import __version__
from vigmm.core import rng
from vigmm.core.errors import OutputError, SpecError
from vigmm.core.struct import require
from vigmm.models.likelihoods import StudentT
from vigmm.posterior import Draws, Posterior
from vigmm.posterior.replicates import log_likelihood as log_likelihood_of
from vigmm.posterior.replicates import replicated
from vigmm.subject import posterior_of, rows_of

__all__ = ["to_arviz"]

_DIMS = {
    "weights": ["component"],
    "means": ["component", "column"],
    "sds": ["component", "column"],
    "covariances": ["component", "column", "other"],
    "correlations": ["component", "column", "other"],
    "dof": ["component"],
    "noise": [],
}


def to_arviz(
    source: Any,
    *,
    num_draws: int = 1000,
    seed: int | None = None,
    rows: Any = None,
    log_likelihood: bool = False,
    covariances: bool = True,
) -> Any:
    """Draws from q for ArviZ, in the units of the data.

    Groups: ``posterior`` with weights, means, sds, covariances and correlations (of Student-t components
    those of the scale matrices, and ``dof``; ``noise`` is the share of a noise component), over the
    dimensions component and column; and where rows are asked for, ``posterior_predictive`` (for each draw as
    many new rows), ``observed_data`` and, if asked for, ``log_likelihood``, which `az.loo` needs.

    The draws are independent and come from q, so there is one chain, and no sample statistics.

    **Label switching.** The posterior of a mixture has K! modes that differ in the numbers of the components
    only; q lies in one of them. So component 3 is the same cluster in every draw, and averages over draws
    mean something. With draws of another sampler, or of another fit, match the components first.

    Args:
        source: a `vigmm.Fit` or a `vigmm.Posterior`.
        num_draws: S, how many draws.
        seed: chooses them; by default they are those behind `Posterior.summary`.
        rows: rows to compare with: a table, or of a fit the number of its own rows to take, evenly spaced.
            Memory goes with S x rows x columns.
        log_likelihood: whether log p(row | draw) is wanted too.
        covariances: whether covariances and correlations are wanted, S x K x D x D numbers each.

    Raises:
        OutputError: if ArviZ is not installed.

    Example:
        >>> import vigmm
        >>> x = np.random.default_rng(0).normal(size=(50, 2))
        >>> fit = vigmm.fit(x, model=vigmm.Mixture(num_components=2), moves=None)
        >>> vigmm.to_arviz(fit, num_draws=10).posterior["means"].dims
        ('chain', 'draw', 'component', 'column')
    """
    try:
        with warnings.catch_warnings():
            # ArviZ 0.23 tells everybody who imports it that version 1 is different.
            warnings.simplefilter("ignore", FutureWarning)
            import arviz
        import xarray
    except ImportError as error:
        raise OutputError("ArviZ data need ArviZ; pip install 'vigmm[arviz]'") from error
    posterior = posterior_of(source)
    require(num_draws >= 1, "num_draws", ">= 1", num_draws)
    require(rows is not None or not log_likelihood, "rows", "given with log_likelihood", rows)
    name, root = ("summary", posterior.seed) if seed is None else ("arviz", seed)
    key = rng.stream(rng.root_key(root), name)
    draws = posterior.draw(key, num_draws)
    groups: dict[str, dict[str, np.ndarray]] = {"posterior": _parameters(posterior, draws, covariances)}
    dims = dict(_DIMS)
    if rows is not None:
        x = _rows(source, rows)
        again = replicated(posterior, draws, len(x), rng.on_host(rng.stream(key, "replicates")))
        groups["posterior_predictive"] = {"x": np.stack(list(again))}
        if log_likelihood:
            groups["log_likelihood"] = {"x": log_likelihood_of(posterior, x, key, num_draws)}
        groups["observed_data"] = {"x": x}

    coords = {"column": list(posterior.columns), "other": list(posterior.columns)}

    def dataset(group: str) -> Any:
        variables = {}
        for name, values in groups[group].items():
            own = dims.get(name, ["row"] if group == "log_likelihood" else ["row", "column"])
            sampled = group != "observed_data"
            whole = ["chain", "draw", *own] if sampled else own
            variables[name] = (whole, values[None] if sampled else values)
        made = xarray.Dataset(variables, attrs=_about(posterior, seed))
        known = {dim: coords.get(str(dim), np.arange(size)) for dim, size in made.sizes.items()}
        return made.assign_coords(known)

    made = {group: dataset(group) for group in groups}
    if arviz.__version__.startswith("0."):
        return arviz.InferenceData(**made)
    return xarray.DataTree.from_dict(made)


def _rows(source: Any, rows: Any) -> np.ndarray:
    """The rows to compare with: all that are given, or a number of those that were fitted."""
    if isinstance(rows, bool) or not isinstance(rows, int | np.integer):
        return rows_of(source, rows, np.iinfo(np.int64).max)[0]
    if rows < 1:
        raise SpecError("rows", ">= 1, or a table", rows)
    return rows_of(source, None, int(rows))[0]


def _parameters(posterior: Posterior, draws: Draws, covariances: bool) -> dict[str, np.ndarray]:
    sds = np.sqrt(np.diagonal(draws.covariances, axis1=-2, axis2=-1))
    found = {"weights": draws.weights, "means": draws.means, "sds": sds}
    if covariances:
        found["covariances"] = draws.covariances
        found["correlations"] = draws.covariances / (sds[..., :, None] * sds[..., None, :])
    likelihood = posterior.model.likelihood
    if isinstance(likelihood, StudentT) and likelihood.dof is None:
        found["dof"] = np.exp(draws.own[..., 0])
    if posterior.model.noise is not None:
        found["noise"] = draws.noise
    return found


def _about(posterior: Posterior, seed: int | None) -> dict[str, Any]:
    return {
        "inference_library": "vigmm",
        "inference_library_version": __version__,
        "seed": posterior.seed if seed is None else seed,
        "labels": "one of K! equivalent numberings of the components, the same in every draw",
    }
