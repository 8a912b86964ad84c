"""The fused kernels, interpreted, against float64 NumPy; and what they are made of when they are for a GPU.

Tolerances are bounds of rounding, computed beside each value: a product of n terms is wrong by at most n + 1
rounding errors of the sum of its terms' sizes, an error of a log density is a relative one of a share, and a
sum adds one rounding error for each plain addition on the longest path. Products with ten bits of mantissa
would be wrong by 8,000 rounding errors a term.
"""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from vigmm.core.typing import Batch
from vigmm.math import fused
from vigmm.math.fused import Forms

EPS = float(np.finfo(np.float32).eps)


@dataclasses.dataclass(frozen=True)
class Case:
    """Sizes, and whether all components have one whitener."""

    rows: int
    dim: int
    num: int
    draws: int = 1
    tied: bool = False

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Rows, weights, level, whitener, offset and centre, exactly representable in float32."""
        draw = np.random.default_rng(self.rows)
        shape = (self.draws, self.num)
        matrices = (self.draws, 1 if self.tied else self.num, self.dim, self.dim)
        x = 3.0 + draw.normal(size=(self.rows, self.dim))
        # So far away that every density is zero in float32, by itself.
        x[5] += 200.0
        weight = draw.uniform(size=self.rows)
        weight[[0, self.rows - 1]] = 0.0
        level = draw.normal(size=shape)
        if self.num > 1:
            level[:, 1] = -np.inf
        whitener = np.tril(draw.normal(size=matrices)) / np.sqrt(self.dim) + np.eye(self.dim)
        centre = 3.0 + draw.normal(size=(*shape, self.dim))
        offset = np.einsum("skij,skj->ski", np.broadcast_to(whitener, (*shape, *matrices[2:])), centre)
        made = (x, weight, level, whitener, offset, centre)
        return tuple(np.float32(array).astype(np.float64) for array in made)


def call(arrays: tuple[np.ndarray, ...]):
    x, weight, level, whitener, offset, centre = (jnp.asarray(a, jnp.float32) for a in arrays)
    forms = Forms(level=level, whitener=whitener, offset=offset)
    return jax.jit(fused.sums)(forms, centre, Batch(x=x, weight=weight))


# A group that is not full, two draws and several ranges; two chunks of columns. Slow ones: all
# components in one kernel, as in the tests of passes, and other sizes.
FEW = Case(1100, 5, 6, draws=2)
CASES = [
    FEW,
    Case(70, 100, 2, tied=True),
    *(
        pytest.param(case, marks=pytest.mark.slow)
        for case in (
            Case(37, 2, 3),
            Case(9, 1, 1),
            Case(300, 16, 4, tied=True),
            Case(513, 17, 5, draws=3),
            Case(300, 40, 33),
            Case(130, 64, 3, draws=2),
            Case(200, 128, 3),
        )
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_log_norms_and_sums_are_those_of_double_precision(case):
    x, weight, level, whitener, offset, centre = arrays = case.arrays()
    log_norm, sums = call(arrays)
    whitener = np.broadcast_to(whitener, (*level.shape, case.dim, case.dim))
    white = np.einsum("skij,bj->sbki", whitener, x) - offset[:, None]
    size = np.einsum("skij,bj->sbki", np.abs(whitener), np.abs(x)) + np.abs(offset)[:, None]
    square = np.sum(white**2, axis=-1)
    joint = level[:, None] - 0.5 * square
    want = logsumexp(joint, axis=-1)
    # Of W x - b (D products and a difference), of its squared length, and of what is added to it.
    wrong = (case.dim + 2) * EPS * np.sum(np.abs(white) * size, axis=-1)
    wrong += EPS * (case.dim + 4) * (0.5 * square + np.where(np.isfinite(level), np.abs(level), 0.0)[:, None])
    used = np.exp(joint - want[..., None]) > 1e-30
    norm_wrong = np.max(np.where(used, wrong, 0.0), axis=-1) + EPS * (case.num + 2 + np.abs(want))
    assert np.all(np.abs(np.asarray(log_norm) - want) <= norm_wrong)

    share = weight[None, :, None] * np.exp(joint - want[..., None])
    shifted = x[None, :, None] - centre[:, None]
    _, sizes = fused.tilings(case.rows, case.dim, case.draws, case.num)
    path = 16 + sizes.span * sizes.tile // 16 + -(-case.rows // sizes.length)
    loose = share * (np.where(used, wrong, 0.0) + norm_wrong[..., None] + (path + 8) * EPS)
    for found, powers in ((sums.count, ""), (sums.first, "i"), (sums.second, "ij")):
        operands = [shifted] * len(powers)
        terms = ",".join(["sbk", *(f"sbk{letter}" for letter in powers)]) + f"->sk{powers}"
        expected = np.einsum(terms, share, *operands)
        most = np.einsum(terms, loose, *(np.abs(one) for one in operands))
        assert np.all(np.abs(np.asarray(found) - expected) <= most)
        assert np.all(np.isfinite(expected))
    if case.num > 1:
        assert not np.any(sums.count[:, 1])
        assert not np.any(sums.second[:, 1])


def test_a_row_that_is_not_a_number_is_not_hidden():
    x, *others = FEW.arrays()
    x[7, 1] = np.nan
    log_norm, sums = call((x, *others))
    assert np.all(np.isnan(log_norm[:, 7]))
    assert np.sum(np.isnan(log_norm)) == 2
    assert np.all(np.isnan(sums.second[0, 0]))


@pytest.mark.parametrize(("dim", "num"), [(16, 64), (10, 3), (128, 512)])
def test_for_a_gpu_it_is_kernels_and_nothing_of_the_size_of_the_logits(dim, num):
    rows = 50_000

    def shape(*dims: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(dims, jnp.float32)

    forms = Forms(level=shape(1, num), whitener=shape(1, num, dim, dim), offset=shape(1, num, dim))
    batch = Batch(x=shape(rows, dim), weight=shape(rows))
    traced = jax.jit(fused.sums).trace(forms, shape(1, num, dim), batch)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    whole = num <= 4
    assert text.count("custom_call @__gpu$xla.gpu.triton") == (1 if whole else 2)
    assert "stablehlo.while" not in text
    sizes = {np.prod([int(n) for n in dims.split("x")]) for dims in re.findall(r"tensor<([\dx]+)xf32>", text)}
    padded = max(16, 1 << (dim - 1).bit_length())
    _, tiling = fused.tilings(rows, dim, 1, num)
    partial = -(-rows // tiling.length) * -(-num // tiling.group) * tiling.group * padded**2
    assert max(sizes - {rows * dim}) == partial
    # Their number is that of the processors, and not that of the rows.
    assert partial <= 1024 * 64**2 * 4
    assert rows * num not in sizes
