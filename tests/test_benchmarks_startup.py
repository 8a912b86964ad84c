"""How the benchmark of start-up reads what JAX told of its compilations."""

from __future__ import annotations

from benchmarks.startup import by_program, table


def span(kind, program, start, seconds, **more):
    return {"kind": kind, "program": program, "start": start, "seconds": seconds, **more}


SPANS = [
    span("trace", "_held", 1.0, 2.0),
    span("trace", "inner", 1.5, 0.5),  # within the one before it
    span("lower", "jit__held", 3.0, 1.0),
    span("compile", "jit(_held)", 4.0, 5.0, hit=False, cpu=12.0),
    span("compile", "jit(_held)", 10.0, 0.5, hit=True, cpu=13.0),
]


def test_traces_within_traces_count_once():
    (held,) = by_program(SPANS)
    assert held == {
        "program": "_held", "times": 2, "found": 1, "trace": 2.0, "lower": 1.0, "compile": 5.5, "ready": 9.0,
        "cpu": 12.0,
    }  # fmt: skip


def test_the_table_names_every_program():
    laps = {"imports": 1.0, "end": 12.0}
    one = {"load": 0.5, "cpu_seconds": 3.0, "laps": laps, "first_step": 9.0, "first_step_cpu": 12.0}
    one |= {"compiled": 2, "found": 1, "trace": 2.0, "lower": 1.0, "compile": 5.5}
    one["programs"] = by_program(SPANS)
    text = table({"repeats": 1, "jobs": {"iris": {"none": one, "warm": one}}})
    assert "`python -m benchmarks.startup`" in text
    assert "| iris | warm | 1 | 9 | 12 | 12 | 3 | 1 | 1 | 2 | 1 | 5.5 | 0.5 |" in text
    assert "| _held | 2 | 2 | 1 | 5.5 | 5.5 |" in text
