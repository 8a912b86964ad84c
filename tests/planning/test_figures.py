"""Devices, links and what compiled programs do: against hand-made numbers and the files they are from."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from vigmm.core.errors import ConfigError
from vigmm.planning import FIGURES, Devices, parse_devices, traffic
from vigmm.planning.traffic import MEASURED

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"


def test_devices_by_name_and_number():
    assert (parse_devices("H100:8").count, parse_devices("a100").count) == (8, 1)
    torus = parse_devices("v5e:2x4")
    assert (torus.count, torus.shape, torus.name) == (8, (2, 4), "v5e:2x4")


@pytest.mark.parametrize("text", ["h200:8", "h100:0", "h100:2x", "h100:-1", "h100:8 9", "", ":4"])
def test_other_words_are_refused_with_the_names_there_are(text):
    with pytest.raises(ConfigError, match=r"--devices .*(h100, a100, v5e, cpu|NAME:COUNT)"):
        parse_devices(text)


def test_every_figure_has_a_source():
    for one in FIGURES.values():
        assert one.sources
        assert all(value > 0 for value in (one.flops, one.bandwidth, one.memory, one.link, one.network))


def test_a_ring_of_eight():
    """2 x 7/8 of the bytes over each link, and 14 hops."""
    ring = parse_devices("h100:8")
    assert ring.reduce_seconds(450e9) == pytest.approx(2 * 7 / 8 + 14 * 5e-6)
    assert parse_devices("h100").reduce_seconds(1e9) == 0.0


def test_beyond_the_joined_devices_the_network_takes_over():
    """32 in groups of 8: a ring of 4 groups in which each device sends an eighth of the bytes."""
    many = parse_devices("h100:32")
    inner, outer = 7 / 8 / 450e9 + 7 * 5e-6 / 1e9, 3 / 4 / 8 / 50e9 + 3 * 5e-6 / 1e9
    assert many.reduce_seconds(1e9) == pytest.approx(2e9 * (inner + outer))


def test_a_torus_has_fewer_hops_than_a_line():
    size = 1.0
    assert parse_devices("v5e:16x16").reduce_seconds(size) == pytest.approx(60e-6, rel=1e-3)
    assert Devices(FIGURES["v5e"], (256,)).reduce_seconds(size) == pytest.approx(510e-6, rel=1e-3)


def cells():
    document = json.loads((RESULTS / "compile_only.json").read_text())
    for record in document["cells"]:
        cell = record["cell"]
        plain = cell["devices"] == 1 and cell["tile"] is None and cell["rows"] == cell["batch"]
        if "error" not in record and plain and record["branch"] == "most":
            yield cell, record


def three(value):
    return float(f"{value:.3g}")


def test_the_table_is_that_of_the_results():
    """Made anew from the records; a new run of `benchmarks.compile_only` shows up here."""
    found = {
        (cell["target"], cell["method"], cell["dim"], cell["components"], cell["batch"]): record
        for cell, record in cells()
    }
    expected = []
    for (target, method, dim, num, batch), record in found.items():
        if batch != 1_000_000 or method not in ("natural", "meanfield"):
            continue
        estimate = record["compilers_seconds"]
        busy = 1.0 if estimate is None else record["flops"] / FIGURES[target].flops / estimate
        ratios = [three(record[what] / record["floor"][what]) for what in ("bytes", "flops")]
        few = found[target, method, dim, num, 100_000]["kernels"]
        expected.append((target, method, dim, num, *ratios, few, record["kernels"], three(busy)))
    assert sorted(MEASURED) == sorted(expected)


def test_sizes_between_those_that_were_compiled():
    for row in MEASURED:
        found = traffic(*row[:4])
        assert (found.bytes, found.flops) == pytest.approx(row[4:6])
        assert (found.few, found.many, found.busy) == pytest.approx(row[6:])
        assert found.within
    low, high = (traffic("h100", "natural", 16, num).bytes for num in (64, 512))
    middle = traffic("h100", "natural", 16, 181)  # sqrt(64 x 512) = 181.02
    assert middle.bytes == pytest.approx(math.sqrt(low * high), rel=1e-3)
    beyond = traffic("h100", "natural", 16, 4)
    assert not beyond.within
    assert 1.0 <= beyond.bytes < traffic("h100", "natural", 16, 16).bytes


@pytest.mark.parametrize("method", ["natural", "meanfield"])
def test_ratios_of_a_million_rows_hold_for_fewer(method):
    """Bytes of other batches, which the table was not made of: within a factor of two on the H100."""
    seen = 0
    for cell, record in cells():
        if cell["target"] != "h100" or cell["method"] != method or cell["batch"] == 1_000_000:
            continue
        ratio = traffic("h100", method, cell["dim"], cell["components"])
        rows = 4 * cell["batch"] * (cell["dim"] + 1)
        predicted = ratio.bytes * rows + record["floor"]["bytes"] - rows
        seen += 1
        assert 0.5 < predicted / record["bytes"] < 2.0, cell
        assert ratio.flops * record["floor"]["flops"] == pytest.approx(record["flops"], rel=0.35)
    assert seen >= 9
