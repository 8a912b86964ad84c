"""What a fitted estimator can be asked: labels, probabilities, densities, new rows, information criteria."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from vigmm.core.errors import ConfigError
from vigmm.data.arrays import ArraySource
from vigmm.posterior import Posterior

__all__ = ["DTYPES", "SEEDS", "Scoring"]

DTYPES = [np.float64, np.float32]
"""What rows may be; anything else becomes float64, as in scikit-learn."""

SEEDS = 2**31 - 1
"""Seeds drawn from a `random_state` are below it."""


class Scoring:
    """Questions to the posterior that a fit leaves in `posterior_`."""

    posterior_: Posterior
    means_: Float[np.ndarray, "K D"]
    random_state: Any
    n_components: int

    def predict(self, X: Any) -> Int[np.ndarray, " N"]:
        """The most probable component of each row.

        Args:
            X: N rows.
        """
        source = self._rows(X)
        return self.posterior_.predict(source).astype(np.int64)

    def predict_proba(self, X: Any) -> Float[np.ndarray, "N K"]:
        """Probability that each row belongs to each component; rows sum to 1.

        Args:
            X: N rows.
        """
        source = self._rows(X)
        return self.posterior_.responsibilities(source)

    def transform(self, X: Any) -> Float[np.ndarray, "N K"]:
        """`predict_proba`, so that a pipeline can go on from soft labels.

        Args:
            X: N rows.
        """
        return self.predict_proba(X)

    def score_samples(self, X: Any) -> Float[np.ndarray, " N"]:
        """Log posterior predictive density of each row, in nats: parameters are averaged out, not plugged in.

        Args:
            X: N rows.
        """
        source = self._rows(X)
        return self.posterior_.log_predictive(source)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Mean log predictive density of the rows.

        Args:
            X: N rows.
            y: not used.
            sample_weight: a weight for each row; ones by default.
        """
        values = self.score_samples(X)
        if sample_weight is None:
            return float(np.mean(values))
        weight = _check_sample_weight(sample_weight, values, dtype=np.float64, ensure_non_negative=True)
        return float(np.average(values, weights=weight))

    def sample(self, n_samples: int = 1) -> tuple[Float[np.ndarray, "n D"], Int[np.ndarray, " n"]]:
        """New rows from the posterior predictive distribution, and their components.

        Args:
            n_samples: how many.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ConfigError(
                f"Invalid value for 'n_samples': {n_samples} . The sampling requires at least one sample."
            )
        seed = int(check_random_state(self.random_state).randint(SEEDS))
        rows, labels = self.posterior_.sample(jax.random.key(seed), n_samples)
        return rows.astype(self.means_.dtype, copy=False), labels.astype(np.int64)

    def bic(self, X: Any) -> float:
        """Bayesian information criterion of the predictive density on X; the lower the better.

        For the users of `GaussianMixture`: `lower_bound_` says the same of the evidence itself, without the
        criterion's large-sample argument.

        Args:
            X: N rows.
        """
        values = self.score_samples(X)
        return -2.0 * float(np.sum(values, dtype=np.float64)) + self._n_parameters() * math.log(len(values))

    def aic(self, X: Any) -> float:
        """Akaike information criterion of the predictive density on X; the lower the better.

        Args:
            X: N rows.
        """
        return -2.0 * float(np.sum(self.score_samples(X), dtype=np.float64)) + 2.0 * self._n_parameters()

    def _n_parameters(self) -> int:
        """Free parameters of a mixture of `n_components`, scikit-learn's name for it."""
        return self.posterior_.model.position_size(self.posterior_.dim)

    @property
    def _n_features_out(self) -> int:
        """Columns of `transform`."""
        return self.n_components

    def _rows(self, X: Any) -> ArraySource:
        """New rows, checked, under the names that the posterior knows."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=DTYPES)
        return ArraySource(X, columns=self.posterior_.columns, name="X")
