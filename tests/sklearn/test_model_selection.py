"""Pipelines, searches and routing; folds of different length share compiled programs."""

from __future__ import annotations

import jax
import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from vigmm.sklearn import BayesianGaussianMixture

_compiled: list[str] = []


@pytest.fixture
def compiled(monkeypatch):
    """Programs that are compiled from here on; the listener stays, since JAX has no way to take one off."""
    if not _listening:
        jax.monitoring.register_event_duration_secs_listener(
            lambda event, seconds, **_: (
                _compiled.append(event) if event.endswith("backend_compile_duration") else None
            )
        )
        _listening.append(True)
    _compiled.clear()
    return _compiled


_listening: list[bool] = []


def folds(clusters, lengths):
    """Training rows of these lengths, tested on the rest."""
    draw = np.random.default_rng(0)
    orders = [draw.permutation(len(clusters)) for _ in lengths]
    return [(order[:n], order[n:]) for n, order in zip(lengths, orders, strict=True)]


def test_folds_compile_nothing_new(clusters, compiled):
    made = BayesianGaussianMixture(n_components=3, random_state=0)
    first = cross_val_score(made, clusters, cv=folds(clusters, [200]))
    assert np.isfinite(first).all()
    # The listener hears: a new function is a new program.
    some = len(compiled)
    jax.jit(lambda value: value + 1)(1.0)
    assert len(compiled) == some + 1
    compiled.clear()
    search = GridSearchCV(
        made,
        {"tol": [1e-5, 1e-4], "random_state": [1, 2]},
        cv=folds(clusters, [190, 201, 222, 245]),
    )
    search.fit(clusters)
    assert compiled == []
    assert search.best_score_ > -10
    assert search.cv_results_["split3_test_score"].shape == (4,)


@pytest.mark.slow
def test_longer_folds_share_programs_too(compiled):
    rows = np.random.default_rng(2).normal(size=(600, 2))
    made = BayesianGaussianMixture(n_components=2, random_state=0, tol=1e-3)
    cross_val_score(made, rows, cv=folds(rows, [530]))
    compiled.clear()
    assert np.isfinite(cross_val_score(made, rows, cv=folds(rows, [513, 540, 561, 576]))).all()
    assert compiled == []


@pytest.mark.slow
def test_the_number_of_components_by_search(clusters):
    """Held-out predictive density finds three; more components do no harm to it."""
    pipe = make_pipeline(StandardScaler(), BayesianGaussianMixture(random_state=0))
    search = GridSearchCV(pipe, {"bayesiangaussianmixture__n_components": [1, 2, 3]}, cv=3).fit(clusters)
    assert search.best_params_ == {"bayesiangaussianmixture__n_components": 3}
    bounds = [
        BayesianGaussianMixture(n_components=k, random_state=0).fit(clusters).lower_bound_ for k in (1, 2, 3)
    ]
    assert np.argmax(bounds) == 2


def test_weights_are_routed_to_fit_and_score(clusters):
    weight = np.random.default_rng(0).integers(0, 3, size=250).astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        made = BayesianGaussianMixture(n_components=3, random_state=0)
        made = made.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(make_pipeline(made), {}, cv=[(np.arange(200), np.arange(200, 250))])
        search.fit(clusters, sample_weight=weight)
        assert made.get_metadata_routing().partial_fit.requests == {"sample_weight": None}
    best = search.best_estimator_[-1]
    assert best.n_samples_seen_ == weight.sum()
    plain = BayesianGaussianMixture(n_components=3, random_state=0).fit(
        clusters[:200], sample_weight=weight[:200]
    )
    expected = plain.score(clusters[200:], sample_weight=weight[200:])
    assert search.best_score_ == pytest.approx(expected)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_names_of_tables_come_in_and_go_out(clusters, library):
    frames = pytest.importorskip(library)
    table = frames.DataFrame({"width": clusters[:, 0], "height": clusters[:, 1]})
    made = BayesianGaussianMixture(n_components=3, random_state=0).set_output(transform=library)
    shares = made.fit_transform(table)
    assert made.feature_names_in_.tolist() == ["width", "height"]
    assert made.posterior_.columns == ("width", "height")
    assert isinstance(shares, frames.DataFrame)
    assert list(shares.columns) == [f"bayesiangaussianmixture{k}" for k in range(3)]
    with pytest.raises(ValueError, match="feature names"):
        made.predict(table[["height", "width"]])
