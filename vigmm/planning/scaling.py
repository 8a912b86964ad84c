"""Weak scaling on paper: as many rows for each device, on more and more of them."""

from __future__ import annotations

from dataclasses import dataclass

from vigmm.planning.devices import Devices
from vigmm.planning.estimate import Plan, step_of

__all__ = ["MOST", "Scaled", "weak_scaling"]

MOST = 256


@dataclass(frozen=True)
class Scaled:
    """So many devices.

    Args:
        devices: how many.
        rows: N, of which each device has as many as the devices of the plan have each.
        batch: rows of a step, on all devices.
        whole: seconds of a step that reads all rows of its portion, where they lie.
        picked: seconds of a step whose batch is picked out of all rows.
        reduced: seconds of adding up, in both.
        whole_efficiency: seconds of one device by those of so many.
        picked_efficiency: the same of picked batches.
    """

    devices: int
    rows: int
    batch: int
    whole: float
    picked: float
    reduced: float
    whole_efficiency: float
    picked_efficiency: float


def weak_scaling(plan: Plan, *, most: int = MOST) -> list[Scaled]:
    """The step of a plan on 1, 2, 4, ... devices, each with the rows and the batch that one has there.

    Args:
        plan: of a run on some devices.
        most: the most devices.
    """
    mine = -(-plan.step.rows // plan.devices.count)
    held = -(-plan.table.rows // plan.devices.count)
    found: list[Scaled] = []
    count = 1
    while count <= most:
        devices = Devices(plan.devices.figures, _shape(count, torus=plan.devices.figures.torus))
        whole, picked = (
            step_of(plan.job, plan.table.columns, mine * count, devices, plan.kept, plan.ratio, picked=one)
            for one in (False, True)
        )
        first = found[0] if found else None
        found.append(
            Scaled(
                devices=count,
                rows=held * count,
                batch=mine * count,
                whole=whole.seconds,
                picked=picked.seconds,
                reduced=whole.exchange,
                whole_efficiency=1.0 if first is None else first.whole / whole.seconds,
                picked_efficiency=1.0 if first is None else first.picked / picked.seconds,
            )
        )
        count *= 2
    return found


def _shape(count: int, *, torus: bool) -> tuple[int, ...]:
    """The squarest torus of a power of two, or one line.

    Example:
        >>> _shape(8, torus=True), _shape(256, torus=True), _shape(8, torus=False)
        ((2, 4), (16, 16), (8,))
    """
    if not torus or count < 4:
        return (count,)
    side = 1 << ((count.bit_length() - 1) // 2)
    return (side, count // side)
