"""The estimator: what its attributes and methods promise, beyond what scikit-learn's own tests ask."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import jax
import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

import vigmm
from vigmm import KMeansStart, LabelsStart, MeansStart, Moves, Outcome, Status
from vigmm.core.errors import ConfigError, DataError
from vigmm.data.arrays import ArraySource
from vigmm.sklearn import BayesianGaussianMixture
from vigmm.sklearn import estimator as module
from vigmm.sklearn.choices import Choices
from vigmm.sklearn.padding import Padded


def test_attributes_are_those_of_the_posterior(fitted, clusters):
    posterior = fitted.posterior_
    # Averages of 1,000 draws, exact values here: 5 standard errors, from the draws' own sds.
    assert np.abs(fitted.weights_ - posterior.weights).max() < 5 * 0.5 / np.sqrt(250 * 1000)
    assert np.abs(fitted.means_ - posterior.means).max() < 5 * 2.5 / np.sqrt(45 * 1000)
    np.testing.assert_allclose(
        fitted.covariances_ @ fitted.precisions_, np.eye(2)[None].repeat(3, 0), atol=1e-9
    )
    root = fitted.precisions_cholesky_
    np.testing.assert_allclose(root @ root.swapaxes(1, 2), fitted.precisions_, rtol=1e-9)
    assert np.all(np.tril(root, -1) == 0)
    np.testing.assert_array_equal(fitted.predict_proba(clusters), posterior.responsibilities(clusters))
    np.testing.assert_array_equal(fitted.predict(clusters), posterior.predict(clusters))
    np.testing.assert_array_equal(fitted.score_samples(clusters), posterior.log_predictive(clusters))
    assert fitted.score(clusters) == pytest.approx(fitted.score_samples(clusters).mean())
    assert sorted(np.bincount(fitted.predict(clusters)).tolist()) == [45, 80, 125]


def test_the_bound_is_the_engines_and_rises(fitted):
    assert fitted.converged_
    assert fitted.lower_bound_ == fitted.fit_.elbo.elbo == fitted.lower_bounds_[-1]
    assert len(fitted.lower_bounds_) == fitted.n_iter_
    assert np.diff(fitted.lower_bounds_).min() > -1e-9 * abs(fitted.lower_bound_)
    assert fitted.n_samples_seen_ == 250.0


def test_the_sticks_give_the_weights(fitted):
    a, b = fitted.weight_concentration_
    share = a / (a + b)
    left = np.concatenate([[1.0], np.cumprod(1 - share)[:-1]])
    np.testing.assert_allclose(share * left, fitted.weights_, rtol=1e-12)


def test_criteria(fitted, clusters):
    deviance = -2 * fitted.score_samples(clusters).sum()
    # Two weights, three means of two columns, three matrices of three numbers.
    assert fitted.aic(clusters) == pytest.approx(deviance + 2 * 17)
    assert fitted.bic(clusters) == pytest.approx(deviance + 17 * np.log(250))


def test_weighted_scores(fitted, clusters):
    weight = np.r_[np.ones(150), np.zeros(100)]
    assert fitted.score(clusters, sample_weight=weight) == pytest.approx(fitted.score(clusters[:150]))


def test_copies_predict_the_same(fitted, clusters):
    assert not jax.config.jax_enable_x64
    expected = fitted.score_samples(clusters)
    assert expected.dtype == np.float64
    for other in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(other.score_samples(clusters), expected)
        assert not hasattr(other, "fit_")
    assert hasattr(fitted, "fit_")
    assert not hasattr(clone(fitted), "posterior_")


def test_a_saved_posterior_predicts_the_same(fitted, clusters, tmp_path):
    fitted.posterior_.save(tmp_path / "model")
    again = vigmm.load(tmp_path / "model")
    np.testing.assert_array_equal(again.log_predictive(clusters), fitted.score_samples(clusters))


def test_specs_as_parameters_are_cloned():
    made = BayesianGaussianMixture(
        init_params=KMeansStart(restarts=2), moves=Moves(), covariance_prior=np.eye(2)
    )
    again = clone(made)
    assert again.init_params == made.init_params
    assert again.moves == made.moves


@pytest.mark.slow
def test_single_precision_rows_stay_single(clusters):
    found = BayesianGaussianMixture(n_components=3, random_state=0).fit(clusters.astype(np.float32))
    for name in ("means_", "weights_", "covariances_", "precisions_", "precisions_cholesky_"):
        assert getattr(found, name).dtype == np.float32, name
    assert found.posterior_.dtype == "float32"
    assert found.score_samples(clusters.astype(np.float32)).dtype == np.float32


def test_new_rows_have_the_predictive_distribution(fitted):
    rows, labels = fitted.sample(20_000)
    assert rows.shape == (20_000, 2)
    again, _ = fitted.sample(20_000)
    np.testing.assert_array_equal(rows, again)
    kappa, dof = fitted.mean_precision_, fitted.degrees_of_freedom_
    # A Student t with dof - D + 1 degrees of freedom: its covariance is wider than covariances_.
    wider = (kappa + 1) / kappa * dof / (dof - 3)
    for k in range(3):
        chosen = rows[labels == k]
        expected = wider[k] * fitted.covariances_[k]
        sd = np.sqrt(np.diag(expected))
        # 1,024 draws of the parameters are shared by all rows.
        error = np.sqrt(2 / len(chosen) + 4 / (dof[k] * 1024 * fitted.weights_[k]))
        assert np.abs((np.cov(chosen.T) - expected) / np.outer(sd, sd)).max() < 5 * error
        assert np.abs((chosen.mean(axis=0) - fitted.means_[k]) / sd).max() < 5 / np.sqrt(
            len(chosen)
        ) + 5 / np.sqrt(kappa[k] * 1024 * fitted.weights_[k])
    with pytest.raises(ConfigError, match="Invalid value for 'n_samples': 0"):
        fitted.sample(0)


def test_weights_count_as_repeated_rows(clusters, fitted):
    """From one start: which rows are seeds depends on how they lie."""
    draw = np.random.default_rng(3)
    times = draw.integers(0, 3, size=len(clusters))
    start = MeansStart(means=fitted.means_)
    made = BayesianGaussianMixture(n_components=3, init_params=start)
    weighted = clone(made).fit(clusters, sample_weight=times)
    repeated = clone(made).fit(np.repeat(clusters, times, axis=0))
    for name in ("weights_", "means_", "covariances_", "mean_precision_", "lower_bound_"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-9, err_msg=name)
    assert weighted.n_samples_seen_ == times.sum()


def test_a_labels_start_may_be_given(clusters, fitted):
    labels = fitted.predict(clusters)
    found = BayesianGaussianMixture(n_components=3, init_params=LabelsStart(labels=labels)).fit(clusters)
    assert found.lower_bound_ == pytest.approx(fitted.lower_bound_, rel=1e-9)


def test_labels_in_a_file_are_those_of_the_rows_that_were_given(clusters, fitted, tmp_path):
    """Rows are filled up to one of a few lengths, of which a file of labels knows nothing."""
    labels = fitted.predict(clusters)
    np.save(tmp_path / "labels.npy", labels[:, None])
    start = LabelsStart(path=str(tmp_path / "labels.npy"))
    found = BayesianGaussianMixture(n_components=3, init_params=start).fit(clusters)
    assert found.lower_bound_ == pytest.approx(fitted.lower_bound_, rel=1e-9)
    with pytest.raises(DataError, match="there are 240 labels for 250 rows; give one for each row"):
        BayesianGaussianMixture(n_components=3, init_params=LabelsStart(labels=labels[:240])).fit(clusters)
    np.save(tmp_path / "labels.npy", clusters)
    with pytest.raises(DataError, match=r"labels\.npy has 2 columns; labels are one column"):
        BayesianGaussianMixture(n_components=3, init_params=start).fit(clusters)


@pytest.mark.parametrize(
    ("moves", "rows", "components", "fresh", "expected"),
    [
        ("auto", 50_000, 3, True, Moves(rows=20_000, keep=True)),
        ("auto", 49_999, 3, True, None),
        ("auto", 50_000, 1, True, None),
        ("auto", 50_000, 3, False, None),
        # A weight, a mean and a variance for each, less one weight: ten rows for every one of them.
        ("auto", 60_000, 2_000, True, Moves(rows=59_990, keep=True)),
        ("auto", 59_989, 2_000, True, None),
        ("auto", 300_000, 10_000, True, Moves(rows=200_000, keep=True)),
        (True, 100, 3, True, Moves(keep=True)),
        (Moves(rounds=2), 100, 3, True, Moves(rounds=2, keep=True)),
        (False, 50_000, 3, True, None),
        (None, 50_000, 3, True, None),
    ],
)
def test_when_components_are_searched_for(moves, rows, components, fresh, expected):
    made = BayesianGaussianMixture(n_components=components, moves=moves)
    source = Padded(ArraySource(np.zeros((rows, 1))))
    found = Choices.of(made.get_params(), source, fresh=fresh)
    assert found.moves == expected
    assert found.still().moves is None


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_warm_start_goes_on_where_the_last_fit_ended():
    rows = np.random.default_rng(1).uniform(size=(250, 2))
    whole = BayesianGaussianMixture(n_components=3, random_state=0, max_iter=6, tol=0).fit(rows)
    parts = BayesianGaussianMixture(n_components=3, random_state=0, max_iter=2, tol=0, warm_start=True)
    bounds = [bound for _ in range(3) for bound in parts.fit(rows).lower_bounds_]
    np.testing.assert_array_equal(parts.means_, whole.means_)
    np.testing.assert_allclose(bounds, whole.lower_bounds_, rtol=1e-12)
    # Other rows have other units: they are divided by the old posterior.
    assert parts.fit(rows[:200] * 3).fit_.manifest["notes"]["start"]["held"] == pytest.approx(1)


def test_no_iterations_leave_the_start(clusters):
    start = LabelsStart(labels=np.arange(250) % 3)
    found = BayesianGaussianMixture(n_components=3, init_params=start, max_iter=0).fit(clusters)
    assert (found.n_iter_, found.converged_, found.lower_bounds_) == (0, False, [])
    means = np.sort([clusters[k::3].mean(axis=0)[0] for k in range(3)])
    # A weight of 0.01 rows for the prior's mean.
    np.testing.assert_allclose(np.sort(found.means_[:, 0]), means, rtol=1e-2)


def test_a_fit_that_is_not_over_warns(clusters):
    with pytest.warns(ConvergenceWarning, match="did not converge.*The engine says: did its 1 passes"):
        BayesianGaussianMixture(n_components=3, random_state=0, max_iter=1).fit(clusters)


def test_rows_without_spread_are_fitted():
    rows = np.repeat([[0.0, 0.0], [1.0, 1.0]], 5, axis=0)
    found = BayesianGaussianMixture(n_components=3, random_state=0, tol=1e-3).fit(rows)
    assert np.isfinite(found.lower_bound_)
    assert len(set(found.predict(rows)[:5])) == len(set(found.predict(rows)[5:])) == 1


@pytest.mark.slow
def test_balls_are_balls_in_the_units_of_the_rows(clusters):
    """The density of spherical components does not care how the axes are turned, whatever their scales."""
    stretched = clusters * [1.0, 10.0]
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    start = LabelsStart(labels=(stretched[:, 1] > 200).astype(int))
    made = BayesianGaussianMixture(
        n_components=2, covariance_type="spherical", init_params=start, mean_prior=[0, 0]
    )
    plain, turned = clone(made).fit(stretched), clone(made).fit(stretched @ turn)
    np.testing.assert_allclose(plain.covariances_, turned.covariances_, rtol=1e-9)
    np.testing.assert_allclose(
        plain.score_samples(stretched), turned.score_samples(stretched @ turn), rtol=1e-9
    )


def test_verbose_says_what_happens(clusters, capsys):
    BayesianGaussianMixture(n_components=3, random_state=0, verbose=2).fit(clusters)
    out = capsys.readouterr().out
    assert "Initialization 0\n" in out
    assert "  Iteration 10\t time lapse" in out
    assert "Initialization converged. time lapse" in out


def test_names_of_soft_labels(fitted, clusters):
    expected = [f"bayesiangaussianmixture{k}" for k in range(3)]
    assert fitted.get_feature_names_out().tolist() == expected
    np.testing.assert_array_equal(fitted.transform(clusters), fitted.predict_proba(clusters))


def test_a_stopped_fit_keeps_its_model_and_stops_its_caller(clusters, monkeypatch):
    def stopped(*args, **kwargs):
        found = original(*args, **kwargs)
        outcome = Outcome(Status.INTERRUPTED, found.fit.outcome.step, "stopped by hand")
        return dataclasses.replace(found, fit=dataclasses.replace(found.fit, outcome=outcome))

    original = module.train_once
    monkeypatch.setattr(module, "train_once", stopped)
    made = BayesianGaussianMixture(n_components=3, random_state=0, n_init=5)
    with pytest.raises(KeyboardInterrupt, match="stopped by hand"):
        made.fit(clusters)
    assert made.predict(clusters).shape == (250,)


def test_parameters_are_validated_as_in_scikit_learn(clusters):
    with pytest.raises(
        ValueError, match="The 'covariance_type' parameter of BayesianGaussianMixture must be"
    ):
        BayesianGaussianMixture(covariance_type="round").fit(clusters)
    with pytest.raises(ValueError, match="The 'family' parameter"):
        BayesianGaussianMixture(family="gauss").fit(clusters)


@pytest.mark.slow
def test_moves_find_the_number_and_all_components_are_there(clusters):
    found = BayesianGaussianMixture(n_components=8, moves=True, random_state=0).fit(clusters)
    assert found.weights_.shape == (8,)
    assert found.means_.shape == (8, 2)
    assert np.sort(found.mean_precision_)[::-1][:3] == pytest.approx([125.01, 80.01, 45.01], abs=1e-3)
    assert found.fit_.manifest["notes"]["moves"]["components"] == 3
    # What is not needed is as before data: the prior's mean, and next to no weight.
    assert np.sum(found.weights_[3:]) < 1e-2
    np.testing.assert_allclose(found.means_[3:], np.tile(clusters.mean(axis=0), (5, 1)), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_other_families_and_minibatches(clusters):
    made = BayesianGaussianMixture(
        n_components=3, family="meanfield", batch_size=64, random_state=0, max_iter=5
    )
    found = made.fit(clusters)
    assert sorted(np.bincount(found.predict(clusters)).tolist()) == [45, 80, 125]
    assert found.covariances_.shape == (3, 2, 2)
    np.testing.assert_allclose(
        found.covariances_ @ found.precisions_, np.eye(2)[None].repeat(3, 0), atol=1e-9
    )
    assert len(found.lower_bounds_) == found.n_iter_
    assert not hasattr(found, "mean_precision_")
    small = BayesianGaussianMixture(n_components=3, batch_size=64, random_state=0, max_iter=40).fit(clusters)
    assert hasattr(small, "mean_precision_")
    assert not hasattr(small.set_params(family="meanfield", max_iter=5).fit(clusters), "mean_precision_")
    small.set_params(family="conjugate", max_iter=40).fit(clusters)
    assert len(small.lower_bounds_) == small.n_iter_ <= 40
    assert sorted(np.bincount(small.predict(clusters)).tolist()) == [45, 80, 125]
