"""What MetaSchedule looks up while it searches: tensor intrinsics and rules for pooling.

TVM imports the intrinsics of all devices. Each of the 128 for CUDA is parsed from Python source by a walk over every
loaded module: a minute and a half beside torch.
"""

from __future__ import annotations

import functools
import importlib
import sys
from types import ModuleType

import tvm_ffi
from tvm import s_tir

_PACKAGE = "tvm.s_tir.tensor_intrin"
_LEFT_OUT = ("cuda", "rocm", "hexagon", "riscv_cpu")
_POOLING = ("pool_max", "pool_avg", "adaptive_pool_max", "adaptive_pool_avg")


@functools.cache
def register_intrinsics() -> None:
    """Register the intrinsics of x86 and Arm; and that pooling needs no rule of its own, which TVM else warns of."""
    for name in _LEFT_OUT:
        sys.modules.setdefault(f"{_PACKAGE}.{name}", ModuleType(f"{_PACKAGE}.{name}"))
    importlib.import_module(_PACKAGE)
    for name in _POOLING:
        tvm_ffi.register_global_func(f"s_tir.meta_schedule.cpu.meta_schedule.{name}", _no_rule, override=True)


def _no_rule(schedule: s_tir.Schedule, _block: s_tir.schedule.SBlockRV) -> list[s_tir.Schedule]:
    return [schedule]
