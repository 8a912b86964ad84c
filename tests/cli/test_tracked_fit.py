"""``track:`` in a configuration: what vigmm fit tells other programs, and what stops it."""

from __future__ import annotations

import sys

import pytest

from tests.tracking.test_tracking import records


@pytest.mark.slow  # a fit
def test_a_fit_is_tracked(vigmm, job, tmp_path):
    pytest.importorskip("tensorboardX")
    done = vigmm("fit", job("track: tensorboard\n"), "--set", "output.plots=false")
    assert done.exit_code == 0, (done.output, done.exception)
    tags = {value.tag for _, value in records(tmp_path / "run" / "tensorboard")}
    assert {"fit/elbo_per_row", "fit/holdout", "search/elbo", "final/elbo", "final/components"} <= tags


def test_a_tracker_that_cannot_begin_stops_the_run_before_it_starts(vigmm, job, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    done = vigmm("fit", job("track: tensorboard\n"))
    assert done.exit_code == 4
    assert "pip install 'vigmm[tensorboard]', or leave tensorboard out of track" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["job.yaml"]
