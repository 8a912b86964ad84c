"""What the arguments of the scikit-learn estimator mean to the engine: from parameters to Specs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from vigmm.core.errors import ConfigError, DataError
from vigmm.data.sources import DataFile
from vigmm.estimators import ESTIMATORS, Estimator
from vigmm.families import FAMILIES, Conjugate, Family
from vigmm.models import Mixture, NormalWishart
from vigmm.models.covariance import COVARIANCES
from vigmm.models.weights import WEIGHTS
from vigmm.optim import OPTIMIZERS, Optimizer, Sgd
from vigmm.sklearn.padding import Padded
from vigmm.train import KMeansStart, LabelsStart, Moves, RandomStart, Start, Train

__all__ = ["CONSTRAINTS", "Choices", "covariance_matrix", "mixture", "start_of"]

T = TypeVar("T")

# scikit-learn's name of the finite Dirichlet beside ours.
_WEIGHTS = {"dirichlet_distribution": WEIGHTS["dirichlet"], **WEIGHTS}
_STARTS: dict[str, Start] = {
    "kmeans": KMeansStart(),
    "k-means++": KMeansStart(lloyd=0),
    "random": RandomStart(),
    "random_from_data": RandomStart(),
}
_POSITIVE = Interval(Real, 0, None, closed="neither")
# Below, compiling the search takes longer than many a fit.
_MANY_ROWS = 50_000
# With fewer rows for each parameter the bound prefers fewer components than the density of other rows would.
_ROWS_EACH, _LEAST_SEARCHED = 10, 20_000

CONSTRAINTS: dict[str, list[Any]] = {
    "n_components": [Interval(Integral, 1, None, closed="left")],
    "covariance_type": [StrOptions(set(COVARIANCES))],
    "tol": [Interval(Real, 0, None, closed="left")],
    "reg_covar": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "n_init": [Interval(Integral, 1, None, closed="left")],
    "init_params": [StrOptions(set(_STARTS)), HasMethods("first")],
    "weight_concentration_prior_type": [StrOptions(set(_WEIGHTS))],
    "weight_concentration_prior": [None, _POSITIVE],
    "mean_precision_prior": [None, _POSITIVE],
    "mean_prior": [None, "array-like"],
    "degrees_of_freedom_prior": [None, _POSITIVE],
    "covariance_prior": [None, "array-like", _POSITIVE],
    "random_state": ["random_state"],
    "warm_start": ["boolean"],
    "verbose": ["verbose"],
    "verbose_interval": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [None, Interval(Integral, 1, None, closed="left")],
    "family": [StrOptions(set(FAMILIES)), HasMethods("init")],
    "estimator": [None, StrOptions(set(ESTIMATORS)), HasMethods("estimate")],
    "optimizer": [None, StrOptions(set(OPTIMIZERS)), HasMethods("build")],
    "moves": [None, "boolean", StrOptions({"auto"}), Moves],
    "dtype": [None, StrOptions({"float32", "float64"})],
    "total_rows": [None, _POSITIVE],
    "forgetting": [Interval(Real, 0.5, 1, closed="right")],
}
"""What scikit-learn checks of every argument before a fit."""


@dataclasses.dataclass(frozen=True)
class Choices:
    """Specs for one estimator's parameters and so many rows.

    Args:
        model: the mixture.
        family: the family of q.
        estimator: of the bound; None for the family's own.
        optimizer: None for what suits.
        train: budget and batches.
        moves: how the number of components is searched for, or None.
        whole: whether every step is a pass of coordinate ascent.
    """

    model: Mixture
    family: Family
    estimator: Estimator | None
    optimizer: Optimizer | None
    train: Train
    moves: Moves | None
    whole: bool

    @staticmethod
    def of(params: Mapping[str, Any], source: Padded, *, fresh: bool) -> Choices:
        """From an estimator's parameters.

        Args:
            params: the parameters.
            source: the rows.
            fresh: whether the fit looks for its own start, and does not go on from an earlier one.
        """
        rows, dim = len(source), source.dim
        family = _row(FAMILIES, params["family"])
        exact = isinstance(family, Conjugate)
        size = params["batch_size"]
        usual = Train()
        if size is None:
            size = rows if exact else usual.batch_size
        whole = exact and size >= rows
        model = mixture(params, dim)
        return Choices(
            model=model,
            family=family,
            estimator=None if params["estimator"] is None else _row(ESTIMATORS, params["estimator"]),
            optimizer=None if params["optimizer"] is None else _row(OPTIMIZERS, params["optimizer"]),
            train=Train(
                batch_size=int(size),
                passes=float(max(params["max_iter"], 1)),
                # A pass of coordinate ascent is an iteration; of gradient descent on few rows it is one step.
                min_steps=1 if exact else usual.min_steps,
                holdout=0.0,
                tolerance=float(params["tol"]),
                patience=1 if whole else usual.patience,
                chunk_steps=10 if whole else usual.chunk_steps,
            ),
            moves=_moves(params["moves"], model, source, fresh=fresh),
            whole=whole,
        )

    def still(self) -> Choices:
        """The same with one step of size zero, which leaves the start bit for bit."""
        still = dataclasses.replace(self.train, min_steps=1, max_steps=1)
        slow = Sgd(rate=float(np.finfo(np.float64).tiny))
        return dataclasses.replace(self, train=still, optimizer=slow, moves=None)


def _moves(chosen: Any, model: Mixture, source: Padded, *, fresh: bool) -> Moves | None:
    """The search, which keeps all components that were asked for: attributes have a row for each.

    Iterations over all rows follow in any case, so that by default it looks at as many as tell the components
    apart.
    """
    if chosen == "auto":
        enough = max(_LEAST_SEARCHED, _ROWS_EACH * model.position_size(source.dim))
        found = Moves(rows=min(enough, Moves().rows))
        many = source.given >= max(_MANY_ROWS, found.rows)
        chosen = found if fresh and many and model.num_components > 1 else None
    if not chosen:
        return None
    return dataclasses.replace(Moves() if chosen is True else chosen, keep=True)


def mixture(params: Mapping[str, Any], dim: int) -> Mixture:
    """The model: structure, weights and the priors in the units of the data.

    scikit-learn's `covariance_prior` is the Wishart's rate B. Where one of B and the degrees of freedom is
    given, B is `covariance_prior`, or the default covariance itself; so the degrees of freedom need only be
    above D - 1, and say nothing of B.

    Raises:
        ConfigError: for a value that does not fit the columns.
    """
    dof, cov, mean = (params[name] for name in ("degrees_of_freedom_prior", "covariance_prior", "mean_prior"))
    if dof is not None and not dof > dim - 1:
        raise ConfigError(
            f"The parameter 'degrees_of_freedom_prior' should be greater than {dim - 1}, but got {dof:.3f}."
        )
    kappa, share = params["mean_precision_prior"], params["weight_concentration_prior"]
    number = params["n_components"]
    usual = NormalWishart()
    return Mixture(
        num_components=int(number),
        weights=_WEIGHTS[params["weight_concentration_prior_type"]](
            concentration=1.0 / number if share is None else float(share)  # type: ignore[call-arg]
        ),
        covariance=COVARIANCES[params["covariance_type"]](),
        prior=NormalWishart(
            mean=None if mean is None else _vector(mean, dim, "mean_prior"),
            mean_precision=usual.mean_precision if kappa is None else float(kappa),
            dof=None if dof is None else float(dof),
            covariance=None if cov is None else covariance_matrix(cov, params["covariance_type"], dim),
            ratio=None if dof is None and cov is None else 1.0,
        ),
    )


def covariance_matrix(value: Any, kind: str, dim: int) -> tuple[tuple[float, ...], ...]:
    """`covariance_prior` as a matrix: given as one, as D variances, or as one number, as `kind` asks.

    Example:
        >>> covariance_matrix(2.0, "spherical", 2)
        ((2.0, 0.0), (0.0, 2.0))
    """
    if "spherical" in kind:
        array = np.asarray(value, np.float64)
        if array.shape != ():
            raise ConfigError(f"The parameter 'covariance_prior' should be one number for {kind!r}.")
        matrix = float(array) * np.eye(dim)
    elif "diag" in kind:
        matrix = np.diag(_vector(value, dim, f"{kind} covariance_prior"))
    else:
        matrix = np.asarray(value, np.float64)
        if matrix.shape != (dim, dim):
            raise ConfigError(
                f"The parameter '{kind} covariance_prior' should have the shape of {(dim, dim)}, but got "
                f"{matrix.shape}"
            )
    if not np.all(np.isfinite(matrix)) or not np.allclose(matrix, matrix.T):
        raise ConfigError(f"'{kind} covariance_prior' should be symmetric, positive-definite")
    if not np.linalg.eigvalsh(matrix)[0] > 0:
        raise ConfigError(f"'{kind} covariance_prior' should be positive definite")
    return tuple(map(tuple, matrix.tolist()))


def start_of(chosen: Any, source: Padded, components: int) -> Start:
    """Where a fit starts.

    Args:
        chosen: `init_params`: a name, or a Start.
        source: the rows.
        components: K; one component holds all rows, wherever it is looked for.
    """
    if components == 1 and isinstance(chosen, str):
        return LabelsStart(labels=np.zeros(len(source), np.int64))
    found: Start = _STARTS[chosen] if isinstance(chosen, str) else chosen
    if isinstance(found, LabelsStart):
        labels = found.labels.value if found.path is None else _column(found.path)
        return dataclasses.replace(found, path=None, labels=source.labels(labels))
    return found


def _column(path: str) -> np.ndarray:
    """Labels of the rows that were given, from a file: those of padding are not in it."""
    source = DataFile(path).open()
    if source.dim != 1:
        raise DataError(f"{path} has {source.dim} columns; labels are one column")
    return np.asarray(source[:])[:, 0]


def _row(table: Mapping[str, type[T]], value: Any) -> T:
    """A row of a table by its name, or the Spec itself."""
    found: T = table[value]() if isinstance(value, str) else value
    return found


def _vector(value: Any, dim: int, name: str) -> tuple[float, ...]:
    array = np.asarray(value, np.float64)
    if array.shape != (dim,):
        raise ConfigError(f"The parameter '{name}' should have the shape of {(dim,)}, but got {array.shape}")
    if not np.all(np.isfinite(array)):
        raise ConfigError(f"The parameter '{name}' should be finite")
    return tuple(array.tolist())
