"""TVM's tensor intrinsics without those of devices that nothing here is compiled for.

MetaSchedule imports all of them. Each of the 128 CUDA ones is parsed from Python source by a walk over every loaded
module: a minute and a half beside torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_PACKAGE = "tvm.s_tir.tensor_intrin"
_LEFT_OUT = ("cuda", "rocm", "hexagon", "riscv_cpu")


def register_intrinsics() -> None:
    """Register those of x86 and Arm, which MetaSchedule's rules for them look up."""
    for name in _LEFT_OUT:
        sys.modules.setdefault(f"{_PACKAGE}.{name}", ModuleType(f"{_PACKAGE}.{name}"))
    importlib.import_module(_PACKAGE)
