"""What a run will take, from its configuration and the size of its data: memory, work and time."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from vigmm.config import Job
from vigmm.core.struct import require
from vigmm.data.device import fits
from vigmm.families import Conjugate, MeanField
from vigmm.models import Full
from vigmm.planning.devices import Devices
from vigmm.planning.memory import Table, on_devices, on_host
from vigmm.planning.steps import Floor, Sizes, floor, sizes
from vigmm.planning.traffic import Traffic, traffic

__all__ = ["READ_RATE", "READ_SOURCE", "Plan", "Step", "Table", "as_dict", "make_plan", "step_of"]

READ_RATE = 590e6
READ_SOURCE = "benchmarks/results/streaming.md: Parquet, per CPU second of the thread that reads"
# Bytes for each row of a batch over several devices, to find out which of them are here, compiled with D = K
# = 16. Each of 4 H100 moves 54.7 MB in a step of 50,000 rows, each of 64 moves 77.0 MB in one of 800,000. A
# v5e scatters slowly: it moves 134 MB in a step of 50,000 rows on its own, and 482 MB where they are a
# fourth.
_PICKING = {"h100": 30.0, "v5e": 1_740.0, None: 30.0}


@dataclass(frozen=True)
class Step:
    """One step on each of the devices.

    Args:
        rows: of the step, on all devices.
        rows_per_device: room for them on one.
        floor_bytes: the least to be moved on one device.
        floor_flops: the least to be computed.
        bytes: what the compiled program moves.
        flops: what it computes.
        kernels: it starts.
        reduced_bytes: that devices add up.
        shared_bytes: set aside for the rows of a batch, should one device have too many of them.
        compute: seconds of arithmetic, and of whatever does not depend on the rows.
        memory: seconds of moving bytes.
        start: seconds of starting kernels.
        picking: seconds of finding out which rows of a batch are on a device.
        exchange: seconds of collectives.
    """

    rows: int
    rows_per_device: int
    floor_bytes: float
    floor_flops: float
    bytes: float
    flops: float
    kernels: float
    reduced_bytes: float
    shared_bytes: float
    compute: float
    memory: float
    start: float
    picking: float
    exchange: float

    @property
    def seconds(self) -> float:
        """The slowest of arithmetic, memory and starting, and then picking and the exchange."""
        return max(self.compute, self.memory, self.start) + self.picking + self.exchange

    @property
    def limit(self) -> str:
        """What most of the seconds go to."""
        parts = {
            "compute": self.compute,
            "memory bandwidth": self.memory,
            "starting kernels": self.start,
            "picking rows": self.picking,
            "collectives": self.exchange,
        }
        return max(parts, key=lambda name: parts[name])


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Args:
        job: with nothing left open.
        table: the data.
        devices: the devices.
        fitted: rows that are not held out.
        streamed: whether the rows are read again in every pass.
        why: what decided it.
        portion: rows of a portion of a stream.
        steps_per_pass: steps in which each row is read once.
        steps: in the budget.
        step: one of them.
        reading: seconds to read all rows once, for a stream.
        kept: bytes of state and parameters.
        device: bytes on each device, by what they are.
        host: bytes of the process on the host, by what they are, imports not counted.
        ratio: what the compiled program does by the least; None where `flops` are those of whole passes.
        method: the compiled method that is taken for this one.
        remarks: what a reader must know.
    """

    job: Job
    table: Table
    devices: Devices
    fitted: int
    streamed: bool
    why: str
    portion: int | None
    steps_per_pass: int
    steps: int
    step: Step
    reading: float
    kept: Sizes
    device: dict[str, int]
    host: dict[str, int]
    ratio: Traffic | None
    method: str
    remarks: tuple[str, ...]

    @property
    def pass_seconds(self) -> float:
        """Seconds of a pass: reading goes on beside the steps."""
        return max(self.steps_per_pass * self.step.seconds, self.reading)

    @property
    def limit(self) -> str:
        """What a pass waits for."""
        return "reading" if self.reading > self.steps_per_pass * self.step.seconds else self.step.limit

    @property
    def passes(self) -> float:
        """Passes in the budget."""
        return self.steps / self.steps_per_pass


def make_plan(job: Job, table: Table, devices: Devices, *, read_rate: float = READ_RATE) -> Plan:
    """The plan of a run.

    Args:
        job: what is asked for.
        table: the data.
        devices: the devices.
        read_rate: bytes of rows, in the type of the computation, that are read and standardised per second.

    Raises:
        SpecError: for choices that do not fit together, the data or the number of devices.
    """
    count = job.train.devices or devices.count
    require(count <= devices.count, "train.devices", f"<= {devices.count}, the devices of the plan", count)
    if count != devices.count:
        devices = dataclasses.replace(devices, shape=(count,))
    fitted = job.train.fitted(table.rows)
    streamed, why = _streamed(job, table, fitted, devices)
    asked = dataclasses.replace(job, train=dataclasses.replace(job.train, stream=streamed))
    job = asked.resolved(rows=table.rows, dim=table.columns)
    train, dim, width = job.train, table.columns, np.dtype(job.dtype).itemsize
    # A stream reads held-out rows too, and gives them no weight.
    seen = table.rows if streamed else fitted
    portion = train.portion(dim, job.dtype) if streamed else None
    resident = seen if portion is None else -(-seen // -(-seen // portion))
    per_pass = train.steps_per_pass(seen, dim, job.dtype)
    batch = train.sampler.rows_per_batch(resident)
    optimizer = job.optimizer
    batches = per_pass if optimizer is not None and optimizer.batches is not None else 1
    kept = sizes(job, dim, batches=batches)
    method = "natural" if isinstance(job.family, Conjugate) else "meanfield"
    compiled = devices.figures.compiled
    ratio = None if compiled is None else traffic(compiled, method, dim, job.model.num_components)
    step = step_of(job, dim, batch, devices, kept, ratio, picked=batch < resident)
    device = on_devices(job, table, resident, step, kept, devices, method=method)
    return Plan(
        job=job,
        table=table,
        devices=devices,
        fitted=fitted,
        streamed=streamed,
        why=why,
        portion=portion,
        steps_per_pass=per_pass,
        steps=train.num_steps(per_pass),
        step=step,
        reading=table.rows * dim * width / read_rate if streamed else 0.0,
        kept=kept,
        device=device,
        host=on_host(job, table, resident, device, devices),
        ratio=ratio,
        method=method,
        remarks=tuple(_remarks(job, devices, ratio, method)),
    )


def step_of(
    job: Job,
    dim: int,
    batch: int,
    devices: Devices,
    kept: Sizes,
    ratio: Traffic | None,
    *,
    picked: bool,
) -> Step:
    """One step of `batch` rows over some devices.

    Args:
        job: a resolved job.
        dim: D.
        batch: rows of the step, on all devices.
        devices: the devices.
        kept: bytes of the state.
        ratio: what the compiled program does by the least.
        picked: whether the batch is picked out of more rows. On several devices each then looks which of all
            rows of the batch it has, and has room for some more than its part.
    """
    figures, count, width = devices.figures, devices.count, np.dtype(job.dtype).itemsize
    mine = -(-batch // count)
    if picked:
        # As `vigmm.train.placement.Spread.room`, for many more rows than a batch has.
        mine = min(math.ceil(batch / count + 4 * math.sqrt(batch / count * (1 - 1 / count))), batch)
    least: Floor = floor(job, dim, mine, kept)
    moved, computed = float(least.bytes), float(least.flops)
    kernels, busy = 0.0, 1.0
    if ratio is not None:
        # What is made of rows grows with them; the state is small beside them where the ratio was measured.
        moved, computed = least.rows * ratio.bytes + least.rest, computed * ratio.flops
        kernels, busy = ratio.kernels(mine), ratio.busy
    shared, picking, exchange = 0.0, 0.0, 0.0
    if count > 1:
        shared = float(width * batch * (dim + 1)) if picked else 0.0
        # The part of a step that does not get smaller with more devices.
        picking = _PICKING[figures.compiled] * batch / figures.bandwidth if picked else 0.0
        exchange = devices.reduce_seconds(kept.params)
    return Step(
        rows=batch,
        rows_per_device=mine,
        floor_bytes=least.bytes,
        floor_flops=least.flops,
        bytes=moved,
        flops=computed,
        kernels=kernels,
        reduced_bytes=float(kept.params) if count > 1 else 0.0,
        shared_bytes=shared,
        compute=computed / (figures.flops * busy) + figures.step,
        memory=moved / figures.bandwidth,
        start=kernels * figures.start,
        picking=picking,
        exchange=exchange,
    )


def _streamed(job: Job, table: Table, fitted: int, devices: Devices) -> tuple[bool, str]:
    """Whether rows are streamed, by the rule of `vigmm.train.plan`, for devices that may not be here."""
    chosen = job.train.stream
    if chosen is not None:
        return chosen, f"train.stream is {str(chosen).lower()}"
    needed = fitted * (table.columns + 1) * np.dtype(job.dtype).itemsize
    if devices.figures.compiled is None:
        small, what = fits(fitted, table.columns, job.dtype), "this machine's memory"
    else:
        small, what = needed <= devices.figures.limit / 4, "a device's memory"
    return not small, f"the rows take {'less' if small else 'more'} than a quarter of {what}"


def _remarks(job: Job, devices: Devices, ratio: Traffic | None, method: str) -> list[str]:
    train, figures = job.train, devices.figures
    said: list[str] = []
    if figures.compiled is None and devices.count > 1 and train.devices is None:
        said.append(f"on a CPU a run takes one device: set train.devices={devices.count}")
    if figures.compiled is None:
        said.append("one device of a CPU uses all of its cores; this plan counts one core for each")
    if ratio is not None and not ratio.within:
        said.append("the sizes are beyond those that were compiled: the ratios are extrapolated")
    if ratio is not None and not isinstance(job.family, Conjugate | MeanField):
        said.append("this family was not compiled: its passes are taken for those of meanfield")
    if ratio is not None and not isinstance(job.model.settled.covariance, Full):
        said.append("this covariance was not compiled: its ratios are taken for those of full ones")
    if job.dtype == "float64":
        said.append("figures and ratios are those of float32")
    if job.moves is not None:
        simpler = " or a simpler covariance" if job.model.settled is not job.model else ""
        said.append(f"the search may end with fewer components{simpler}, and then takes less")
    said.append("two reads before the run, the start and the search are not in the seconds")
    return said


def as_dict(plan: Plan) -> dict[str, Any]:
    """All of it, JSON-ready."""
    one = plan.devices.figures
    figures = {**dataclasses.asdict(one), "memory": one.memory if np.isfinite(one.memory) else None}
    return {
        "data": dataclasses.asdict(plan.table),
        "devices": {"name": plan.devices.name, "count": plan.devices.count, "figures": figures},
        "rows": {
            "fitted": plan.fitted,
            "streamed": plan.streamed,
            "why": plan.why,
            "portion": plan.portion,
        },
        "memory": {"device": plan.device, "host": plan.host},
        "steps": {"per_pass": plan.steps_per_pass, "all": plan.steps, "passes": plan.passes},
        "step": {**dataclasses.asdict(plan.step), "seconds": plan.step.seconds},
        "state": dataclasses.asdict(plan.kept),
        "compiled": None if plan.ratio is None else dataclasses.asdict(plan.ratio),
        "seconds": {
            "reading": plan.reading,
            "pass": plan.pass_seconds,
            "all": plan.passes * plan.pass_seconds,
        },
        "limit": plan.limit,
        "remarks": list(plan.remarks),
    }
