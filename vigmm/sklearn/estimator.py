"""`BayesianGaussianMixture` for scikit-learn: its arguments and attributes, our engine."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, Int
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, validate_data

from vigmm.core.errors import ConfigError
from vigmm.core.outcome import Outcome, Status
from vigmm.data.arrays import ArraySource, default_columns
from vigmm.fitted import Fit
from vigmm.posterior import Posterior
from vigmm.sklearn.attributes import fitted, forget, prior_rate, with_numpy
from vigmm.sklearn.choices import CONSTRAINTS, Choices, start_of
from vigmm.sklearn.fitting import Trained, train_once
from vigmm.sklearn.padding import Padded
from vigmm.sklearn.progress import Lines
from vigmm.sklearn.scoring import DTYPES, SEEDS, Scoring
from vigmm.sklearn.stream import check_family, stretch, take_in

__all__ = ["BayesianGaussianMixture"]


# scikit-learn has no types.
class BayesianGaussianMixture(
    Scoring,  # before DensityMixin, whose score does nothing
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    DensityMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """Variational Bayesian Gaussian mixture with the interface of scikit-learn's class of this name.

    What is the same and what differs, and why, is in ``docs/sklearn.md``.

    Args:
        n_components: number of components, an upper bound under a sparse prior of the weights. There are
            always so many rows in the attributes; components that the data have no use for are empty.
        covariance_type: ``full``, ``tied``, ``diag`` or ``spherical``, and beyond scikit-learn ``tied_diag``,
            ``tied_spherical`` and ``low_rank`` (which needs another family).
        tol: a fit has converged when an iteration raises the ELBO by less than this, in nats *per row*.
        reg_covar: accepted and not used: the prior keeps covariances away from zero.
        max_iter: passes over the rows, those of the search not counted; 0 for the initialisation alone.
        n_init: number of starts; the one that ends with the highest bound is kept.
        init_params: ``kmeans``: the best of six k-means partitions of up to 20,000 rows; ``k-means++``: the
            same without k-means iterations; ``random`` and ``random_from_data``: rows go to the nearest of
            random rows. Or a start of vigmm's, such as `vigmm.MeansStart`.
        weight_concentration_prior_type: ``dirichlet_process``, ``dirichlet_distribution``, or beyond
            scikit-learn ``pitman_yor``.
        weight_concentration_prior: concentration; None for 1 / n_components.
        mean_precision_prior: precision of the component means in units of one row; None for 0.01.
        mean_prior: prior mean of the means; None for the mean of the rows.
        degrees_of_freedom_prior: of the Wishart, above n_features - 1; None for n_features + 2.
        covariance_prior: rate of the Wishart, in scikit-learn's shapes; None for the covariance of the rows
            divided by n_components^(2 / n_features).
        random_state: seeds the starts and `sample`.
        warm_start: whether a fit goes on from the last one.
        verbose: 1 for a line every `verbose_interval` iterations, 2 for longer ones.
        verbose_interval: see `verbose`.
        batch_size: rows per step; None for all of them where the family is conjugate, else 1,024.
        family: family of q, by name or as a Spec; see docs/choose.md.
        estimator: estimator of the bound and its gradient; None for the family's own.
        optimizer: None for what suits.
        moves: whether the components are searched for by splits and merges before the iterations: True, a
            `vigmm.Moves`, False, or ``auto``: with 50,000 rows or more, and ten for each parameter, unless
            the fit goes on from another.
        dtype: of the computation: ``float32``, ``float64``, or None for that of the rows.
        total_rows: for `partial_fit`: how many rows there will be, if that is known.
        forgetting: for `partial_fit`: 1 remembers all chunks alike, less forgets early ones.

    Attributes:
        posterior_: the `vigmm.Posterior`.
        fit_: the `vigmm.Fit`, with outcome, metrics, manifest and `diagnose`; not pickled, and gone after
            `partial_fit`.
        weights_: E_q[weights].
        means_: E_q[means].
        precisions_: E_q[precision] of each component, in scikit-learn's shapes.
        precisions_cholesky_: P with precision = P P^T.
        covariances_: inverses of `precisions_`.
        weight_concentration_: posterior of the weights, as in scikit-learn. This and the next two only for
            the conjugate family.
        mean_precision_: posterior precision of the means, in rows.
        degrees_of_freedom_: of the posterior Wisharts.
        lower_bound_: the ELBO, in nats, with all constants: it can be compared across n_components.
        lower_bounds_: the ELBO after every iteration.
        converged_: whether the fit converged.
        n_iter_: iterations done.
        n_samples_seen_: sum of the weights of all rows seen.
        n_features_in_: number of columns.
        feature_names_in_: their names, where they have some.

    Example:
        >>> import numpy as np
        >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [12, 4], [10, 0]], float)
        >>> model = BayesianGaussianMixture(n_components=2, random_state=0).fit(X)
        >>> sorted(np.bincount(model.predict(X)).tolist())
        [3, 3]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = CONSTRAINTS

    posterior_: Posterior
    fit_: Fit
    lower_bound_: float
    lower_bounds_: list[float]
    n_samples_seen_: float

    def __init__(
        self,
        *,
        n_components: int = 1,
        covariance_type: str = "full",
        tol: float = 1e-5,
        reg_covar: float = 1e-6,
        max_iter: int = 100,
        n_init: int = 1,
        init_params: Any = "kmeans",
        weight_concentration_prior_type: str = "dirichlet_process",
        weight_concentration_prior: float | None = None,
        mean_precision_prior: float | None = None,
        mean_prior: Any = None,
        degrees_of_freedom_prior: float | None = None,
        covariance_prior: Any = None,
        random_state: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        verbose_interval: int = 10,
        batch_size: int | None = None,
        family: Any = "conjugate",
        estimator: Any = None,
        optimizer: Any = None,
        moves: Any = "auto",
        dtype: str | None = None,
        total_rows: float | None = None,
        forgetting: float = 0.7,
    ) -> None:
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.tol = tol
        self.reg_covar = reg_covar
        self.max_iter = max_iter
        self.n_init = n_init
        self.init_params = init_params
        self.weight_concentration_prior_type = weight_concentration_prior_type
        self.weight_concentration_prior = weight_concentration_prior
        self.mean_precision_prior = mean_precision_prior
        self.mean_prior = mean_prior
        self.degrees_of_freedom_prior = degrees_of_freedom_prior
        self.covariance_prior = covariance_prior
        self.random_state = random_state
        self.warm_start = warm_start
        self.verbose = verbose
        self.verbose_interval = verbose_interval
        self.batch_size = batch_size
        self.family = family
        self.estimator = estimator
        self.optimizer = optimizer
        self.moves = moves
        self.dtype = dtype
        self.total_rows = total_rows
        self.forgetting = forgetting

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> BayesianGaussianMixture:
        """Fit the posterior.

        Args:
            X: N rows.
            y: not used.
            sample_weight: for how many rows each row counts; ones by default.

        Warns:
            ConvergenceWarning: if the bound still rose when `max_iter` was reached, or could not be computed.
        """
        rows, weight = self._given(X, sample_weight, reset=True)
        self._check_enough(rows)
        outcome = self._fit(rows, weight)
        if not self.converged_ and self.max_iter > 0:
            warnings.warn(
                "Best performing initialization did not converge. Try different init parameters, or increase "
                f"max_iter, tol, or check for degenerate data. The engine says: {outcome.message}.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Int[np.ndarray, " N"]:
        """`fit`, then `predict` of the same rows.

        Args:
            X: N rows.
            y: not used.
            sample_weight: for how many rows each row counts; ones by default.
        """
        labels: Int[np.ndarray, " N"] = self.fit(X, y, sample_weight=sample_weight).predict(X)
        return labels

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> BayesianGaussianMixture:
        """Take in one chunk of rows, which may be forgotten afterwards.

        The first chunk is fitted like any data, and settles centring, scaling and every prior that is not
        given. Each later one is a natural-gradient step. The posterior is one of `total_rows` rows, or of all
        that were seen so far: rows that come twice then count twice, so give `total_rows` where chunks are
        repeated. See `vigmm.train.streaming`.

        Args:
            X: the rows of the chunk, best as many as in the others.
            y: not used.
            sample_weight: for how many rows each row counts; ones by default.
        """
        check_family(self.family, getattr(self, "posterior_", None))
        first = not hasattr(self, "posterior_")
        rows, weight = self._given(X, sample_weight, reset=first)
        if not first:
            take_in(self, rows, weight)
            return self
        self._check_enough(rows)
        self._fit(rows, weight)
        if self.total_rows is not None:
            stretch(self, self.total_rows)
        return self

    def _given(
        self, X: Any, sample_weight: Any, *, reset: bool
    ) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, " N"] | None]:
        """Rows and weights, checked."""
        rows = validate_data(self, X, dtype=DTYPES, reset=reset, ensure_min_samples=2 if reset else 1)
        if sample_weight is None:
            return rows, None
        return rows, _check_sample_weight(sample_weight, rows, dtype=np.float64, ensure_non_negative=True)

    def _check_enough(self, rows: Float[np.ndarray, "N D"]) -> None:
        if len(rows) < self.n_components:
            raise ConfigError(
                f"Expected n_samples >= n_components but got n_components = {self.n_components}, "
                f"n_samples = {len(rows)}"
            )

    def _fit(self, rows: Float[np.ndarray, "N D"], sample_weight: Float[np.ndarray, " N"] | None) -> Outcome:
        """Fit from every start and keep the best; the outcome of that one."""
        names = getattr(self, "feature_names_in_", None)
        columns = default_columns(rows.shape[1]) if names is None else tuple(map(str, names))
        plain = ArraySource(rows, columns=columns, name="X")
        source = Padded(plain, one_unit="spherical" in self.covariance_type)
        weight = source.weight(sample_weight)
        old = getattr(self, "posterior_", None) if self.warm_start else None
        if old is not None and (old.dim, old.num_components) != (rows.shape[1], self.n_components):
            old = None
        choices = Choices.of(self.get_params(deep=False), source, fresh=old is None)
        start = start_of(self.init_params, source, self.n_components) if old is None else old
        seeds = check_random_state(self.random_state)
        lines = Lines(self.verbose, self.verbose_interval) if self.verbose else None
        best: Trained | None = None
        for number in range(self.n_init if old is None else 1):
            if lines is not None:
                lines.begins(number)
            found = train_once(
                source, weight, choices, start, passes=self.max_iter, seed=int(seeds.randint(SEEDS)),
                dtype=self.dtype or rows.dtype.name, before=None if old is None else self.lower_bound_,
                progress=lines,
            )  # fmt: skip
            if lines is not None:
                lines.ends(found.converged, found.fit.elbo.elbo)
            # Written so that a bound that is not a number never wins.
            if best is None or found.fit.elbo.elbo > best.fit.elbo.elbo or math.isnan(best.fit.elbo.elbo):
                best = found
            stopped = found.fit.outcome.status is Status.INTERRUPTED
            if stopped:
                break
        assert best is not None
        self._remember(best.fit.posterior, rows.dtype)
        self.fit_ = dataclasses.replace(best.fit, posterior=self.posterior_, data=plain)
        self.lower_bound_, self.lower_bounds_ = best.fit.elbo.elbo, best.bounds
        self.n_iter_, self.converged_ = best.passes, best.converged
        self.n_samples_seen_ = float(weight.sum())
        self._stands_for = self.n_samples_seen_
        if stopped:
            # The engine keeps the model; whatever called fit must know that somebody wants to stop.
            raise KeyboardInterrupt(found.fit.outcome.message)
        return best.fit.outcome

    def _remember(self, posterior: Posterior, dtype: Any) -> None:
        """The posterior, and the attributes that follow from it."""
        self.posterior_ = with_numpy(posterior)
        forget(self)
        for name, value in fitted(posterior, dtype).items():
            setattr(self, name, value)
        prior: Any = posterior.model.prior
        share: Any = posterior.model.weights
        self.weight_concentration_prior_ = share.concentration
        self.mean_precision_prior_ = prior.mean_precision
        self.mean_prior_ = posterior.center if prior.mean is None else np.asarray(prior.mean)
        self.degrees_of_freedom_prior_ = posterior.dim + 2.0 if prior.dof is None else prior.dof
        given = self.covariance_prior
        rate = prior_rate(posterior) if given is None else given
        self.covariance_prior_ = rate if np.ndim(rate) == 0 else np.asarray(rate, np.float64)

    def __getstate__(self) -> dict[str, Any]:
        """Without the fit, which holds the rows and functions of the session."""
        return {name: value for name, value in super().__getstate__().items() if name != "fit_"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
