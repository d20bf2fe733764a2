"""Targets: what to compile for, how to reach the device, how to measure on it; one YAML file each.

`schema` is what a file may say, `read` reads one, `find` knows where they are, `emulated` makes of a board's target the
one for emulations of that board.
"""

from ofa_tvm.targets.emulated import EMULATED_SUFFIX, emulated_variant
from ofa_tvm.targets.find import ENTRY_POINT_GROUP, known_targets, load_target
from ofa_tvm.targets.schema import Cpu, DeviceAccess, MeasurementProtocol, Target, missing_features

__all__ = [
    "EMULATED_SUFFIX",
    "ENTRY_POINT_GROUP",
    "Cpu",
    "DeviceAccess",
    "MeasurementProtocol",
    "Target",
    "emulated_variant",
    "known_targets",
    "load_target",
    "missing_features",
]
