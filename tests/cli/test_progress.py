"""What is shown while a run works."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vigmm.cli.progress import Bar, Lines, describe, reporter

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
