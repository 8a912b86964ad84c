"""Rows per second of training from files, against the same training on rows in memory.

    python -m benchmarks.streaming                     # writes results/streaming.json and streaming.md
    python -m benchmarks.streaming --repeats 3 --only memory parquet --batch 1024 --dry

One run is `vigmm.train.train` as a fit calls it (natural gradients, minibatches, held-out density after every
chunk), for some passes from the posterior of the true labels; it reads what a fit would read.

- *memory*: all rows on the device. *npy*: one memory-mapped file, in a stream. *parquet*: a folder as
  ``vigmm shuffle`` writes it, in a stream.

All are compiled before anything is timed, and then alternate; a ratio is the median of the ratios within a
round. The run of a stream begins with nothing read: the first portion is waited for, and counted. The files
are in the system's cache after the first round, so that this is the cost of decoding and copying, not of a
disk. *stall* is the share of a run's seconds in which it waited for rows, *beyond the first* without the
first portion.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import judging

__all__ = ["FORMS", "main", "measure", "summary", "table"]

FORMS = ("memory", "npy", "parquet")
ROWS, DIM, COMPONENTS = 2_000_000, 16, 50
BATCHES = (1_024, 16_384)
TARGET = 0.7
_HELD = 5_000

_HEAD = """# Training from files

Made by `python -m benchmarks.streaming`; do not edit. Million rows per second of training, medians over
rounds, least and greatest in brackets; *of memory* is the median of the ratios within a round, by wall and by
CPU time of all threads (CPU seconds in memory by those of the stream). *stall* is the share of the seconds in
which the run waited for rows, the first portion included; *beyond the first* without it. The target is
at least {target:.0%} from Parquet. Files are in the system's cache.
"""


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All rounds of all sizes of batches."""
    from vigmm.data.synthetic import gaussian_mixture

    data = gaussian_mixture(options.rows, DIM, COMPONENTS, seed=0)
    with tempfile.TemporaryDirectory(prefix="vigmm-streaming-") as home:
        sources = _sources(data.x, Path(home))
        reading = {name: _reading(name, sources, options) for name in options.only if name != "memory"}
        records = [_of_batch(size, data, sources, options) for size in options.batch]
    return {
        "rows": options.rows,
        "dim": DIM,
        "components": COMPONENTS,
        "passes": options.passes,
        "portion_mb": options.portion_mb,
        "reading": reading,
        "batches": records,
    }


def _sources(x: np.ndarray, home: Path) -> dict[str, Any]:
    from vigmm.data.arrays import ArraySource
    from vigmm.data.sources import DataFile
    from vigmm.rundir.shuffle import shuffle

    np.save(home / "rows.npy", x)
    memory = ArraySource(x)
    shuffle(memory, home / "rows", format="parquet")
    return {
        "memory": memory,
        "npy": DataFile(str(home / "rows.npy")).open(),
        "parquet": DataFile(str(home / "rows")).open(),
    }


def _of_batch(
    size: int, data: Any, sources: Mapping[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    runs = {name: _run_of(name, size, data, sources, options) for name in options.only}
    for name, run in runs.items():
        _say(f"batches of {size:,}: {name} (compiles)")
        run()
    rounds = []
    for number in range(options.repeats):
        load = os.getloadavg()[0]
        runs_now = {name: run() for name, run in runs.items()}
        rounds.append({"load": round(load, 2), "runs": runs_now})
        speeds = ", ".join(f"{name} {one['rows_per_second']:,.0f}" for name, one in runs_now.items())
        _say(f"  round {number + 1}: {speeds} rows/s")
    return {"batch": size, "summary": summary(rounds), "rounds": rounds}


def _reading(name: str, sources: Mapping[str, Any], options: argparse.Namespace) -> dict[str, float]:
    """A pass of portions that nobody trains on: MB of float32 rows per second, by wall and by CPU time."""
    from vigmm.core import rng
    from vigmm.data.feed import open_feed
    from vigmm.data.intake import survey
    from vigmm.data.sampler import Minibatch
    from vigmm.data.stream import Stream

    source = sources[name]
    standard = survey(source, None, missing=False, dtype="float32").standardizer
    portion = int(options.portion_mb * 2**20 / (4 * (DIM + 1)))
    stream = Stream(source, standard, np.dtype("float32"), portion)
    found = []
    for number in range(options.repeats + 1):
        with open_feed(stream, Minibatch(stream.rows_per_portion), rng.root_key(number)) as feed:
            wall, cpu = time.perf_counter(), time.process_time()
            for step in range(feed.steps_per_pass):
                feed.at(step)
            # The last portion is there: one thread has read a pass, and has hardly begun with what follows.
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        found.append((4e-6 * len(source) * DIM / wall, 4e-6 * len(source) * DIM / cpu))
    rates = found[1:]  # the first one fills the system's cache
    return {
        "mb_per_second": median(rate for rate, _ in rates),
        "mb_per_cpu": median(rate for _, rate in rates),
    }


def _run_of(
    name: str, size: int, data: Any, sources: Mapping[str, Any], options: argparse.Namespace
) -> Callable[[], dict[str, float]]:
    """One run of training, timed."""
    import jax

    import vigmm
    from vigmm.core import rng
    from vigmm.data.intake import survey, take_in
    from vigmm.estimators import Objective
    from vigmm.families import Conjugate
    from vigmm.models import DataScale
    from vigmm.optim import RobbinsMonro
    from vigmm.train import Train, first_params
    from vigmm.train import train as run_training

    source, root = sources[name], rng.root_key(0)
    config = Train(
        batch_size=size, passes=options.passes, min_steps=1, tolerance=0.0, stream=name != "memory",
        portion_mb=options.portion_mb,
    )  # fmt: skip
    seen = survey(source, None, missing=False, dtype="float32")
    intake = take_in(
        source, seen, dtype="float32", holdout=0.05, most_held=_HELD, sample=20_000, key=root,
        portion=config.portion(DIM, "float32") if config.stream else None,
    )  # fmt: skip
    model = vigmm.Mixture(num_components=COMPONENTS)
    moments, standard = seen.moments, seen.standardizer
    scale = DataScale(
        mean=moments.mean, cov=moments.cov, center=standard.center, scale=standard.scale, low=moments.minimum,
        high=moments.maximum,
    )  # fmt: skip
    prior = model.build_prior(scale, dtype=np.dtype("float32"))
    # A partition from the true parameters: the order of a shuffled folder is not that of the labels.
    sample = intake.sample
    theirs = data.responsibilities(standard.inverse(np.asarray(sample.x))).argmax(axis=1)
    start = vigmm.LabelsStart(labels=theirs).first(model, prior, sample, rng.stream(root, "start"))
    objective = Objective(model=model, family=Conjugate(), estimator=vigmm.Natural())
    params = first_params(model, objective.family, prior, start.params, prior)
    jax.block_until_ready(params)  # type: ignore[no-untyped-call]
    per_pass = config.steps_per_pass(intake.data.num_rows, DIM, "float32")

    def run() -> dict[str, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        made = run_training(
            objective, RobbinsMonro(), params, prior, intake.data, intake.held.rows, root, config=config
        )
        seconds, spent = time.perf_counter() - wall, time.process_time() - cpu
        steps, seen_rows = len(made.metrics["step"]), intake.data.num_rows
        assert made.outcome.ok, made.outcome.message
        waited = made.metrics["stall"] * made.metrics["seconds"]
        return {
            "seconds": seconds,
            "cpu_seconds": spent,
            "rows_per_second": steps / per_pass * seen_rows / seconds,
            "stall": float(waited[-1]) / seconds,
            "stall_after": float(waited[-1] - waited[0]) / seconds,
            "elbo": float(made.metrics["elbo"][-1]),
        }

    return run


def summary(rounds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians, extremes, and ratios to the run in memory of the same round."""
    out: dict[str, Any] = {}
    for name in rounds[0]["runs"] if rounds else ():
        runs = [one["runs"][name] for one in rounds]
        speeds = [run["rows_per_second"] for run in runs]
        mine: dict[str, Any] = {
            "rows_per_second": {"median": median(speeds), "min": min(speeds), "max": max(speeds)},
            "stall": median(run["stall"] for run in runs),
            "stall_after": median(run["stall_after"] for run in runs),
        }
        if name != "memory" and "memory" in rounds[0]["runs"]:
            pairs = [(one["runs"][name], one["runs"]["memory"]) for one in rounds]
            speed = [a["rows_per_second"] / b["rows_per_second"] for a, b in pairs]
            work = [b["cpu_seconds"] / a["cpu_seconds"] for a, b in pairs]
            mine["of_memory"], mine["of_memory_cpu"] = round(median(speed), 3), round(median(work), 3)
        out[name] = mine
    return out


def table(document: Mapping[str, Any]) -> str:
    """Everything, as text."""
    parts = [_HEAD.format(target=TARGET) + judging.SHARED + "\n"]
    parts.append(
        f"N = {document['rows']:,}, D = {document['dim']}, K = {document['components']}, float32; "
        f"{document['passes']:g} passes a run, portions of {document['portion_mb']:g} MiB.\n"
    )
    columns = ["batch", "rows from", "M rows/s", "of memory", "of memory CPU", "stall", "beyond the first"]
    rows = []
    for one in document["batches"]:
        for name, mine in one["summary"].items():
            speeds = (1e-6 * mine["rows_per_second"][key] for key in ("median", "min", "max"))
            spread = "{:.3f} ({:.3f} to {:.3f})".format(*speeds)
            shares = [round(mine[key], 3) for key in ("stall", "stall_after")]
            rows.append(
                [one["batch"], name, spread, mine.get("of_memory"), mine.get("of_memory_cpu"), *shares]
            )
    parts.append(judging.markdown(columns, rows))
    columns = ["reading alone, from", "MB/s", "MB per CPU second"]
    rates = [[name, *map(round, one.values())] for name, one in document["reading"].items()]
    parts.append(judging.markdown(columns, rates))
    loads = [at["load"] for one in document["batches"] for at in one["rounds"]]
    if loads:
        parts.append(f"Load {min(loads):.1f} to {max(loads):.1f}.\n")
    return "\n".join(parts)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; 1 where the target is missed."""
    parser = judging.options(__doc__, "streaming")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--passes", type=float, default=5.0, help="passes in a run (default 5)")
    parser.add_argument("--portion-mb", type=float, default=64.0)
    parser.add_argument("--batch", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--only", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rows, options.repeats, options.passes = 50_000, 1, 2.0
        options.batch, options.portion_mb = [BATCHES[0]], 1.0
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    document = measure(options)
    text = table(document)
    print(text)
    if not options.dry:
        judging.write(options.out, "streaming", document, text)
    found = [one["summary"].get("parquet", {}).get("of_memory") for one in document["batches"]]
    return int(any(ratio is not None and ratio < TARGET for ratio in found))


if __name__ == "__main__":
    raise SystemExit(main())
