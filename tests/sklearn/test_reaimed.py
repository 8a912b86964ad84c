"""scikit-learn's own tests of mixtures, as shipped in its wheel, aimed at our class.

Every test of the three modules is in a table: it runs, or there is a reason why it does not.
"""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn")

from vigmm import MeansStart
from vigmm.sklearn import BayesianGaussianMixture

BAYESIAN = "sklearn.mixture.tests.test_bayesian_mixture"
GAUSSIAN = "sklearn.mixture.tests.test_gaussian_mixture"
BOTH = "sklearn.mixture.tests.test_mixture"


class GaussianMixture(BayesianGaussianMixture):
    """Our class under the name that messages of the EM tests speak of, with their way to say a start."""

    def __init__(
        self, *, n_components=1, covariance_type="full", tol=1e-5, reg_covar=1e-6, max_iter=100, n_init=1,
        init_params="kmeans", random_state=None, warm_start=False, verbose=0, verbose_interval=10,
        means_init=None, weights_init=None, precisions_init=None,
    ):  # fmt: skip
        super().__init__(
            n_components=n_components, covariance_type=covariance_type, tol=tol, reg_covar=reg_covar,
            max_iter=max_iter, n_init=n_init, init_params=init_params, random_state=random_state,
            warm_start=warm_start, verbose=verbose, verbose_interval=verbose_interval,
        )  # fmt: skip
        self.means_init = means_init
        self.weights_init = weights_init
        self.precisions_init = precisions_init

    def fit(self, X, y=None, sample_weight=None):
        if self.means_init is not None:
            self.init_params = MeansStart(means=self.means_init)
        return super().fit(X, y, sample_weight)

    def get_params(self, deep=True):
        return {**BayesianGaussianMixture().get_params(deep=False), **super().get_params(deep)}


@dataclasses.dataclass(frozen=True)
class Run:
    """Arguments of a test that runs, and which covariance types it loops over (all four by default)."""

    arguments: tuple[dict[str, Any], ...] = ({},)
    types: tuple[str, ...] = ("full", "tied", "diag", "spherical")


SEEDS = tuple(
    {"seed": seed, "max_iter": max_iter, "tol": tol}
    for seed, max_iter, tol in [(0, 2, 1e-7), (1, 2, 1e-1), (3, 300, 1e-7), (4, 300, 1e-1)]
)
INITS = ("random", "random_from_data", "k-means++", "kmeans")
DTYPES = (np.float64, np.float32)


def each(**values: Any) -> tuple[dict[str, Any], ...]:
    """All combinations."""
    return tuple(dict(zip(values, one, strict=True)) for one in itertools.product(*values.values()))


# One or two of the four types where every one of them is a program to compile and says the same.
RUNS: dict[tuple[str, str], Run] = {
    (BAYESIAN, "test_bayesian_mixture_weights_prior_initialisation"): Run(),
    (BAYESIAN, "test_bayesian_mixture_check_is_fitted"): Run(),
    (BAYESIAN, "test_bayesian_mixture_weights"): Run(),
    (BAYESIAN, "test_monotonic_likelihood"): Run(),
    (BAYESIAN, "test_check_covariance_precision"): Run(),
    (BAYESIAN, "test_invariant_translation"): Run(),
    (BAYESIAN, "test_bayesian_mixture_fit_predict"): Run(arguments=SEEDS),
    (BAYESIAN, "test_bayesian_mixture_fit_predict_n_init"): Run(),
    (BAYESIAN, "test_bayesian_mixture_predict_predict_proba"): Run(types=("full", "tied")),
    (GAUSSIAN, "test_gaussian_mixture_attributes"): Run(),
    (GAUSSIAN, "test_gaussian_mixture_estimate_log_prob_resp"): Run(types=("full", "tied")),
    (GAUSSIAN, "test_gaussian_mixture_predict_predict_proba"): Run(types=("full", "tied")),
    (GAUSSIAN, "test_gaussian_mixture_fit_predict"): Run(
        arguments=tuple({**seed, "global_dtype": one} for seed in SEEDS for one in DTYPES),
        types=("full", "tied"),
    ),
    (GAUSSIAN, "test_gaussian_mixture_fit_predict_n_init"): Run(),
    (GAUSSIAN, "test_gaussian_mixture_fit_best_params"): Run(types=("full", "tied")),
    (GAUSSIAN, "test_gaussian_mixture_fit_convergence_warning"): Run(types=("full", "tied")),
    (GAUSSIAN, "test_gaussian_mixture_n_parameters"): Run(types=("full", "tied")),
    (GAUSSIAN, "test_bic_1d_1component"): Run(),
    (GAUSSIAN, "test_gaussian_mixture_aic_bic"): Run(types=("full",)),
    (GAUSSIAN, "test_gaussian_mixture_verbose"): Run(types=("full", "tied")),
    (GAUSSIAN, "test_warm_start"): Run(arguments=each(seed=(0, 1, 2))),
    (GAUSSIAN, "test_convergence_detected_with_warm_start"): Run(),
    (GAUSSIAN, "test_score_samples"): Run(),
    (GAUSSIAN, "test_fitted_precision_covariance_concistency"): Run(
        arguments=each(covar_type=("full", "tied"), global_dtype=DTYPES)
    ),
    (GAUSSIAN, "test_init"): Run(),
    (GAUSSIAN, "test_init_means_not_duplicated"): Run(
        arguments=each(init_params=INITS, global_random_seed=(42,))
    ),
    (GAUSSIAN, "test_means_for_all_inits"): Run(
        arguments=each(init_params=INITS, global_random_seed=(42,), global_dtype=DTYPES)
    ),
    (GAUSSIAN, "test_gaussian_mixture_single_component_stable"): Run(),
    (BOTH, "test_gaussian_mixture_n_iter"): Run(arguments=({"estimator": BayesianGaussianMixture()},)),
    (BOTH, "test_mixture_n_components_greater_than_n_samples_error"): Run(
        arguments=({"estimator": BayesianGaussianMixture()},)
    ),
}

PRIVATE = "tests functions or methods of scikit-learn's own that are private"
ARRAYS = "array API inputs: attributes are NumPy arrays here, as the estimator's tags say"
EM_START = "precisions and weights cannot be given as a start: they follow from where the means are"
REASONS: dict[tuple[str, str], str] = {
    (BAYESIAN, "test_log_dirichlet_norm"): PRIVATE,
    (BAYESIAN, "test_log_wishart_norm"): PRIVATE,
    (BAYESIAN, "test_compare_covar_type"): PRIVATE,
    (BAYESIAN, "test_bayesian_mixture_mean_prior_initialisation"): "asserts a default mean_precision_prior "
    "of 1; ours is 0.01 (docs/sklearn.md). Given values: test_priors.py",
    (BAYESIAN, "test_bayesian_mixture_precisions_prior_initialisation"): "asserts that the default "
    "covariance_prior is np.cov(X), whatever n_components; ours is divided by n_components^(2 / n_features) "
    "(docs/sklearn.md). Given values: test_priors.py",
    (GAUSSIAN, "test_suffstat_sk_full"): PRIVATE,
    (GAUSSIAN, "test_suffstat_sk_tied"): PRIVATE,
    (GAUSSIAN, "test_suffstat_sk_diag"): PRIVATE,
    (GAUSSIAN, "test_gaussian_suffstat_sk_spherical"): PRIVATE,
    (GAUSSIAN, "test_compute_log_det_cholesky"): PRIVATE,
    (GAUSSIAN, "test_gaussian_mixture_log_probabilities"): PRIVATE,
    (GAUSSIAN, "test_gaussian_mixture_precisions_init"): PRIVATE,
    (
        GAUSSIAN,
        "test_gaussian_mixture_all_init_does_not_estimate_gaussian_parameters",
    ): "counts the calls of a private function of scikit-learn",
    (GAUSSIAN, "test_check_weights"): EM_START,
    (GAUSSIAN, "test_check_means"): "the message of a wrong start is the engine's",
    (GAUSSIAN, "test_check_precisions"): EM_START,
    (GAUSSIAN, "test_gaussian_mixture_setting_best_params"): EM_START,
    (GAUSSIAN, "test_gaussian_mixture_precisions_init_diag"): EM_START,
    (GAUSSIAN, "test_max_iter_zero"): "means that start a fit divide the rows; they are not a posterior",
    (GAUSSIAN, "test_gaussian_mixture_fit"): "200 rows say precisions to 15 %, as EM does; a posterior also "
    "knows its prior, which follows the data's spread, 50 times that of a cluster here",
    (GAUSSIAN, "test_multiple_init"): "asks that the best of several starts has the higher likelihood; it "
    "has the higher bound, which test_init asks",
    (GAUSSIAN, "test_monotonic_likelihood"): "the likelihood of EM; ours is the bound, in the Bayesian test "
    "of this name",
    (GAUSSIAN, "test_score"): "asks that one iteration scores worse than many; the start is the winner of a "
    "contest that has iterated before",
    (GAUSSIAN, "test_regularisation"): "asks that collapsed rows fail without reg_covar; the prior keeps "
    "covariances away from zero, so that nothing fails (test_estimator.py)",
    (GAUSSIAN, "test_sample"): "asks that samples vary like covariances_; those of a predictive distribution "
    "vary more, because parameters are not known (test_estimator.py)",
    (GAUSSIAN, "test_gaussian_mixture_array_api_compliance"): ARRAYS,
    (GAUSSIAN, "test_gaussian_mixture_raises_where_array_api_not_implemented"): ARRAYS,
}


def test_every_test_of_scikit_learn_is_in_a_table():
    there = {
        (module, name)
        for module in (BAYESIAN, GAUSSIAN, BOTH)
        for name in vars(importlib.import_module(module))
        if name.startswith("test_")
    }
    assert RUNS.keys() | REASONS.keys() == there
    assert not RUNS.keys() & REASONS.keys()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("module", "name"), RUNS, ids=lambda value: value.rsplit(".")[-1])
def test_of_scikit_learn(module, name, monkeypatch):
    found, run = importlib.import_module(module), RUNS[module, name]
    for ours in (GaussianMixture, BayesianGaussianMixture):
        if hasattr(found, ours.__name__):
            monkeypatch.setattr(found, ours.__name__, ours)
    for there in (found, importlib.import_module(GAUSSIAN)):
        if hasattr(there, "COVARIANCE_TYPE"):
            monkeypatch.setattr(there, "COVARIANCE_TYPE", list(run.types))
    for arguments in run.arguments:
        getattr(found, name)(**arguments)
