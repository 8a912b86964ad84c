"""One side of `benchmarks.kernel`: holds what is timed ready, and runs one pass whenever it is asked.

    python -m benchmarks.kernel_worker REQUEST      # a JSON file; then one name per line on standard input

Each answer is one line of JSON. Between questions the process waits, so that two of them never run at once.
Only NumPy is imported here; each side imports its own library.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.protocol import Array

__all__ = ["Timed", "features", "main"]

# Features of a plain product with the pass's shapes take no more than this; its time is scaled up.
_FEATURE_BYTES = 2**30


@dataclass(frozen=True)
class Timed:
    """Something to be timed.

    Args:
        run: one measurement: wall and CPU seconds of one pass.
        facts: what a reader should know, as plain JSON.
    """

    run: Callable[[], tuple[float, float]]
    facts: Mapping[str, Any] = field(default_factory=dict)


def features(dim: int, covariance: str) -> int:
    """Natural features of a row: products of columns as far as the covariance has them, columns and 1."""
    return (dim * (dim + 1) // 2 if covariance == "full" else dim) + dim + 1


def main(request_path: str) -> None:
    """Make everything ready, then answer."""
    request = json.loads(Path(request_path).read_text())
    if request["cores"]:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: request["cores"]])
    folder = Path(request["folder"])
    x, labels = np.load(folder / "x.npy"), np.load(folder / "labels.npy")
    side: _Jax | _OneDal
    side = _Jax(request, x, labels) if request["side"] == "jax" else _OneDal(request, x)
    ready: dict[str, Timed] = {}
    for name in sys.stdin:
        name = name.strip()
        answer: dict[str, Any]
        if name in ready:
            wall, cpu = ready[name].run()
            answer = {"seconds": wall, "cpu_seconds": cpu}
        else:
            try:
                timed = side.make(name)
                timed.run()  # the first run also pages memory in
                ready[name], answer = timed, dict(timed.facts)
            except Exception as error:  # one of them must not end the others
                text = " ".join(str(error).split())
                answer = {"error": f"{type(error).__name__}: {text}"[:300]}
        print(json.dumps(answer), flush=True)


@contextmanager
def _lap() -> Iterator[list[float]]:
    out: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    yield out
    out += [time.perf_counter() - wall, time.process_time() - cpu]


class _Jax:
    """vigmm's passes, and plain products in the same process."""

    def __init__(self, request: Mapping[str, Any], x: Array, labels: Array) -> None:
        import jax

        self.request, self.labels = request, labels
        if request["devices"] > 1:
            jax.config.update("jax_num_cpu_devices", request["devices"])  # type: ignore[no-untyped-call]
        self.x = x

    def make(self, name: str) -> Timed:
        made: Timed = getattr(self, f"_{name}")()
        return made

    def _natural(self) -> Timed:
        import vigmm

        return self._pass(vigmm.Conjugate(), vigmm.Natural())

    def _pathwise(self) -> Timed:
        import vigmm

        return self._pass(vigmm.MeanField(), vigmm.Pathwise(num_samples=1))

    def _pass(self, family: Any, estimator: Any) -> Timed:
        """The bound and its gradient at the posterior of the true labels, as one program."""
        import jax
        import jax.numpy as jnp

        import vigmm
        from vigmm.core.typing import Batch
        from vigmm.data.sampler import Rows
        from vigmm.estimators import Objective
        from vigmm.models import COVARIANCES, DataScale
        from vigmm.train.step import first_params

        covariance = COVARIANCES[self.request["covariance"]]()
        model = vigmm.Mixture(num_components=self.request["components"], covariance=covariance)
        x = self.x
        one = np.ones(x.shape[1])
        scale = DataScale(mean=x.mean(0), cov=np.cov(x.T), center=0 * one, scale=one)
        prior = model.build_prior(scale, dtype=np.dtype(x.dtype))
        rows = Rows(x=jnp.asarray(x), weight=jnp.ones(len(x), x.dtype))
        key = jax.random.key(0)
        start = vigmm.LabelsStart(labels=self.labels).first(model, prior, rows, key)
        params = first_params(model, family, prior, start.params, prior)
        batch = Batch(x=rows.x, weight=rows.weight)
        if self.request["devices"] > 1:
            params, prior, key, batch = self._spread(params, prior, key, batch)
        objective = Objective(model=model, family=family, estimator=estimator)
        with _lap() as took:
            program = jax.jit(objective.estimate).lower(params, prior, batch, key).compile()
        memory: Any = program.memory_analysis()
        facts = {
            "compile_seconds": round(took[0], 2),
            "compile_cpu_seconds": round(took[1], 2),
            "working_mb": round(memory.temp_size_in_bytes / 2**20, 1),
            "elbo_per_row": float(program(params, prior, batch, key).elbo) / len(x),
        }
        return self._timed(lambda: program(params, prior, batch, key), facts)

    def _spread(self, *values: Any) -> tuple[Any, ...]:
        """Rows over the devices, everything else on each."""
        import jax
        from jax.sharding import AxisType, NamedSharding, PartitionSpec

        mesh = jax.make_mesh((self.request["devices"],), ("data",), axis_types=(AxisType.Auto,))
        *rest, batch = values
        spec: Any = PartitionSpec
        everywhere, rows = NamedSharding(mesh, spec()), NamedSharding(mesh, spec("data"))
        return (*(jax.device_put(one, everywhere) for one in rest), jax.device_put(batch, rows))

    def _product(self) -> Timed:
        """A square product with the flops of a pass: what this compiler reaches on this machine."""
        import jax
        import jax.numpy as jnp

        size = max(8, round((self.request["flops"] / 2) ** (1 / 3)))
        a = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), jnp.float32)
        program = jax.jit(lambda a, b: jnp.matmul(a, b, precision="highest"))
        return self._timed(lambda: program(a, a), {"size": size}, self.request["flops"] / (2 * size**3))

    def _product_numpy(self) -> Timed:
        """The same by NumPy's BLAS: what this machine reaches."""
        size = max(8, round((self.request["flops"] / 2) ** (1 / 3)))
        a = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)

        def run() -> tuple[float, float]:
            with _lap() as took:
                a @ a
            return took[0], took[1]

        return Timed(run, {"size": size})

    def _product_shaped(self) -> Timed:
        """The two products of a pass in its own shapes, features given: [n F] x [F K] and [K n] x [n F]."""
        import jax
        import jax.numpy as jnp

        width, count = features(self.x.shape[1], self.request["covariance"]), self.request["components"]
        rows = max(1, min(len(self.x), _FEATURE_BYTES // (4 * width)))
        rng = np.random.default_rng(0)
        left = jnp.asarray(rng.random((rows, width), dtype=np.float32))
        coef = jnp.asarray(rng.random((width, count), dtype=np.float32))
        resp = jnp.asarray(rng.random((rows, count), dtype=np.float32))

        def both(left: Any, coef: Any, resp: Any) -> Any:
            return jnp.matmul(left, coef, precision="highest"), jnp.matmul(resp.T, left, precision="highest")

        program = jax.jit(both)
        return self._timed(lambda: program(left, coef, resp), {"rows": rows}, len(self.x) / rows)

    def _timed(self, call: Callable[[], Any], facts: Mapping[str, Any], factor: float = 1.0) -> Timed:
        import jax

        jax.block_until_ready(call())  # type: ignore[no-untyped-call]

        def run() -> tuple[float, float]:
            with _lap() as took:
                jax.block_until_ready(call())  # type: ignore[no-untyped-call]
            return took[0] * factor, took[1] * factor

        return Timed(run, facts)


class _OneDal:
    """oneDAL's EM: the difference of a run of several iterations and a run of one, per iteration."""

    def __init__(self, request: Mapping[str, Any], x: Array) -> None:
        self.request, self.x = request, x

    def make(self, name: str) -> Timed:
        return self._em("float" if name == "onedal" else "double")

    def _em(self, kind: str) -> Timed:
        import daal4py  # type: ignore[import-not-found,unused-ignore]

        dtype = np.float32 if kind == "float" else np.float64
        x = np.ascontiguousarray(self.x, dtype)
        count = self.request["components"]
        rng = np.random.default_rng(0)
        # A start far from the end, so that the iterations that are asked for are made.
        means = np.ascontiguousarray(x[rng.choice(len(x), count, replace=False)])
        spread: Array = np.cov(np.asarray(x[:10_000], np.float64).T).astype(dtype)
        diag = self.request["covariance"] == "diag"
        covs = [np.diag(spread)[None].copy() if diag else spread.copy() for _ in range(count)]
        weights = np.full((1, count), 1 / count, dtype)
        several = 1 + self.request["iterations"]
        extra = {"covarianceStorage": "diagonal"} if diag else {}

        def go(iterations: int) -> tuple[int, float, float]:
            algorithm = daal4py.em_gmm(
                nComponents=count, fptype=kind, maxIterations=iterations, accuracyThreshold=0.0, **extra
            )
            with _lap() as took:
                made = algorithm.compute(x, weights, means, covs)
            return int(made.nIterations[0, 0]), took[0], took[1]

        def run() -> tuple[float, float]:
            one, many = go(1), go(several)
            if many[0] < 2:
                warnings.warn("oneDAL stopped at once", stacklevel=1)
                return float("nan"), float("nan")
            return (many[1] - one[1]) / (many[0] - 1), (many[2] - one[2]) / (many[0] - 1)

        return Timed(run, {"iterations": go(several)[0] - 1, "one_iteration_seconds": round(go(1)[1], 4)})


if __name__ == "__main__":
    main(*sys.argv[1:])
