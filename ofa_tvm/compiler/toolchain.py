"""What it takes to build for a target: TVM's target, the machine behind it, the compiler that links."""

from __future__ import annotations

from dataclasses import dataclass

import tvm

from ofa_tvm.compiler.linking import HOST_COMPILER
from ofa_tvm.compiler.machine import Machine, machine_of, resolve_tvm_target
from ofa_tvm.errors import InvalidTargetError
from ofa_tvm.targets import Target

PRECISION = "float32"


@dataclass(frozen=True, slots=True)
class Toolchain:
    """Code generation for one target."""

    tvm_target: tvm.target.Target
    machine: Machine
    cross_compiler: str

    @classmethod
    def of(cls, target: Target) -> Toolchain:
        """The toolchain of a target file.

        Raises
        ------
        InvalidTargetError
            TVM does not accept the target, or it does not run float32.
        CompileError
            There are no kernel templates for it.
        """
        if PRECISION not in target.precisions:
            raise InvalidTargetError(
                f"target {target.name}: precisions: {PRECISION} is the only one compiled so far, and it is not among "
                f"{', '.join(target.precisions)}"
            )
        tvm_target = resolve_tvm_target(target.tvm_target, target.threads)
        machine = machine_of(tvm_target, target.cpu.l1d_kib, target.cpu.l2_kib)
        return cls(tvm_target, machine, target.cross_compiler or HOST_COMPILER)
