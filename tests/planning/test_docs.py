"""The figures in docs/devices.md are those that the plan works with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vigmm.planning import FIGURES, Table, make_plan, parse_devices, weak_scaling

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "devices.md").read_text()


@pytest.mark.parametrize("name", FIGURES)
def test_the_table_of_devices(name):
    one = FIGURES[name]
    (row,) = re.findall(rf"^\| `{name}`.*$", PAGE, re.M)
    _, _, flops, memory, bandwidth, link, *_ = (cell.strip() for cell in row.split("|"))
    assert float(flops) == pytest.approx(one.flops / 1e12, rel=2e-3)
    assert float(bandwidth.removesuffix(" GB/s").replace(",", "")) == pytest.approx(one.bandwidth / 1e9)
    assert float(link.split(" ")[0]) == pytest.approx(one.link / 1e9)
    if memory:
        assert float(memory.removesuffix(" GiB")) == pytest.approx(one.memory / 2**30, rel=5e-3)


@pytest.mark.parametrize(("name", "which"), [("h100", 0), ("v5e", 1)])
def test_weak_scaling(job, name, which):
    planned = job(50, train={"batch_size": 65_536})
    made = make_plan(planned, Table("rows", 10_000_000, 16), parse_devices(name))
    shown = re.findall(r"^\| (\d+) \| ([\d,]+) \| \S+ \wm?s \| (\d+%) \| \S+ \wm?s \| (\d+%) \|", PAGE, re.M)
    expected = [
        (str(one.devices), f"{one.batch:,}", f"{one.whole_efficiency:.0%}", f"{one.picked_efficiency:.0%}")
        for one in weak_scaling(made)
    ]
    assert len(shown) == 2 * len(expected)
    assert shown[which * len(expected) :][: len(expected)] == expected
