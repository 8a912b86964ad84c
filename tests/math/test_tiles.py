"""Sums over rows do not depend on how the rows are tiled, and neither do their gradients."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from vigmm.core.typing import Batch
from vigmm.math.tiles import choose_tile, tiled_sum, tiled_value

ROWS, DIM = 37, 2
TILES = [1, 5, 36, 37, 64]


def batch(dtype=jnp.float32, rows=ROWS) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        x=jnp.asarray(rng.normal(size=(rows, DIM)), dtype),
        weight=jnp.asarray(rng.uniform(0.5, 2, rows), dtype),
    )


def value(params, piece: Batch):
    """Nothing special: a weighted, curved function of parameters and rows."""
    return jnp.sum(piece.weight * jnp.log(jnp.cosh(piece.x @ params["w"] - params["b"])))


def params(dtype=jnp.float32):
    return {"w": jnp.asarray([0.7, -1.2], dtype), "b": jnp.asarray(0.3, dtype)}


@pytest.mark.parametrize("tile", TILES)
def test_sum_of_a_pytree(x64, tile):
    data = batch(jnp.float64)

    def statistics(piece):
        return {"count": piece.weight.sum(), "first": piece.weight @ piece.x}

    found = tiled_sum(statistics, data, tile)
    np.testing.assert_allclose(found["count"], data.weight.sum(), rtol=1e-13)
    np.testing.assert_allclose(found["first"], data.weight @ data.x, rtol=1e-12)


def test_padding_is_seen_with_weight_zero():
    """The last tile is filled up with rows that count nothing."""
    found = tiled_sum(
        lambda piece: {"rows": jnp.float32(piece.x.shape[0]), "weight": piece.weight.sum()}, batch(), 10
    )
    assert float(found["rows"]) == 40
    np.testing.assert_allclose(found["weight"], batch().weight.sum(), rtol=1e-6)


@pytest.mark.parametrize("tile", TILES)
def test_value_and_gradient(x64, tile):
    p, data = params(jnp.float64), batch(jnp.float64)
    want, want_grads = jax.value_and_grad(value)(p, data)
    found, grads = jax.value_and_grad(lambda p: tiled_value(value, p, data, tile))(p)
    np.testing.assert_allclose(found, want, rtol=1e-13)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), grads, want_grads)
    np.testing.assert_allclose(tiled_value(value, p, data, tile), want, rtol=1e-13)


def test_the_gradient_is_that_of_the_value(x64):
    data = batch(jnp.float64)
    check_grads(lambda p: tiled_value(value, p, data, 8), (params(jnp.float64),), order=1, modes=["rev"])


def test_cotangents_scale_the_gradient(x64):
    """Inside a longer computation the chain rule holds."""
    p, data = params(jnp.float64), batch(jnp.float64)
    found = jax.grad(lambda p: jnp.sin(tiled_value(value, p, data, 8)) * 3.0)(p)
    want = jax.grad(lambda p: jnp.sin(value(p, data)) * 3.0)(p)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-11), found, want)


def test_rows_are_data():
    """They get a cotangent of zero rather than an error or a wrong number."""
    found = jax.grad(lambda data: tiled_value(value, params(), data, 8))(batch())
    assert not np.any(found.x)
    assert not np.any(found.weight)


@pytest.mark.parametrize("tile", [8, 64])
def test_vmap_over_parameters_under_jit(x64, tile):
    data = batch(jnp.float64)
    many = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf, -leaf]), params(jnp.float64))

    @jax.jit
    def found(many):
        return jax.vmap(jax.value_and_grad(lambda p: tiled_value(value, p, data, tile)))(many)

    want = jax.vmap(jax.value_and_grad(lambda p: value(p, data)))(many)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-11), found(many), want)


def test_memory_is_that_of_a_tile():
    """Differentiating a long sum keeps no residuals of its rows."""

    def temporaries(rows: int, tile: int) -> int:
        shapes = jax.eval_shape(lambda: (params(), batch(rows=rows)))
        lowered = jax.jit(jax.grad(lambda p, data: tiled_value(wide, p, data, tile))).lower(*shapes)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    def wide(p, piece):
        """Rows x 50 temporaries, as K x D would be; between products, or they would not be made at all."""
        slopes = p["w"][:, None] * jnp.linspace(0.0, 1.0, 50, dtype=piece.x.dtype)[None]
        features = jnp.tanh(piece.x @ slopes)
        return jnp.sum(piece.weight[:, None] * (features @ slopes.T)) - p["b"]

    whole, tiled = temporaries(2**14, 2**14), temporaries(2**14, 2**7)
    assert whole > 2**14 * 50 * 4 / 2
    assert tiled < whole / 20


def test_choose_tile():
    x = np.zeros((100_000, 16), np.float32)
    width = 20 * 16
    tile = choose_tile(x, width)
    assert tile & (tile - 1) == 0
    assert 2**21 < tile * width * 4 <= 2**22
    assert choose_tile(x.astype(np.float64), width) == tile // 2
    # Never more than there are rows, never so few that the loop's overhead shows.
    assert choose_tile(x[:50], width) == 50
    assert choose_tile(x, 10_000 * 100) == 128
    assert choose_tile(x, 0) >= 128


def test_memory_does_not_grow_with_rows_that_no_tile_divides():
    """No padded copy is made."""

    def temporaries(rows: int) -> int:
        shapes = jax.eval_shape(lambda: (params(), batch(rows=rows)))
        lowered = jax.jit(lambda p, data: tiled_sum(lambda piece: value(p, piece), data, 100)).lower(*shapes)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    assert temporaries(2**18 + 77) <= temporaries(2**12 + 77) + 1000
