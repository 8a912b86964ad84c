"""What a run will take on devices that need not be here: memory, work, time, and what limits it."""

from vigmm.planning.devices import FIGURES, Devices, Figures, parse_devices
from vigmm.planning.estimate import READ_RATE, READ_SOURCE, Plan, Step, as_dict, make_plan
from vigmm.planning.memory import Table
from vigmm.planning.scaling import Scaled, weak_scaling
from vigmm.planning.traffic import SOURCE, Traffic, traffic

__all__ = [
    "FIGURES",
    "READ_RATE",
    "READ_SOURCE",
    "SOURCE",
    "Devices",
    "Figures",
    "Plan",
    "Scaled",
    "Step",
    "Table",
    "Traffic",
    "as_dict",
    "make_plan",
    "parse_devices",
    "traffic",
    "weak_scaling",
]
