"""Pictures say what they show, and draw for every shape of data."""

from __future__ import annotations

import builtins
import itertools
import struct

import numpy as np
import pytest

from vigmm import plot
from vigmm.core.errors import OutputError
from vigmm.plot.rows import _spread
from vigmm.plot.style import save
from vigmm.posterior.summary import Spread, Summary


def texts(ax):
    return [text.get_text() for text in ax.texts]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def cloud(rng, dim, k=4, n=500):
    means = 5 * rng.normal(size=(k, dim))
    labels = rng.integers(k, size=n)
    x = means[labels] + rng.normal(size=(n, dim))
    return {
        "x": x,
        "labels": labels,
        "means": means,
        "covariances": np.broadcast_to(np.eye(dim), (k, dim, dim)),
        "weights": np.bincount(labels, minlength=k) / n,
        "columns": [f"c{i}" for i in range(dim)],
    }


@pytest.mark.parametrize("dim", [1, 2, 3, 7])
def test_clusters(rng, dim, tmp_path):
    ax = plot.clusters(**cloud(rng, dim))
    save(ax, tmp_path / "x.png")
    width, height = struct.unpack(">II", (tmp_path / "x.png").read_bytes()[16:24])
    assert width > 800
    assert height > 500
    assert ax.get_xlabel()
    assert ax.get_ylabel()
    if dim == 1:
        assert ax.get_legend() is not None
    else:
        assert {"0", "1", "2", "3"} <= set(texts(ax))
        assert len(ax.collections[0].get_offsets()) == 500
    if dim > 2:
        assert "of the variance" in ax.get_xlabel()
    if dim == 2:
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("c0", "c1")


def test_many_rows_are_sampled(rng):
    data = cloud(rng, 2, n=30_000)
    ax = plot.clusters(**data)
    assert len(ax.collections[0].get_offsets()) == plot.MAX_POINTS
    assert any("20,000 of 30,000 rows" in text for text in texts(ax))


def test_empty_components_and_constant_columns_draw(rng):
    data = cloud(rng, 3)
    data["x"][:, 2] = 4.0
    data["weights"] = np.array([1.0, 0.0, 0.0, 0.0])
    ax = plot.clusters(**data)
    assert {"1", "2", "3"}.isdisjoint(texts(ax))


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_rows_with_holes_are_drawn_at_the_mean_of_their_component(rng, dim):
    data = cloud(rng, dim)
    gaps = rng.random(data["x"].shape) < 0.3
    ax = plot.clusters(**{**data, "x": np.where(gaps, np.nan, data["x"])})
    assert any("missing values at the mean of their component" in text for text in texts(ax))
    if dim > 1:
        assert np.isfinite(ax.collections[0].get_offsets()).all()
    if dim == 2:
        filled = np.where(gaps, data["means"][data["labels"]], data["x"])
        drawn = np.asarray(ax.collections[0].get_offsets())
        np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(filled, axis=0))


def test_the_ellipse_holds_what_it_says(rng):
    """Of a standard normal, 90% lie within the ellipse that is drawn for it."""
    x = rng.normal(size=(4000, 2)) @ np.array([[2.0, 0.0], [1.0, 0.5]])
    cov = np.array([[5.0, 0.5], [0.5, 0.25]])
    ax = plot.clusters(
        x,
        np.zeros(4000, int),
        means=np.zeros((1, 2)),
        covariances=cov[None],
        weights=np.ones(1),
        columns=["a", "b"],
    )
    patch = ax.patches[-1]
    inside = patch.get_path().contains_points(patch.get_patch_transform().inverted().transform(x))
    assert inside.mean() == pytest.approx(0.9, abs=5 * np.sqrt(0.09 / 4000))


def test_numbers_do_not_overlap(rng):
    spots = np.concatenate([0.5 + 0.01 * rng.normal(size=(30, 2)), np.full((3, 2), 0.2)])
    moved = _spread(spots)
    for a, b in itertools.combinations(moved, 2):
        assert abs(a[0] - b[0]) > 0.042 * 0.9 or abs(a[1] - b[1]) > 0.04 * 0.9
    far = np.array([[0.1, 0.1], [0.9, 0.9]])
    np.testing.assert_array_equal(_spread(far), far)


def test_trace():
    metrics = {
        "step": np.arange(40),
        "elbo_per_row": np.log1p(np.arange(40.0)),
        "chunk_step": np.array([20.0, 40.0]),
        "holdout": np.array([-1.0, -0.5]),
    }
    top, bottom = plot.trace(metrics, steps_per_pass=10)
    assert (top.get_ylabel(), bottom.get_xlabel()) == ("nats per row", "passes over the data")
    assert "−0.5000 at the end" in bottom.get_title(loc="left")
    assert bottom.lines[0].get_xdata().tolist() == [2.0, 4.0]


@pytest.mark.parametrize("holdout", [{}, {"chunk_step": np.array([2.0]), "holdout": np.array([np.nan])}])
def test_trace_of_one_step_without_held_out_rows(holdout, tmp_path):
    axes = plot.trace({"step": np.arange(1), "elbo_per_row": np.array([np.nan]), **holdout})
    assert len(axes) == 1
    save(axes, tmp_path / "x.png")


def summary_of(number, mean):
    weight = Spread(mean=mean, sd=0.1 * mean, low=0.9 * mean, high=1.1 * mean)
    none = Spread(*np.zeros((4, len(mean), 0)))
    return Summary(number, weight, none, none, columns=(), level=0.9, num_draws=10, rows=None)


@pytest.mark.parametrize("count", [1, 7, 120])
def test_weights(rng, count, tmp_path):
    mean = rng.dirichlet(np.ones(count))
    number = rng.permutation(count)
    ax = plot.weights(summary_of(number, mean))
    heights = [bar.get_height() for bar in ax.containers[0]]
    assert heights == sorted(heights, reverse=True)
    assert sum(heights) == pytest.approx(100)
    assert ax.get_xticklabels()[0].get_text() == str(number[np.argmax(mean)])
    assert "90% credible" in texts(ax)[0]
    save(ax, tmp_path / "x.png")


@pytest.mark.parametrize(("height", "width"), [(20, 40), (40, 20)])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_segmentation(rng, height, width, channels):
    image = rng.integers(0, 256, size=(height, width, *channels)).astype(np.uint8)
    labels = (np.arange(height * width) % 2).reshape(height, width)
    tones = np.array([10.0, 300.0]) if not channels else np.array([[10.0, 20.0, 30.0], [300.0, 0.0, -5.0]])
    original, painted = plot.segmentation(image, labels, tones)
    np.testing.assert_allclose(np.asarray(original.images[0].get_array()), image / 255)
    shown = np.asarray(painted.images[0].get_array())
    np.testing.assert_allclose(shown[0, 0], tones[0] / 255)
    np.testing.assert_allclose(shown[0, 1], np.clip(tones[1] / 255, 0, 1))
    assert painted.get_title(loc="left") == "In the mean colours of 2 components"


def test_colours_go_by_size():
    found = plot.colours(np.array([0.1, 0.6, 0.3]))
    assert found == [plot.PALETTE[2], plot.PALETTE[0], plot.PALETTE[1]]
    assert len(set(plot.PALETTE)) == 20


def test_nothing_global_is_touched(rng):
    import matplotlib

    before = dict(matplotlib.rcParams)
    plot.clusters(**cloud(rng, 2))
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib(rng, monkeypatch):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(OutputError, match=r"pip install 'vigmm\[plot\]'"):
        plot.weights(summary_of(np.arange(2), np.full(2, 0.5)))
