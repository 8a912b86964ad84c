"""`vigmm.fit` as a whole: answers in the data's units, repeatable, clear about bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

import vigmm
from vigmm.core.outcome import Status

TRAIN = vigmm.Train(batch_size=256, passes=3, min_steps=60, chunk_steps=20, holdout=0.1)
MODEL = vigmm.Mixture(num_components=3)


def two_clusters(n: int = 1000, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, 2)) + np.repeat([[0.0, 0.0], [8.0, 8.0]], n // 2, axis=0)


@pytest.fixture(scope="module", params=["conjugate", "meanfield"])
def fitted(request):
    from vigmm.families import FAMILIES

    rows = two_clusters() * [3.0, 0.01] + [1000.0, -7.0]
    return rows, vigmm.fit(rows, model=MODEL, family=FAMILIES[request.param](), train=TRAIN)


def test_a_fit_tells_how_it_ended_and_is_json_ready(fitted):
    rows, fit = fitted
    assert fit.outcome.ok
    assert fit.outcome.status in (Status.BUDGET, Status.CONVERGED)
    manifest = json.loads(json.dumps(fit.manifest))
    assert manifest["data"]["rows"] == len(rows)
    assert manifest["outcome"]["status"] == fit.outcome.status.value
    assert manifest["prior"]["mean"] == pytest.approx(rows.mean(0).tolist(), rel=1e-5)
    assert set(manifest["seconds"]) == {"read", "start", "search", "settle", "train", "evaluate"}


def test_clusters_are_found_and_everything_is_in_the_units_of_the_data(fitted):
    rows, fit = fitted
    labels = fit.posterior.predict(rows)
    truth = np.repeat([0, 1], 500)
    # Two of three components may share a cluster: every component must still be pure.
    for k in np.unique(labels):
        members = truth[labels == k]
        assert max(members.mean(), 1 - members.mean()) > 0.98
    heldout = fit.holdout[0]
    reference = np.logaddexp(
        *(
            stats.multivariate_normal(rows[truth == c].mean(0), np.cov(rows[truth == c].T)).logpdf(rows)
            + np.log(0.5)
            for c in (0, 1)
        )
    ).mean()
    # Within 0.1 nats and the held-out rows' own standard error of the true two-Gaussian density.
    assert heldout == pytest.approx(reference, abs=0.1 + 5 * fit.holdout[1])
    assert fit.elbo.per_row < fit.posterior.log_predictive(rows).mean()


def test_the_reported_bound_agrees_with_the_last_training_metric(fitted):
    _, fit = fitted
    last = fit.metrics["elbo_per_row"][-20:]
    spread = last.std() + 1e-4
    assert fit.elbo.per_row == pytest.approx(last.mean(), abs=6 * spread)
    assert fit.elbo.elbo == pytest.approx(sum(fit.elbo.terms.values()))


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not():
    rows = two_clusters()
    one, two = (vigmm.fit(rows, model=MODEL, train=TRAIN) for _ in range(2))
    other = vigmm.fit(rows, model=MODEL, train=TRAIN, seed=5)
    np.testing.assert_array_equal(one.metrics["elbo"], two.metrics["elbo"])
    np.testing.assert_array_equal(one.posterior.log_predictive(rows), two.posterior.log_predictive(rows))
    assert not np.array_equal(one.metrics["elbo"], other.metrics["elbo"])


@pytest.mark.slow
def test_rows_of_weight_zero_are_as_good_as_absent_and_weights_count_rows():
    rows = two_clusters()
    far = np.concatenate([rows, np.full((50, 2), 1e4)])
    full = vigmm.Train(batch_size=4096, min_steps=40, holdout=0, tolerance=0)
    weighted = vigmm.fit(
        far, model=MODEL, train=full, moves=None, sample_weight=np.r_[np.ones(1000), np.zeros(50)]
    )
    # Same number of rows, so the start sees the same arrays but for those of weight 0.
    assert np.abs(weighted.posterior.means).max() < 100
    assert weighted.elbo.per_row == pytest.approx(
        vigmm.fit(rows, model=MODEL, train=full, moves=None).elbo.per_row, abs=0.05
    )
    double = vigmm.fit(rows, model=MODEL, train=full, moves=None, sample_weight=np.full(1000, 2.0))
    assert double.elbo.elbo < 1.9 * weighted.elbo.elbo < 0


def test_a_full_batch_takes_whole_coordinate_steps():
    fit = vigmm.fit(two_clusters(), model=MODEL, train=vigmm.Train(batch_size=4096, min_steps=100, holdout=0))
    assert fit.manifest["optimizer"]["kind"] == "sgd"
    assert fit.outcome.status is Status.CONVERGED
    assert np.diff(fit.metrics["elbo"]).min() > -1e-2
    assert fit.holdout is None


@pytest.mark.slow
def test_float64_needs_no_global_setting():
    import jax

    fit = vigmm.fit(two_clusters(), model=MODEL, train=TRAIN, moves=None, dtype="float64")
    assert fit.posterior.params.weights.a.dtype == np.float64
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[1.0, 2.0], [np.nan, 3.0], [0.0, 1.0]], ["NaN", "row 1", "x0"]),
        ([[1.0, 2.0], [0.0, np.inf], [0.0, 1.0]], ["inf", "row 1", "x1"]),
        ([[1.0, 2.0]], ["1 row", "2"]),
        (np.empty((0, 2)), ["empty", "0 rows"]),
    ],
)
def test_bad_rows_are_named(rows, words):
    with pytest.raises(vigmm.DataError) as caught:
        vigmm.fit(np.asarray(rows))
    for word in words:
        assert word.lower() in str(caught.value).lower()


def test_choices_that_do_not_fit_together_are_refused_before_any_work():
    with pytest.raises(vigmm.SpecError, match="family"):
        vigmm.fit(two_clusters(), family=vigmm.MeanField(), estimator=vigmm.Natural())
    with pytest.raises(vigmm.SpecError, match="family"):
        vigmm.fit(two_clusters(), family=vigmm.Conjugate(), estimator=vigmm.Score())
    with pytest.raises(vigmm.SpecError, match="'fisher' for gradients of pseudo-counts"):
        vigmm.fit(two_clusters(), estimator=vigmm.Pathwise(), optimizer=vigmm.Adam())
    with pytest.raises(vigmm.SpecError, match="num_components must be >= 1, got 0"):
        vigmm.Mixture(num_components=0)
    with pytest.raises(vigmm.SpecError, match="mean must be 2 values"):
        vigmm.fit(two_clusters(), model=vigmm.Mixture(prior=vigmm.NormalWishart(mean=(0.0, 0.0, 0.0))))


@pytest.mark.slow
def test_more_components_than_rows_and_constant_columns_are_no_problem():
    rows = np.c_[two_clusters(10), np.full(10, 3.0)]
    fit = vigmm.fit(rows, model=vigmm.Mixture(num_components=15), train=vigmm.Train(holdout=0, min_steps=50))
    assert fit.outcome.ok
    assert np.isfinite(fit.elbo.elbo)
    assert np.isfinite(fit.posterior.responsibilities(rows)).all()
