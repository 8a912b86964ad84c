"""The guard of the kernel: one full pass over the rows against a plain matrix product and against oneDAL.

    python -m benchmarks.kernel                      # all shapes; writes results/kernel.json and kernel.md
    python -m benchmarks.kernel --shape 200000 16 20 --only natural product --repeats 15

- *natural*: responsibilities and all statistics (`vigmm.estimators.Natural.estimate`), one compiled program.
- *pathwise*: value and gradient (`vigmm.estimators.Pathwise.estimate`, one sample).
- *product*, *product_numpy*: a square float32 product with the flops of a pass, by XLA in the same process
  and by NumPy. *product_shaped*: the two products of a pass in its own shapes, features given.
- *onedal*, *onedal_double*: one iteration of ``daal4py.em_gmm``, single and double precision: the difference
  of a run of several iterations and one of one.

Flops of a pass are those of the fewest products known: 4 N K F, with F = D(D+1)/2 + D + 1 features (2D + 1
for diagonal covariances). Everything alternates (A B C, A B C, ...); a ratio is the median of the ratios
within a round, so that a change of the machine's load meets both sides. Wall seconds say what a user waits,
CPU seconds what the work costs, whoever else wants the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks import judging
from benchmarks.environments import EnvironmentFailure, default_cache, interpreter
from benchmarks.kernel_worker import features
from benchmarks.processes import ROOT, surroundings

__all__ = ["NAMES", "Shape", "flops", "main", "summary", "table"]

OURS = ("natural", "pathwise")
PRODUCTS = ("product", "product_shaped", "product_numpy")
PEERS = ("onedal", "onedal_double")
NAMES = (*OURS, *PRODUCTS, *PEERS)
# What the ratios of the table are against.
AGAINST = ("product", "onedal")


class Shape(NamedTuple):
    """Rows, columns and components."""

    rows: int
    dim: int
    components: int


SHAPES = (Shape(200_000, 16, 20), Shape(100_000, 64, 20), Shape(10_000, 8, 10), Shape(2_000_000, 16, 50))
QUICK = (Shape(200_000, 16, 20),)

_HEAD = """# A pass over the rows

Made by `python -m benchmarks.kernel`; do not edit. *ms* are medians over rounds, least and greatest in
brackets; GFLOP/s count 4 N K F flops in a pass, whatever was computed, by wall time. *of product* is the time
by that of a square product of the same flops in the same program, *of oneDAL* by one iteration of oneDAL's EM
in single precision: medians of the ratios within a round, by wall and by CPU time.
"""


def flops(shape: Shape, covariance: str) -> float:
    """4 N K F: two products of N rows, F features and K components."""
    return 4.0 * shape.rows * shape.components * features(shape.dim, covariance)


class _Side:
    """A worker process, asked over pipes."""

    def __init__(self, python: Path, side: str, request: Mapping[str, Any], folder: Path) -> None:
        path = folder / f"{side}.json"
        path.write_text(json.dumps({**request, "side": side, "folder": str(folder)}))
        self._errors = (folder / f"{side}.err").open("w+")
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.kernel_worker", str(path)],
            cwd=ROOT, env=surroundings(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
        )  # fmt: skip

    def ask(self, name: str) -> dict[str, Any]:
        """Its answer.

        Raises:
            RuntimeError: with the last line of what it said, if the process ended instead.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(name + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise RuntimeError((self._errors.read().strip() or "no message").splitlines()[-1])
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it: it reads names until there are no more."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def measure(shape: Shape, names: Sequence[str], options: argparse.Namespace) -> dict[str, Any]:
    """All rounds of one shape."""
    request = {
        "components": shape.components,
        "covariance": options.covariance,
        "flops": flops(shape, options.covariance),
        "devices": options.devices,
        "cores": options.cores,
        "iterations": options.iterations or (10 if flops(shape, options.covariance) < 5e9 else 3),
    }
    facts: dict[str, Any] = {}
    errors: dict[str, str] = {}
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="vigmm-kernel-") as scratch:
        folder = Path(scratch)
        _save_rows(shape, folder)
        sides: dict[str, _Side] = {}
        try:
            for name in names:
                kind = "onedal" if name in PEERS else "jax"
                try:
                    if kind not in sides:
                        own = interpreter("onedal", options.cache, say=_say) if kind == "onedal" else None
                        sides[kind] = _Side(own or Path(sys.executable), kind, request, folder)
                    answer = sides[kind].ask(name)
                    if "error" in answer:
                        errors[name] = answer["error"]
                    else:
                        facts[name] = answer
                except (EnvironmentFailure, RuntimeError) as error:
                    # The process is gone, and what else it held ready with it.
                    gone = [one for one in facts if (one in PEERS) == (name in PEERS)]
                    errors |= {one: str(error) for one in (*gone, name)}
                    facts = {one: about for one, about in facts.items() if one not in gone}
                    if kind in sides:
                        sides.pop(kind).close()
            for name, why in errors.items():
                _say(f"  {name}: {why}")
            alive = [name for name in names if name in facts]
            for _ in range(options.repeats):
                load = os.getloadavg()[0]
                now = {name: sides["onedal" if name in PEERS else "jax"].ask(name) for name in alive}
                rounds.append({"load": round(load, 2), "times": now})
        finally:
            for side in sides.values():
                side.close()
    record = {**shape._asdict(), "covariance": options.covariance, "flops": flops(shape, options.covariance)}
    record |= {"devices": options.devices, "cores": options.cores, "facts": facts, "errors": errors}
    return {**record, "summary": summary(rounds, record["flops"]), "rounds": rounds}


def _save_rows(shape: Shape, folder: Path) -> None:
    """Overlapping Gaussians, centred and divided by each column's standard deviation, as `vigmm.fit` does."""
    from vigmm.data.synthetic import gaussian_mixture

    data = gaussian_mixture(shape.rows, shape.dim, shape.components, seed=0)
    x = (data.x - data.x.mean(0)) / data.x.std(0)
    np.save(folder / "x.npy", x.astype(np.float32))
    np.save(folder / "labels.npy", data.labels)


def summary(rounds: Sequence[Mapping[str, Any]], work: float) -> dict[str, Any]:
    """Medians, extremes, and paired ratios."""
    out: dict[str, Any] = {}
    for name in rounds[0]["times"] if rounds else ():
        mine: dict[str, Any] = {}
        for clock in ("seconds", "cpu_seconds"):
            values = [one["times"][name][clock] for one in rounds]
            mine[clock] = {"median": median(values), "min": min(values), "max": max(values)}
            for other in AGAINST:
                if other in rounds[0]["times"] and other != name:
                    ratios = [
                        one["times"][name][clock] / max(one["times"][other][clock], 1e-9) for one in rounds
                    ]
                    mine[f"{clock}_of_{other}"] = round(median(ratios), 3)
        mine["gflops"] = round(work / mine["seconds"]["median"] / 1e9, 1)
        out[name] = mine
    return out


def table(document: Mapping[str, Any]) -> str:
    """Everything, as text."""
    parts = [_HEAD + judging.SHARED + "\n"]
    for one in document["shapes"]:
        loads = [at["load"] for at in one["rounds"]] or [float("nan")]
        parts.append(
            f"## N = {one['rows']:,}, D = {one['dim']}, K = {one['components']}, {one['covariance']}\n\n"
            f"{one['flops'] / 1e9:.3g} GFLOP a pass; {len(one['rounds'])} rounds, {one['devices']} device(s)"
            f" of JAX, {one['cores'] or 'all'} cores, load {min(loads):.1f} to {max(loads):.1f}.\n"
        )
        columns = ["what", "wall ms", "CPU ms", "GFLOP/s", "of product", "of product CPU", "of oneDAL"]
        columns += ["of oneDAL CPU", "compile s", "working MB"]
        rows = []
        for name, mine in one["summary"].items():
            row: list[Any] = [f"`{name}`", _ms(mine["seconds"]), _ms(mine["cpu_seconds"]), mine["gflops"]]
            row += [
                mine.get(f"{clock}_of_{other}") for other in AGAINST for clock in ("seconds", "cpu_seconds")
            ]
            facts = one["facts"][name]
            rows.append([*row, facts.get("compile_seconds"), facts.get("working_mb")])
        parts.append(judging.markdown(columns, rows))
        parts += [f"`{name}` failed: {error}\n" for name, error in one["errors"].items()]
    return "\n".join(parts)


def _ms(spread: Mapping[str, float]) -> str:
    middle, least, most = (1e3 * spread[name] for name in ("median", "min", "max"))
    return f"{middle:.1f} ({least:.1f} to {most:.1f})"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernel", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    groups = {"ours": (*OURS, "product"), "all": NAMES, **{name: (name,) for name in NAMES}}
    parser.add_argument("--only", nargs="+", choices=groups, default=["all"], metavar="NAME")
    parser.add_argument("--shape", nargs=3, type=int, action="append", metavar=("N", "D", "K"))
    parser.add_argument("--quick", action="store_true", help="the first shape only")
    parser.add_argument("--repeats", type=int, default=9, help="rounds (default 9)")
    parser.add_argument("--covariance", choices=("full", "diag"), default="full")
    parser.add_argument(
        "--devices", type=int, default=1, help="CPU devices that JAX gets; rows are shared out"
    )
    parser.add_argument("--cores", type=int, default=0, help="pin both sides to so many cores")
    parser.add_argument("--iterations", type=int, help="iterations of oneDAL in the difference (10 or 3)")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where environments are kept")
    parser.add_argument("--out", type=Path, default=judging.RESULTS)
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    options = parser.parse_args(arguments)
    if options.repeats < 1:
        parser.error(f"--repeats must be at least 1, got {options.repeats}")
    names = list(dict.fromkeys(name for group in options.only for name in groups[group]))
    chosen = [Shape(*one) for one in options.shape or ()] or list(QUICK if options.quick else SHAPES)
    document: dict[str, Any] = {"shapes": []}
    for shape in chosen:
        _say(f"{shape.rows:,} x {shape.dim}, K = {shape.components}")
        document["shapes"].append(measure(shape, names, options))
        if not options.dry:
            judging.write(options.out, "kernel", document, table(document))
    print(table(document))
    return int(any(one["errors"] for one in document["shapes"]))


if __name__ == "__main__":
    raise SystemExit(main())
