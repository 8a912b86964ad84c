"""How the benchmarks of streams judge what they measured."""

from __future__ import annotations

import pytest

from benchmarks import soak, streaming


def run(speed, cpu, stall=0.1, after=0.05):
    return {"rows_per_second": speed, "cpu_seconds": cpu, "stall": stall, "stall_after": after}


ROUNDS = [
    {"load": 1.0, "runs": {"memory": run(100.0, 2.0, 0.0, 0.0), "parquet": run(80.0, 2.5)}},
    {"load": 9.0, "runs": {"memory": run(10.0, 2.0, 0.0, 0.0), "parquet": run(9.0, 4.0)}},
    {"load": 2.0, "runs": {"memory": run(90.0, 2.0, 0.0, 0.0), "parquet": run(45.0, 2.0)}},
]


def test_ratios_are_taken_within_a_round():
    """0.8, 0.9 and 0.5: the median of the ratios, not the ratio of the medians, which would be 0.5."""
    found = streaming.summary(ROUNDS)
    assert found["parquet"]["of_memory"] == pytest.approx(0.8)
    assert found["parquet"]["of_memory_cpu"] == pytest.approx(0.8)
    assert "of_memory" not in found["memory"]


def test_the_table_says_load_and_target():
    record = {"batch": 1_024, "summary": streaming.summary(ROUNDS), "rounds": ROUNDS}
    document = {
        "rows": 10, "dim": 16, "components": 50, "passes": 3.0, "portion_mb": 64.0, "batches": [record],
        "reading": {"parquet": {"mb_per_second": 300.0, "mb_per_cpu": 500.0}},
    }  # fmt: skip
    text = streaming.table(document)
    assert "at least 70% from Parquet" in text
    assert "Load 1.0 to 9.0" in text
    assert "| parquet | 300 | 500 |" in text


def notes(**growing):
    """Ninety chunks; what grows does so by so much per chunk."""
    held = {"rss_mb": 400.0, "files": 6.0, "threads": 3.0, "arrays": 90.0, "array_mb": 1.0}
    return [
        {name: value + i * growing.get(name, 0.0) for name, value in held.items()} | {"step": i}
        for i in range(90)
    ]


def test_a_run_that_holds_what_it_held_passes():
    assert all(one["ok"] for one in soak.verdict(notes()).values())
    # 0.3 MB a chunk are 16 MB from third to third, 4 % of 400.
    assert soak.verdict(notes(rss_mb=0.3))["rss_mb"]["ok"]


@pytest.mark.parametrize(
    ("what", "by"), [("rss_mb", 0.5), ("files", 0.1), ("threads", 0.1), ("arrays", 0.2), ("array_mb", 0.01)]
)
def test_a_leak_is_found(what, by):
    found = soak.verdict(notes(**{what: by}))
    assert [name for name, one in found.items() if not one["ok"]] == [what]
    assert "| NO |" in soak.table(
        {"steps": 1, "passes": 1.0, "seconds": 1.0, "metrics_mb": 0.0, "thirds": found}
    )
