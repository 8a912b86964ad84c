"""``data.on_bad_rows: skip`` in a run: what is left out is counted, and rows keep their numbers."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq


def test_a_run_without_its_bad_rows(vigmm, job, table, fitted, tmp_path):
    head, *lines = table.read_text().splitlines()
    bad = {0: ",1.0,odd", 5: "2.0,inf,even", 602: "nan,,odd"}
    for number, line in sorted(bad.items()):
        lines.insert(number, line)
    (tmp_path / "bad.csv").write_text("\n".join([head, *lines]) + "\n")
    path = job(path=tmp_path / "bad.csv")
    refused = vigmm("fit", path)
    assert refused.exit_code == 3
    assert "row 0, column 'width' is NaN" in refused.stderr
    done = vigmm("fit", path, "--set", "data.on_bad_rows=skip", "--set", "output.plots=false")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "600 rows of 2 (width, height); 3 more with a NaN or an infinity were skipped" in done.stdout
    found = pq.read_table(tmp_path / "run" / "assignments.parquet")
    assert found["row"].to_pylist() == np.delete(np.arange(603), list(bad)).tolist()
    expected = pq.read_table(fitted / "assignments.parquet")
    assert found.drop(["row"]).equals(expected.drop(["row"])), "the same fit as without the rows"
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["data"]["skipped_rows"] == 3
    assert manifest["data"]["rows"] == 600
