"""A long run by simulation: thousands of small streamed steps, a checkpoint after every chunk of them.

    python -m benchmarks.soak                 # writes results/soak.json and soak.md; 1 where something grew
    python -m benchmarks.soak --steps 2000 --dry

Memory, open files and threads of the process are noted after every chunk. The first tenth, in which programs
are compiled and pools are filled, is left out; the rest is cut into thirds, and the medians of the first and
the last third are compared. Resident memory may grow by 5 %; files, threads and the arrays that JAX holds not
at all. Metrics of every step are kept until the run ends: their bytes are stated, and counted with the rest.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import judging

__all__ = ["GROWTH", "Watch", "main", "soak", "table", "verdict"]

GROWTH = 0.05
STEPS, ROWS, DIM, COMPONENTS = 20_000, 40_000, 4, 5
_WARM = 0.1
_WHAT = ("rss_mb", "files", "threads", "arrays", "array_mb")

_HEAD = """# Soak

Made by `python -m benchmarks.soak`; do not edit. Medians over the first and the last third of a streamed run,
its first tenth left out; *growth* is that of the last third over the first. Memory may grow by {growth:.0%},
the rest not at all.
"""


class Watch:
    """A `Progress` that notes what the process holds after every chunk."""

    def __init__(self) -> None:
        self.notes: list[dict[str, float]] = []

    def start(self, total_steps: int, phase: str) -> None:
        """Nothing."""

    def update(self, step: int, values: dict[str, float]) -> None:
        """Note it."""
        import jax

        gc.collect()
        live = jax.live_arrays()  # type: ignore[no-untyped-call]
        self.notes.append(
            {
                "step": step,
                "rss_mb": _resident_mb(),
                "files": len(os.listdir("/proc/self/fd")),
                "threads": threading.active_count(),
                "arrays": len(live),
                "array_mb": sum(array.nbytes for array in live) / 2**20,
            }
        )

    def finish(self) -> None:
        """Nothing."""


def _resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError("the system does not say how much memory is resident")


def soak(steps: int, folder: Path) -> dict[str, Any]:
    """One run of so many steps; `folder` gets its data and checkpoints."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    import vigmm
    from vigmm.data.synthetic import gaussian_mixture
    from vigmm.train import Checkpointing, Checkpoints

    (folder / "rows").mkdir()
    x = gaussian_mixture(ROWS, DIM, COMPONENTS, seed=0).x
    for number, part in enumerate(np.array_split(x, 8)):
        rows = pa.table({f"x{i}": part[:, i] for i in range(DIM)})
        pq.write_table(rows, folder / "rows" / f"{number}.parquet", row_group_size=1_000)
    watch, began = Watch(), time.perf_counter()
    checkpoints = Checkpoints(folder / "checkpoints", Checkpointing(seconds=0.0))
    # A handful of batches in a portion: portions are read, put on the device and let go all the time.
    config = vigmm.Train(
        batch_size=250, max_steps=steps, min_steps=1, passes=1e9, tolerance=0.0, chunk_steps=25, stream=True,
        portion_mb=0.1,
    )  # fmt: skip
    fit = vigmm.fit(
        str(folder / "rows"), model=vigmm.Mixture(num_components=COMPONENTS), moves=None, train=config,
        start=vigmm.RandomStart(rows=2_000, restarts=2, steps=20), optimizer=vigmm.RobbinsMonro(),
        progress=watch, checkpoints=checkpoints,
    )  # fmt: skip
    written = sorted(checkpoints.folder.glob("fit-*.json"))
    log = sum(values.nbytes for values in fit.metrics.values()) / 2**20
    return {
        "steps": int(fit.outcome.step),
        "passes": fit.outcome.step / config.steps_per_pass(ROWS, DIM, "float32"),
        "checkpoints_kept": len(written),
        "metrics_mb": round(log, 3),
        "seconds": round(time.perf_counter() - began, 1),
        "outcome": fit.outcome.message,
        "thirds": verdict(watch.notes),
        "notes": watch.notes[:: max(1, len(watch.notes) // 200)],
    }


def verdict(notes: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Medians of the first and the last third, and whether what grew may have grown."""
    kept = notes[int(_WARM * len(notes)) :]
    third = max(1, len(kept) // 3)
    found = {}
    for what in _WHAT:
        first, last = (median(one[what] for one in some) for some in (kept[:third], kept[-third:]))
        growth = last / first - 1.0
        allowed = GROWTH if what == "rss_mb" else 0.0
        found[what] = {"first": first, "last": last, "growth": round(growth, 4), "ok": growth <= allowed}
    return found


def table(document: Mapping[str, Any]) -> str:
    """Everything, as text."""
    rows = [
        [
            name,
            round(one["first"], 2),
            round(one["last"], 2),
            f"{one['growth']:.1%}",
            "yes" if one["ok"] else "NO",
        ]
        for name, one in document["thirds"].items()
    ]
    about = (
        f"{document['steps']:,} steps ({document['passes']:.0f} passes) in {document['seconds']:.0f} s, a "
        f"checkpoint after every chunk of 25; {document['metrics_mb']:.2f} MB of metrics.\n"
    )
    head = _HEAD.format(growth=GROWTH)
    return "\n".join([head, about, judging.markdown(["what", "first", "last", "growth", "within"], rows)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print and write; 1 where something grew."""
    parser: argparse.ArgumentParser = judging.options(__doc__, "soak")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="vigmm-soak-") as folder:
        document = soak(2_000 if options.quick else options.steps, Path(folder))
    text = table(document)
    print(text)
    if not options.dry:
        judging.write(options.out, "soak", document, text)
    return int(not all(one["ok"] for one in document["thirds"].values()))


if __name__ == "__main__":
    sys.exit(main())
