"""What is read from compiled programs, and that the steps compile for devices that are not there."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.experimental import pallas as pl

from benchmarks.compile_only import judge, plan, plugins
from benchmarks.compile_only.__main__ import compile_cells
from benchmarks.compile_only.cells import Cell
from benchmarks.compile_only.counting import Collective, count
from benchmarks.compile_only.hlo import parse, shapes_of
from benchmarks.compile_only.kernels import Kernel, kernels
from benchmarks.compile_only.report import text
from benchmarks.compile_only.targets import TARGETS
from benchmarks.environments import default_cache

# Eight turns of: take a slice of p (4 x 16), multiply it by w, add it to the sum; then one exchange.
PROGRAM = """HloModule known, is_scheduled=true

%sliced (a: f32[8,4,16], i: s32[]) -> f32[4,16] {
  %a = f32[8,4,16]{2,1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  %part = f32[1,4,16]{2,1,0} dynamic-slice(%a, %i, %zero, %zero), dynamic_slice_sizes={1,4,16}
  ROOT %out = f32[4,16]{1,0} bitcast(%part)
}

%plus (l: f32[], r: f32[]) -> f32[] {
  %l = f32[] parameter(0)
  %r = f32[] parameter(1)
  ROOT %lr = f32[] add(%l, %r)
}

%body (t: (s32[], f32[8,4,16], f32[16,2], f32[4,2])) -> (s32[], f32[8,4,16], f32[16,2], f32[4,2]) {
  %t = (s32[], f32[8,4,16]{2,1,0}, f32[16,2]{1,0}, f32[4,2]{1,0}) parameter(0)
  %n = s32[] get-tuple-element(%t), index=0
  %p = f32[8,4,16]{2,1,0} get-tuple-element(%t), index=1
  %w = f32[16,2]{1,0} get-tuple-element(%t), index=2
  %s = f32[4,2]{1,0} get-tuple-element(%t), index=3
  %x = f32[4,16]{1,0} fusion(%p, %n), kind=kLoop, calls=%sliced
  %d = f32[4,2]{1,0} dot(%x, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
  %e = f32[4,2]{1,0} add(%s, %d)
  ROOT %u = (s32[], f32[8,4,16]{2,1,0}, f32[16,2]{1,0}, f32[4,2]{1,0}) tuple(%n, %p, %w, %e)
}

%more (t.1: (s32[], f32[8,4,16], f32[16,2], f32[4,2])) -> pred[] {
  %t.1 = (s32[], f32[8,4,16]{2,1,0}, f32[16,2]{1,0}, f32[4,2]{1,0}) parameter(0)
  %n.1 = s32[] get-tuple-element(%t.1), index=0
  %many = s32[] constant(8)
  ROOT %lt = pred[] compare(%n.1, %many), direction=LT
}

ENTRY %main (p.2: f32[8,4,16], w.2: f32[16,2]) -> f32[4,2] {
  %p.2 = f32[8,4,16]{2,1,0} parameter(0)
  %w.2 = f32[16,2]{1,0} parameter(1)
  %n.2 = s32[] constant(0)
  %s.2 = f32[4,2]{1,0} broadcast(%n.2), dimensions={}
  %t.2 = (s32[], f32[8,4,16]{2,1,0}, f32[16,2]{1,0}, f32[4,2]{1,0}) tuple(%n.2, %p.2, %w.2, %s.2)
  %l.2 = (s32[], f32[8,4,16]{2,1,0}, f32[16,2]{1,0}, f32[4,2]{1,0}) while(%t.2), condition=%more, body=%body
  %e.2 = f32[4,2]{1,0} get-tuple-element(%l.2), index=3
  ROOT %all = f32[4,2]{1,0} all-reduce(%e.2), channel_id=1, replica_groups={{0,1}}, to_apply=%plus
}
"""


def test_a_known_program_is_counted_to_the_byte():
    found = count(parse(PROGRAM))
    part, w, s = 4 * 16 * 4, 16 * 2 * 4, 4 * 2 * 4
    # The slice is read and written, and one counter; then the product, the sum, and the comparison.
    turn = (part + 4 + part) + (part + w + s) + 3 * s + (4 + 1)
    assert found.bytes == s + 8 * turn + 2 * s
    assert found.flops == 8 * 2 * 4 * 2 * 16
    assert found.collectives == (Collective("all-reduce", s, 1),)
    assert found.largest[0][1].startswith("fusion")


def test_the_trip_count_may_be_noted_but_never_guessed():
    noted = PROGRAM.replace(
        "condition=%more, body=%body",
        'condition=%more, body=%body, backend_config={"known_trip_count":{"n":"3"}}',
    )
    assert count(parse(noted)).flops == 3 * 2 * 4 * 2 * 16
    with pytest.raises(ValueError, match=r"trip count of %l\.2"):
        count(parse(PROGRAM.replace("s32[] constant(8)", "s32[] parameter(1)")))


def test_what_lies_on_the_chip_is_not_counted():
    on_chip = PROGRAM.replace("%x = f32[4,16]{1,0}", "%x = f32[4,16]{1,0:T(8,128)S(1)}")
    part = 4 * 16 * 4
    assert count(parse(PROGRAM)).bytes - count(parse(on_chip), on_chip=bool).bytes == 8 * 2 * part


def test_shapes_take_what_their_tiles_take():
    plain, tiled, scalar, mask = shapes_of(
        "(f32[16,16]{1,0}, f32[3,16,130]{2,0,1:T(8,128)S(1)}, f32[]{:T(128)}, pred[5]{0})"
    )
    assert plain.bytes == plain.logical_bytes == 16 * 16 * 4
    # Fastest is the axis of 130, padded to 256; next that of 3, padded to 8.
    assert (tiled.bytes, tiled.logical_bytes, tiled.space) == (8 * 16 * 256 * 4, 3 * 16 * 130 * 4, 1)
    assert (scalar.bytes, mask.bytes) == (4, 5)


@pytest.mark.parametrize(
    ("line", "pairs"),
    [
        # A product of 8 x 16 by 16 x 4 written as a convolution without window.
        ("f32[8,4]{1,0} convolution(%a, %b), dim_labels=bf_io->bf", 8 * 4 * 16),
        # Three taps over ten places, padded by one on either side: 10 + 9 + 9 meet an element.
        ("f32[2,10,5]{2,1,0} convolution(%c, %d), window={size=3 pad=1_1}, dim_labels=b0f_0io->b0f", 70 * 28),
    ],
)  # fmt: skip
def test_padding_of_a_convolution_is_no_arithmetic(line, pairs):
    program = f"""ENTRY %main (a: f32[8,16]) -> f32[] {{
  %a = f32[8,16]{{1,0}} parameter(0)
  %b = f32[16,4]{{1,0}} parameter(1)
  %c = f32[2,10,7]{{2,1,0}} parameter(2)
  %d = f32[3,7,5]{{2,1,0}} parameter(3)
  ROOT %r = {line}
}}
"""
    assert count(parse(program)).flops == 2 * pairs


def test_of_a_choice_the_least_or_the_most_is_counted():
    program = """%big (x: f32[4,4]) -> f32[4,4] {
  %x = f32[4,4]{1,0} parameter(0)
  ROOT %y = f32[4,4]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%small (z: f32[4,4]) -> f32[4,4] {
  %z = f32[4,4]{1,0} parameter(0)
  ROOT %n = f32[4,4]{1,0} negate(%z)
}

ENTRY %main (p: pred[], v: f32[4,4]) -> f32[4,4] {
  %p = pred[] parameter(0)
  %v = f32[4,4]{1,0} parameter(1)
  ROOT %c = f32[4,4]{1,0} conditional(%p, %v, %v), true_computation=%big, false_computation=%small
}
"""
    module = parse(program)
    assert (count(module).flops, count(module, least=True).flops) == (2 * 4 * 4 * 4, 0)


def test_a_program_of_this_machine_is_read():
    def total(x, w):
        return lax.scan(lambda c, piece: (c + piece @ w, None), jnp.zeros((32, 8)), x)[0]

    x, w = jax.ShapeDtypeStruct((5, 32, 16), "float32"), jax.ShapeDtypeStruct((16, 8), "float32")
    found = count(parse(jax.jit(total).lower(x, w).compile().as_text()))
    assert found.flops == 5 * 2 * 32 * 16 * 8
    assert found.bytes >= 4 * (5 * 32 * 16 + 16 * 8 + 32 * 8)


def by_hand(x, w, *, interpret=False):
    """For each of four tiles of 16 rows: three times its product with w."""

    def body(x, w, out):
        def add(_, total):
            return total + lax.dot(x[...], w[...])

        out[...] = lax.fori_loop(0, 3, add, jnp.zeros((16, 32), jnp.float32))

    return pl.pallas_call(
        body,
        grid=(4,),
        in_specs=[
            pl.BlockSpec((16, 64), lambda i: (i, 0)),
            pl.BlockSpec((None, 64, 32), lambda i: (0, 0, 0)),
        ],
        out_specs=pl.BlockSpec((16, 32), lambda i: (i, 0)),
        out_shape=jax.ShapeDtypeStruct((64, 32), jnp.float32),
        interpret=interpret,
        name="by_hand",
    )(x, w)


def test_a_kernel_written_by_hand_is_counted_by_its_grid_its_blocks_and_its_loops():
    x, w = jnp.ones((64, 64)), jnp.ones((1, 64, 32))

    def program(x, w):
        first = lax.cond(x[0, 0] > 0, by_hand, lambda x, w: jnp.zeros((64, 32)), x, w)
        return first + by_hand(x, w, interpret=True)

    found = kernels(jax.make_jaxpr(program)(x, w))
    moved, flops = 4 * 4 * (16 * 64 + 64 * 32 + 16 * 32), 4 * 3 * 2 * 16 * 64 * 32
    assert found == {("by_hand", ((64, 32),)): Kernel(bytes=moved, flops=flops)}
    text = """ENTRY %main (x: f32[64,64], w: f32[1,64,32]) -> f32[64,32] {
  %x = f32[64,64]{1,0} parameter(0)
  %w = f32[1,64,32]{2,1,0} parameter(1)
  ROOT %c = f32[64,32]{1,0} custom-call(%x, %w), custom_call_target="__gpu$xla.gpu.triton", metadata={op_name="jit(f)/NAME/pallas_call"}, backend_config={ir = "ML(i}R"}
}
"""  # noqa: E501
    counted = count(parse(text.replace("NAME", "by_hand")), written=found)
    assert (counted.bytes, counted.flops, counted.kernels) == (moved, flops, 1)
    with pytest.raises(KeyError, match="unknown"):
        count(parse(text.replace("NAME", "unknown")), written=found)


def test_a_product_in_a_loop_of_unknown_length_is_not_guessed():
    def body(x, out):
        def add(carry):
            turn, total = carry
            return turn + 1, total + lax.dot(x[...], x[...])

        start = (jnp.int32(0), jnp.zeros((16, 16), jnp.float32))
        out[...] = lax.while_loop(lambda carry: carry[1][0, 0] < 9.0, add, start)[1]

    call = pl.pallas_call(body, out_shape=jax.ShapeDtypeStruct((16, 16), jnp.float32), name="endless")
    with pytest.raises(ValueError, match="a while in a kernel"):
        kernels(jax.make_jaxpr(call)(jnp.ones((16, 16))))


def record(batch=1_000_000, devices=1, temporary=10, collectives=(), **changes):
    cell = {"target": "h100", "method": "natural", "dim": 16, "components": 16, "rows": batch, "batch": batch,
            "devices": devices, "placement": "auto", "tile": None}  # fmt: skip
    floor = {"bytes": 1_000_000, "flops": 1_000_000, "params": 1_000}
    return {
        "cell": cell, "branch": "most", "floor": floor, "bytes": 1_500_000, "flops": 1_000_000, "kernels": 3,
        "memory": {"temporary": temporary}, "seconds": 1e-3, "compilers_seconds": None,
        "collectives": list(collectives),
    } | changes  # fmt: skip


def exchange(kind="all-reduce", size=1_016, times=1):
    return {"kind": kind, "bytes": size, "times": times}


def test_targets_are_reached_or_missed():
    good = [record(100_000), record(), record(devices=2, collectives=[exchange()])]
    assert {one["what"]: one["reached"] == one["of"] for one in judge.verdicts(good)} == {
        "memory": True, "traffic": True, "exchange": True,
    }  # fmt: skip
    bad = [
        record(100_000),
        record(temporary=11, bytes=2_000_001),
        record(devices=2, collectives=[exchange(), exchange("all-gather")]),
    ]
    found = {one["what"]: (one["reached"], one["of"], one["worst"]) for one in judge.verdicts(bad)}
    assert found["memory"][:2] == (0, 1)
    assert found["traffic"] == (2, 3, "D=16 K=16 B=1000000 x1: 2 times")
    assert found["exchange"][0] == 0
    assert "all-gather" in found["exchange"][2]


@pytest.mark.parametrize(
    "collectives",
    [(), (exchange(), exchange()), (exchange(times=2),), (exchange(size=2_000),), (exchange("all-gather"),)],
)
def test_exactly_one_reduction_of_parameter_size(collectives):
    assert judge.exchange_ok(record(devices=4, collectives=[exchange()]))
    assert not judge.exchange_ok(record(devices=4, collectives=collectives))


def test_arithmetic_that_takes_longer_than_its_bytes_is_not_bound_by_memory():
    assert judge.memory_bound(record())
    assert not judge.memory_bound(record(flops=10**9))


def test_the_report_has_every_cell_and_every_failure():
    broken = {"cell": record()["cell"], "error": "ValueError: it broke"}
    written = text({"cells": [record(), record(100_000), broken]})
    assert "NVIDIA H100" in written
    assert "1,000,000" in written
    assert "it broke" in written


def test_plugins_are_those_of_the_installed_jax(tmp_path):
    cuda, tpu = (plugins.wheels(name) for name in plugins.PLUGINS)
    assert all(one.endswith(f"=={jax.__version__}") for one in cuda)
    assert tpu[0].startswith("libtpu==")
    assert plugins.find("tpu", tmp_path) is None


@pytest.mark.parametrize("target", TARGETS)
def test_every_cell_is_planned_once(target):
    cells = plan.cells(target)
    assert len(cells) == len(set(cells))
    assert all(cell.batch % cell.devices == 0 for cell in cells)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", TARGETS)
def test_the_step_compiles_for_a_device_that_is_not_there(name):
    target = TARGETS[name]
    python = plugins.find(target.plugin, default_cache())
    if python is None:
        pytest.skip(f"needs the {target.plugin} compiler plugin: python -m benchmarks.compile_only --quick")
    # A power of two: there is no padding to whole tiles, whatever their size.
    rows = 2**17
    cells = [
        Cell(name, "natural", 16, 16, rows, rows),
        Cell(name, "natural", 16, 16, rows, rows, 4, "shared"),
    ]
    alone, shared = (records[-1] for records in compile_cells(target, cells, python))
    assert "error" not in alone
    assert judge.exchange_ok(shared)
    # Two products whose size depends on the form of the pass, but not on the device.
    assert 0.99 <= judge.ratio(alone, "flops") < 2.0
    # Each device has a quarter of the rows, and what is done once per component besides.
    assert shared["flops"] == pytest.approx(alone["flops"] / 4, rel=0.01)
    assert alone["bytes"] >= alone["floor"]["bytes"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kernels_written_by_hand_compile_for_a_gpu_and_move_less():
    target = TARGETS["h100"]
    python = plugins.find(target.plugin, default_cache())
    if python is None:
        pytest.skip("needs the cuda compiler plugin: python -m benchmarks.compile_only --quick")
    rows = 100_000
    cells = [Cell("h100", method, 64, 64, rows, rows) for method in ("natural", "fused")]
    plain, fused = (records[-1] for records in compile_cells(target, cells, python))
    assert "error" not in fused
    assert fused["seconds"] < 0.5 * plain["seconds"]
    assert not judge.memory_bound(fused)
    assert {one["what"].split("/")[-2] for one in fused["largest"][:2]} == {"moments", "log_norms"}
    # Nothing of the size of the logits.
    assert fused["memory"]["temporary"] < 4 * rows * 64
