"""Jobs that are planned; nothing is fitted."""

from __future__ import annotations

import pytest

from vigmm.config import Job
from vigmm.data.sources import DataFile
from vigmm.models import Mixture
from vigmm.train import Train


@pytest.fixture
def job():
    """Makes a job of K components with choices for `train`."""

    def make(components=16, *, data="rows.parquet", train=None, **choices):
        model = choices.pop("model", Mixture(num_components=components))
        return Job(DataFile(data), model=model, train=Train(**(train or {})), **choices)

    return make
