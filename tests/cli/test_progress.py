"""What is shown while a run works."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from vigmm.cli.progress import WRITE, Bar, Lines, describe, reporter
from vigmm.cli.reading import Reading
from vigmm.data.moments import compute_moments
from vigmm.data.sources import ArraySource

VALUES = {"elbo_per_row": -14.254, "holdout": -14.1, "effective_components": 12.34, "rate": 0.1}


def feed(show):
    show.start(10, "start")
    show.update(10, VALUES)
    show.finish()
    show.start(100, "fit")
    show.update(20, VALUES)
    show.update(50, VALUES)
    show.finish()
    show.close()


def test_lines_come_when_the_last_is_long_ago():
    stream = io.StringIO()
    feed(Lines(steps_per_pass=10, every=0.0, stream=stream))
    lines = stream.getvalue().splitlines()
    assert lines[0] == "start 100%  1.0/1 passes  ELBO/row -14.25  held-out -14.10  K 12.3"
    assert lines[1] == "fit  20%  2.0/10 passes  ELBO/row -14.25  held-out -14.10  K 12.3"
    assert lines[2].startswith("fit  50%  ")
    assert "s left  5.0/10 passes" in lines[2]
    assert len(lines) == 3


def test_a_short_run_writes_no_line():
    stream = io.StringIO()
    feed(Lines(stream=stream))
    assert stream.getvalue() == ""


@pytest.mark.parametrize("colour", [False, True])
def test_the_bar(colour):
    stream = io.StringIO()
    feed(
        Bar(
            steps_per_pass=10,
            console=Console(file=stream, force_terminal=True, width=100, no_color=not colour),
        )
    )
    text = stream.getvalue()
    assert "5.0/10 passes  ELBO/row -14.25  held-out -14.10  K 12.3" in text
    assert "50%" in text
    assert ("\x1b[38" in text or "\x1b[3" in text) is colour


def test_the_bar_fits_eighty_columns():
    stream = io.StringIO()
    feed(Bar(steps_per_pass=10, console=Console(file=stream, width=80, no_color=True)))
    (*_, last, _) = stream.getvalue().splitlines()
    assert last.startswith("fit ")
    assert last.rstrip().endswith("ELBO/row -14.25  held-out -14.10  K 12.3")


def test_what_is_unknown_is_not_shown():
    assert describe({"holdout": float("nan"), "elbo": 3.0}, 1, 2, None) == ""


def test_quiet_is_nothing():
    assert reporter(quiet=True) is None


def test_a_pipe_gets_lines(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(reporter(quiet=False), Lines)


class Heard:
    """A reporter that remembers."""

    def __init__(self):
        self.heard = []

    def start(self, total_steps, phase):
        self.heard.append((phase, total_steps))

    def update(self, step, values):
        self.heard.append(step)

    def finish(self):
        self.heard.append("finish")

    def close(self):
        self.heard.append("close")


def test_reading_is_a_phase_and_so_is_looking_for_a_start():
    show = Heard()
    reading = Reading(ArraySource(np.arange(200.0).reshape(100, 2), columns=("a", "b")), show)
    assert show.heard == []
    compute_moments(reading.source, chunk=60)
    assert show.heard == [("read", 200), 60, 100]
    assert reading.source[np.arange(95)].shape == (95, 2)
    assert reading.source[np.arange(5)].shape == (5, 2)
    assert show.heard[3:] == [195, 200, "finish", ("start", 0)]
    del show.heard[:]
    reading.source[0:50]
    reading.start(10, "search")
    reading.update(3, {"elbo": 1.0})
    reading.finish()
    reading.close()
    assert show.heard == [("search", 10), 3, "finish", "close"]
    # It is the same source in all else.
    assert (reading.source.columns, reading.source.dim, len(reading.source)) == (("a", "b"), 2, 100)
    assert not hasattr(reading.source, "height")


def test_a_phase_that_begins_before_all_is_read_ends_reading():
    show = Heard()
    reading = Reading(ArraySource(np.zeros((100, 2))), show, passes=3)
    reading.source[0:100]
    reading.start(10, "fit")
    reading.source[0:100]
    assert show.heard == [("read", 300), 100, "finish", ("fit", 10)]


def test_writing_reads_too_and_nothing_follows():
    show = Heard()
    reading = Reading(ArraySource(np.zeros((100, 2))), show, phase=WRITE, passes=1, then=None)
    reading.source[0:100]
    reading.source[0:10]
    assert show.heard == [("write", 100), 100, "finish"]


def test_the_bars_of_reading_and_of_a_start_without_an_end_in_sight():
    stream = io.StringIO()
    bar = Bar(steps_per_pass=10, console=Console(file=stream, width=100, no_color=True))
    reading = Reading(ArraySource(np.zeros((100, 2))), bar, passes=1)
    reading.source[0:100]
    reading.start(10, "start")  # the same phase, with steps now
    reading.update(5, VALUES)
    reading.finish()
    reading.start(100, "fit")
    reading.update(100, VALUES)
    reading.finish()
    reading.close()
    read, start, fit, evaluate = stream.getvalue().splitlines()
    assert read.split()[0] == "read"
    assert "100%" in read
    assert "passes" not in read
    assert start.split()[0] == "start"
    assert "50%" in start
    assert fit.split()[0] == "fit"
    assert evaluate.split()[0] == "evaluate"


def test_a_start_that_search_follows_is_over():
    stream = io.StringIO()
    bar = Bar(console=Console(file=stream, width=100, no_color=True))
    bar.start(0, "start")
    bar.start(8, "search")
    bar.update(8, VALUES)
    bar.close()
    start, search, *_ = stream.getvalue().splitlines()
    assert "100%" in start
    assert "compiling" not in start
    assert "100%" in search


def test_lines_tell_how_long_reading_takes():
    stream = io.StringIO()
    lines = Lines(every=0.0, stream=stream)
    reading = Reading(ArraySource(np.zeros((100, 2))), lines, passes=1)
    for at in (0, 50):
        reading.source[at : at + 50]
    first, second = stream.getvalue().splitlines()
    assert first.startswith("read  50%")
    assert second.startswith("read 100%  0 s left")
