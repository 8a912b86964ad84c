"""Pictures of fits and posteriors: what is drawn is what the posterior says, read back from the axes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from tests.posterior.conftest import make_data, make_posterior
from vigmm import plot
from vigmm.core import rng
from vigmm.core.errors import DataError, SpecError
from vigmm.core.outcome import Outcome, Status
from vigmm.data.arrays import ArraySource
from vigmm.fitted import Fit
from vigmm.math.partitions import adjusted_rand
from vigmm.plot.rows import ellipse
from vigmm.posterior import ElboReport
from vigmm.posterior.replicates import replicated

X, LABELS = make_data()


@pytest.fixture(scope="module")
def posterior():
    return make_posterior(X, LABELS)


def fit_of(posterior, elbo=-1200.0, se=3.0):
    """A fit as `vigmm.fit` leaves it, without the fit."""
    metrics = {"step": np.arange(8), "elbo_per_row": np.linspace(-9.0, -5.0, 8)}
    report = ElboReport(elbo=elbo, se=se, per_row=elbo / len(X), terms={}, num_samples=1)
    return Fit(
        posterior=posterior,
        outcome=Outcome(Status.CONVERGED, 8, ""),
        elbo=report,
        holdout=None,
        metrics=metrics,
        manifest={"data": {"rows": len(X), "train_rows": 240}, "train": {"batch_size": 60}},
        data=ArraySource(X, columns=("a", "b")),
        context=None,
    )


def points(ax):
    return np.asarray(next(c for c in ax.collections if isinstance(c, PathCollection)).get_offsets())


def corners(patch):
    return patch.get_path().vertices[:-1]


def test_an_ellipse_of_columns_in_very_different_units():
    """No angle could tell 1e-9 by 1e14 at a correlation of 0.6 from a line."""
    (ax,) = plot.style.panels(width=4, height=4)
    ellipse(ax, np.array([3e-9, 2e15]), np.array([[1e-18, 0.6e5], [0.6e5, 1e28]]), "black")
    outline = (corners(ax.patches[-1]) - [3e-9, 2e15]) / [1e-9, 1e14] / np.sqrt(-2 * np.log(0.1))
    np.testing.assert_allclose(np.abs(outline).max(axis=0), 1.0, rtol=1e-3)
    assert np.corrcoef(outline.T)[0, 1] == pytest.approx(0.6)


def test_the_trace_of_a_fit_counts_its_passes(posterior):
    (ax,) = plot.trace(fit_of(posterior))
    # 240 rows in batches of 60: four steps are a pass.
    np.testing.assert_allclose(ax.lines[0].get_xdata(), np.arange(1, 9) / 4)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.linspace(-9.0, -5.0, 8))


def test_a_flat_trace_is_flat():
    """Rounding must not fill the height."""
    (ax,) = plot.trace({"step": np.arange(20), "elbo_per_row": -2.0 + 1e-7 * (np.arange(20) % 2)})
    low, high = ax.get_ylim()
    assert high - low >= 0.02
    assert low < -2.0 < high


@pytest.mark.parametrize("whole", [True, False])
def test_weights_are_those_of_the_summary(posterior, whole):
    summary = posterior.summary(level=0.5)
    ax = plot.weights(fit_of(posterior), level=0.5) if whole else plot.weights(summary)
    heights = [bar.get_height() for bar in ax.containers[0]]
    np.testing.assert_allclose(heights, 100 * summary.weight.mean)
    low, high = np.array([segment[:, 1] for segment in ax.collections[0].get_segments()]).T
    np.testing.assert_allclose(low, 100 * summary.weight.low)
    np.testing.assert_allclose(high, 100 * summary.weight.high)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [str(k) for k in summary.component]
    assert any("50% credible" in text.get_text() for text in ax.texts)


def test_ellipses_of_a_fit(posterior):
    ax = plot.ellipses(fit_of(posterior))
    np.testing.assert_allclose(np.sort(points(ax), axis=0), np.sort(X, axis=0), rtol=1e-6)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")
    centres = {tuple(np.round(corners(patch).mean(axis=0), 6)) for patch in ax.patches}
    assert centres == {tuple(np.round(mean, 6)) for mean in posterior.means}
    turned = plot.ellipses(posterior, X, columns=("b", "a"))
    np.testing.assert_allclose(np.sort(points(turned), axis=0), np.sort(X[:, ::-1], axis=0), rtol=1e-6)
    assert (turned.get_xlabel(), turned.get_ylabel()) == ("b", "a")


def test_pairs(posterior):
    axes = plot.pairs(posterior, X)
    assert len(axes) == 4
    assert not axes[1].axison
    below = axes[2]
    np.testing.assert_allclose(np.sort(points(below), axis=0), np.sort(X, axis=0), rtol=1e-6)
    assert (below.get_xlabel(), below.get_ylabel()) == ("a", "b")
    # Each ellipse is that of the covariance: every corner is sqrt(-2 log 0.1) sds from the mean.
    patch = next(p for p in below.patches if np.allclose(corners(p).mean(axis=0), posterior.means[0]))
    away = corners(patch) - posterior.means[0]
    square = np.sum(away * np.linalg.solve(posterior.covariances[0], away.T).T, axis=1)
    np.testing.assert_allclose(square, -2 * np.log(0.1), rtol=1e-6)
    # On the diagonal the components' densities: the highest point of the first is w / sqrt(2 pi v).
    curve = next(line for line in axes[3].lines if line.get_label() == "component 0")
    top = posterior.weights[0] / np.sqrt(2 * np.pi * posterior.covariances[0, 1, 1])
    assert curve.get_ydata().max() == pytest.approx(top, rel=1e-3)
    (alone,) = plot.pairs(posterior, X, columns=["b"])
    assert alone.get_xlabel() == "b"


def test_responsibilities(posterior):
    ax = plot.responsibilities(posterior, X)
    drawn = np.asarray(ax.images[0].get_array())
    order = np.argsort(-posterior.weights, kind="stable")
    shares = posterior.responsibilities(X)
    assert drawn.shape == (3, len(X))
    np.testing.assert_allclose(np.sort(drawn, axis=1), np.sort(shares[:, order].T, axis=1))
    np.testing.assert_allclose(drawn.sum(axis=0), 1.0, rtol=1e-5)
    best = drawn.argmax(axis=0)
    assert (np.diff(best) >= 0).all()
    for k in range(3):
        assert (np.diff(drawn[k, best == k]) <= 0).all()
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [str(k) for k in order]


@pytest.mark.slow
def test_rows_of_the_noise_have_a_line_and_a_colour(posterior, student_posterior):
    far = np.concatenate([X, X[:3] + np.array([400.0, 0.0])])
    ax = plot.responsibilities(student_posterior, far)
    assert [tick.get_text() for tick in ax.get_yticklabels()][-1] == "noise"
    assert np.asarray(ax.images[0].get_array())[-1, -3:].min() > 0.5
    from matplotlib.colors import to_rgba

    cloud = plot.ellipses(student_posterior, far).collections[0]
    at = np.argsort(np.asarray(cloud.get_offsets())[:, 0])[-3:]
    for colour in cloud.get_facecolors()[at]:
        assert tuple(colour[:3]) == to_rgba(plot.style.FAINT)[:3]


@pytest.fixture(scope="module")
def student_posterior():
    """A posterior with a noise component (see tests/interop)."""
    import jax

    from vigmm.families import MeanField, guess
    from vigmm.models import DataScale, Mixture
    from vigmm.models.mixture import Noise

    model, family = Mixture(num_components=3, noise=Noise()), MeanField()
    near = make_posterior(X, LABELS, model=model.surrogate, dtype="float64")
    units = DataScale(mean=X.mean(axis=0), cov=np.cov(X.T, ddof=0), center=near.center, scale=near.scale)
    with jax.enable_x64(True):
        prior = model.build_prior(units, dtype=np.float64)
        params = family.init(model, guess(model, prior, near.params, near.prior))
    return dataclasses.replace(near, model=model, family=family, params=params, prior=prior)


def test_the_predictive_check_draws_data_and_replicates(posterior):
    axes = plot.predictive_check(posterior, X, replicates=50, level=0.8, seed=4)
    assert [ax.get_xlabel() for ax in axes] == ["a", "b"]
    key = rng.stream(rng.root_key(4), "check")
    again = np.stack(
        list(replicated(posterior, posterior.draw(key, 50), len(X), rng.on_host(rng.stream(key, "rows"))))
    )
    for d, ax in enumerate(axes):
        data = next(patch for patch in ax.patches if patch.get_label() == "data")
        values, edges, _ = data.get_data()
        assert np.sum(values * np.diff(edges)) == pytest.approx(1.0)
        np.testing.assert_allclose(
            values * np.diff(edges) * len(X), np.histogram(X[:, d], edges)[0], atol=1e-6
        )
        counts = np.stack([np.histogram(one[:, d], edges)[0] for one in again]) / len(X) / np.diff(edges)
        low, high = np.quantile(counts, [0.1, 0.9], axis=0)
        band = ax.collections[0].get_paths()[0].vertices[:, 1]
        assert band.max() == pytest.approx(high.max())
        inside = band[(band > 0)]
        assert set(np.round(low[low > 0], 6)) <= set(np.round(inside, 6))
    told = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert told[0] == "80% of 50 replicates"


def test_the_check_sees_what_is_wrong(posterior):
    """Data pushed together leave the band, data of the model hardly do."""

    def outside(x):
        ax = plot.predictive_check(posterior, x)[0]
        values, edges, _ = next(p for p in ax.patches if p.get_label() == "data").get_data()
        band = ax.collections[0].get_paths()[0]
        middle = (edges[1:] + edges[:-1]) / 2
        width = np.diff(edges)[0]
        return np.mean(
            [
                not band.contains_point((m, v + 1e-9), radius=1e-3 * width)
                for m, v in zip(middle, values, strict=True)
                if v > 0
            ]
        )

    good, _ = posterior.sample(rng.root_key(1), 400)
    assert outside(good) < 0.35
    assert outside(good.mean(axis=0) + 0.3 * (good - good.mean(axis=0))) > 0.6


def test_restarts(posterior):
    other = make_posterior(X, np.where(LABELS == 2, 1, LABELS), seed=5)
    fits = [fit_of(posterior), fit_of(posterior, -1190.0), fit_of(other, -1400.0)]
    left, right = plot.restarts(fits)
    np.testing.assert_allclose(points(left)[:, 0], [-1200 / 240, -1190 / 240, -1400 / 240])
    spans = np.array([np.ptp(segment[:, 0]) for segment in left.collections[0].get_segments()])
    np.testing.assert_allclose(spans, 2 * 5 * 3.0 / 240)
    index = np.asarray(right.images[0].get_array())
    expected = adjusted_rand(posterior.predict(X), other.predict(X))
    assert expected < 0.9
    np.testing.assert_allclose(index, [[1, 1, expected], [1, 1, expected], [expected, expected, 1]])
    assert any("fit 1 is best" in text.get_text() for text in left.texts)


def test_axes_of_the_caller_are_used(posterior):
    fits = [fit_of(posterior), fit_of(posterior)]

    def new(count):
        return list(Figure().subplots(1, count, squeeze=False).ravel())

    for draw in (plot.weights, lambda fit, ax: plot.ellipses(fit, ax=ax), plot.responsibilities):
        (ax,) = new(1)
        assert draw(fits[0], ax=ax) is ax
    for count, draw in (
        (1, lambda axes: plot.trace(fits[0], axes=axes)),
        (1, lambda axes: plot.predictive_check(posterior, X, columns=["b"], replicates=5, axes=axes)),
        (2, lambda axes: plot.restarts(fits, axes=axes)),
        (4, lambda axes: plot.pairs(posterior, X, axes=axes)),
    ):
        axes = new(count)
        assert draw(axes) == axes
        assert all(ax.has_data() or not ax.axison for ax in axes)


def test_refusals(posterior):
    with pytest.raises(DataError, match="a posterior does not keep the rows"):
        plot.pairs(posterior)
    with pytest.raises(SpecError, match=r"source must be a vigmm\.Fit or a vigmm.Posterior"):
        plot.responsibilities(X)
    with pytest.raises(DataError, match="the model has no column 'c'"):
        plot.predictive_check(posterior, X, columns=["c"])
    with pytest.raises(SpecError, match=r"fits must be at least two vigmm\.Fit"):
        plot.restarts([fit_of(posterior)])
    with pytest.raises(SpecError, match="axes must be 4 axes, for 2 columns"):
        plot.pairs(posterior, X, axes=[None])
    with pytest.raises(SpecError, match="columns must be two names"):
        plot.ellipses(posterior, X, columns=("a",))
