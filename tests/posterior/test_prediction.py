"""The posterior predictive against SciPy, against brute force and against itself in other chunks."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from scipy import integrate, special, stats

from tests.posterior.conftest import families
from vigmm.core.errors import DataError
from vigmm.data.sources import DataFile
from vigmm.families import Conjugate
from vigmm.models import sticks
from vigmm.posterior.prediction import joined, score, score_blocks


def student_t(posterior):
    """Weights and SciPy's Student t of each component, in the units of the data (Bishop 10.81)."""
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), posterior.params)
        nw = posterior.model.algebra.standard(params.components)
        weights = np.asarray(sticks.expected_weights(params.weights, 3))
    dim = posterior.dim
    made = []
    for k in range(posterior.num_components):
        kappa, nu, factor = float(nw.mean_precision[k]), float(nw.dof[k]), np.asarray(nw.rate_factor[k])
        shape = factor @ factor.T * (kappa + 1) / (kappa * (nu + 1 - dim))
        loc = posterior.center + posterior.scale * np.asarray(nw.loc[k])
        unit = np.outer(posterior.scale, posterior.scale)
        made.append(stats.multivariate_t(loc=loc, shape=shape * unit, df=nu + 1 - dim))
    return weights, made


def normal_density(x, weights, means, covariances):
    """sum_k pi_k N(x) of one draw, by the formula."""
    total = 0.0
    for weight, mean, cov in zip(weights, means, covariances, strict=True):
        shift = x - mean
        square = np.einsum("ni,ij,nj->n", shift, np.linalg.inv(cov), shift)
        total = total + weight * np.exp(-0.5 * square) / np.sqrt(np.linalg.det(2 * np.pi * cov))
    return total


@pytest.mark.parametrize(("dtype", "atol"), [("float64", 1e-10), ("float32", 2e-4)])
def test_conjugate_is_the_student_t_mixture_of_scipy(rows, make, dtype, atol):
    posterior = make(rows.x, rows.labels, dtype=dtype)
    far = posterior.center + posterior.scale * np.array([[30.0, -20.0], [0.0, 0.0]])
    x = np.concatenate([rows.x[:20], far])
    weights, components = student_t(posterior)
    joint = np.stack([np.log(w) + t.logpdf(x) for w, t in zip(weights, components, strict=True)], axis=1)
    expected = special.logsumexp(joint, axis=1)
    np.testing.assert_allclose(posterior.log_predictive(x), expected, rtol=0, atol=atol)
    resp = np.exp(joint - expected[:, None])
    np.testing.assert_allclose(posterior.responsibilities(x), resp, rtol=0, atol=atol)
    np.testing.assert_array_equal(posterior.predict(x), resp.argmax(axis=1))


def test_the_predictive_is_the_mean_over_draws_of_the_parameters(double, rows):
    """For every family: an independent stream of draws in the units of the data, 5 standard errors."""
    x, n = rows.x[:12], 3000
    draws = double.draw(jax.random.key(11), n)
    densities = np.stack(
        [normal_density(x, *one) for one in zip(draws.weights, draws.means, draws.covariances, strict=True)]
    )
    mean, se = densities.mean(axis=0), densities.std(axis=0, ddof=1) / np.sqrt(n)
    noise = (
        se if isinstance(double.family, Conjugate) else se * np.sqrt(2)
    )  # is the predictive noisy as well?
    found = np.exp(double.log_predictive(x, num_draws=n))
    assert np.all(np.abs(found - mean) < 5 * noise), (found - mean) / noise


@pytest.mark.parametrize("family", families())
def test_densities_in_the_units_of_the_data_integrate_to_one(rows, make, family):
    posterior = make(rows.x[:, 1:], rows.labels, family=family, dtype="float64", columns=("b",))
    edge = 40 * posterior.scale[0]
    grid = np.linspace(posterior.center[0] - edge, posterior.center[0] + edge, 16_385)
    density = np.exp(posterior.log_predictive(grid))
    assert integrate.simpson(density, x=grid) == pytest.approx(1.0, abs=1e-6)
    mean = integrate.simpson(density * grid, x=grid)
    assert mean == pytest.approx(rows.x[:, 1].mean(), abs=0.1 * posterior.scale[0])


def test_what_is_returned_agrees_with_itself(posterior, rows):
    found, resp = posterior.assign(rows.x), posterior.responsibilities(rows.x)
    assert resp.shape == (240, 3)
    np.testing.assert_allclose(resp.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(found.component, resp.argmax(axis=1))
    np.testing.assert_allclose(found.probability, resp.max(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(found.log_density, posterior.log_predictive(rows.x))
    np.testing.assert_array_equal(found.component, posterior.predict(rows.x))
    assert found.component.dtype == np.int32
    assert np.mean(found.component == rows.labels) > 0.9


@pytest.mark.parametrize("chunk", [240, 100, 7])
def test_chunks_and_padding_do_not_show(posterior, rows, chunk):
    whole = joined(score_blocks(posterior, rows.x, full=True))
    parts = list(score_blocks(posterior, rows.x, full=True, chunk=chunk))
    assert [start for start, _ in parts] == list(range(0, 240, chunk))
    found = joined(iter(parts))
    np.testing.assert_array_equal(found.component, whole.component)
    # Products of other shapes may be summed in another order: a few units in the last place.
    np.testing.assert_allclose(found.log_density, whole.log_density, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.responsibilities, whole.responsibilities, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 512])
def test_any_number_of_rows_comes_back(conjugate, rows, n):
    many = np.resize(rows.x, (n, 2))
    found = conjugate.log_predictive(many)
    assert found.shape == (n,)
    expected = np.resize(conjugate.log_predictive(rows.x), n)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_tiles_do_not_show(conjugate, rows, monkeypatch):
    whole = conjugate.log_predictive(rows.x)
    score.clear_cache()
    monkeypatch.setattr("vigmm.posterior.prediction.choose_tile", lambda *_, **__: 64)
    found = joined(score_blocks(conjugate, rows.x, full=True))
    score.clear_cache()
    np.testing.assert_allclose(found.log_density, whole, rtol=1e-5, atol=1e-5)
    assert found.responsibilities.shape == (240, 3)


def test_few_shapes_are_compiled(conjugate, rows):
    conjugate.predict(rows.x[:10])
    before = score._cache_size()
    for n in (1, 2, 50, 200, 256):
        conjugate.predict(rows.x[:n])
        dataclasses.replace(conjugate, center=conjugate.center + n).predict(rows.x[:n])
    assert score._cache_size() == before


def test_blocks_stream(posterior, rows):
    ((start, found),) = list(posterior.assign_blocks(rows.x))
    assert start == 0
    np.testing.assert_array_equal(found.component, posterior.predict(rows.x))
    assert found.responsibilities is None


def test_predictions_are_random_in_nothing(rows, make):
    one, same, other = (make(rows.x, rows.labels, family="meanfield", seed=seed) for seed in (3, 3, 4))
    found = one.log_predictive(rows.x)
    np.testing.assert_array_equal(found, one.log_predictive(rows.x))
    np.testing.assert_array_equal(found, same.log_predictive(rows.x))
    assert not np.array_equal(found, other.log_predictive(rows.x))


def test_the_global_precision_does_not_matter(posterior, double, rows):
    for model in (posterior, double):
        outside = model.log_predictive(rows.x)
        with jax.enable_x64(True):
            np.testing.assert_array_equal(model.log_predictive(rows.x), outside)


def test_results_are_double_only_where_all_is_double(posterior, double, rows):
    for x in (rows.x, rows.x.astype(np.float32)):
        assert posterior.log_predictive(x).dtype == np.float32
        assert posterior.responsibilities(x).dtype == np.float32
        assert double.log_predictive(x).dtype == x.dtype
        assert double.responsibilities(x).dtype == x.dtype
        assert double.assign(x).probability.dtype == x.dtype
    whole = np.array([[3, 1000]])
    assert double.log_predictive(whole).dtype == np.float64


def test_single_precision_keeps_the_digits_of_columns_far_from_zero(rows, make):
    single, double = (make(rows.x, rows.labels, dtype=dtype) for dtype in ("float32", "float64"))
    np.testing.assert_allclose(single.log_predictive(rows.x), double.log_predictive(rows.x), atol=1e-4)


def test_rows_come_from_anywhere(conjugate, rows, tmp_path):
    expected = conjugate.predict(rows.x)
    np.save(tmp_path / "x.npy", rows.x)
    swapped = "b,a\n" + "\n".join(f"{b!r},{a!r}" for a, b in rows.x.tolist())
    (tmp_path / "swapped.csv").write_text(swapped)
    for data in (
        rows.x.tolist(),
        np.asfortranarray(rows.x),
        tmp_path / "x.npy",
        str(tmp_path / "swapped.csv"),
        DataFile(str(tmp_path / "swapped.csv")),
        DataFile(str(tmp_path / "swapped.csv")).open(),
    ):
        np.testing.assert_array_equal(conjugate.predict(data), expected)


def test_a_value_that_is_no_number_is_named(conjugate, rows):
    x = rows.x.copy()
    x[41, 1] = np.nan
    with pytest.raises(DataError, match=r"row 41, column 'x1' is NaN"):
        conjugate.predict(x)
    x[41, 1] = np.inf
    with pytest.raises(DataError, match=r"row 41, column 'x1' is inf"):
        conjugate.log_predictive(x)


def test_a_row_without_a_finite_density_is_named_and_never_returned(posterior, double, rows):
    x = rows.x.copy()
    x[41, 0] = 1e60
    with pytest.raises(DataError, match=r"row 41 lies too far .* float32; drop such rows or fit in float64"):
        posterior.predict(x)
    assert np.isfinite(double.log_predictive(x)).all()


def test_a_broken_model_says_so(posterior, rows):
    broken = jax.tree.map(lambda leaf: leaf * np.float32(np.nan), posterior.params)
    with pytest.raises(DataError, match="the model's own parameters are not finite"):
        dataclasses.replace(posterior, params=broken).predict(rows.x)


def test_several_devices_give_the_same_bits(rows, make):
    posterior = make(rows.x, rows.labels)
    x = np.resize(rows.x, (1100, posterior.dim))
    one = joined(score_blocks(posterior, x, chunk=256, full=True))
    found = list(score_blocks(posterior, x, chunk=256, full=True, devices=jax.devices("cpu")[:2]))
    assert [start for start, _ in found] == [0, 256, 512, 768, 1024]
    for name, value in vars(joined(iter(found))).items():
        np.testing.assert_array_equal(value, getattr(one, name))
