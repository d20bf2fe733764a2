"""Kernels measured as they run in a net, where their weights come from beyond the second-level cache.

Called again and again alone, a kernel finds its weights where its last run left them, in the nearest caches. In a net
megabytes of other weights have passed through these in between. So a measured library also holds, for a kernel whose
weights matter, a function that calls it once for each of several copies of its weights, which together are too large
for the second-level cache. The kernel's own object code is the one that ships.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import tvm
from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.object_code import build_kernels, object_file
from ofa_tvm.compiler.packed_calls import Arguments
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.compiler.workers import map_in_workers
from ofa_tvm.measurement.job import Rotation
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import Target

MAX_COPIES = 64
LEAST_SHARE = 1 / 16
"""Of the bytes of weights in those of activations: with fewer it makes no difference where weights come from."""
_DEFAULT_L2_KIB = 1024
_FLOAT_BYTES = 4

Shapes = dict[str, tuple[int, ...]]


class Rotations:
    """Rotations of kernels through copies of their weights, and their object code, for one target.

    Parameters
    ----------
    l2_bytes
        The second-level cache of a core.
    """

    def __init__(self, target: tvm.target.Target, machine: Machine, l2_bytes: int) -> None:
        self._target = target
        self._machine = machine
        self._l2_bytes = l2_bytes
        self._objects: dict[Workload, bytes] = {}

    @classmethod
    def on(cls, target: Target, toolchain: Toolchain) -> Rotations:
        """For the devices of a target; none where nothing runs, on the target null."""
        l2_kib = 0 if target.device.kind == "null" else target.cpu.l2_kib or _DEFAULT_L2_KIB
        return cls(toolchain.tvm_target, toolchain.machine, 1024 * l2_kib)

    def of(self, workload: Workload) -> Rotation | None:
        """What to time in a kernel's place; None for one that is to be timed itself.

        So many copies that they are twice as large as the second-level cache, for then none of a copy is left there
        when its turn comes again. A kernel needs none whose weights are larger than that on their own, or few
        compared with its activations.
        """
        shapes = self._shapes(workload)
        if "weight" not in shapes:
            return None
        weight = _FLOAT_BYTES * math.prod(shapes["weight"])
        activations = _FLOAT_BYTES * sum(math.prod(shapes[name]) for name in ("data", "output"))
        copies = min(MAX_COPIES, math.ceil(2 * self._l2_bytes / weight))
        if copies < 2 or weight < LEAST_SHARE * activations:
            return None
        return Rotation(f"{workload.key}_rotation", copies)

    def objects(self, workloads: Iterable[Workload]) -> dict[str, bytes]:
        """Object files by symbol, of those kernels that have a rotation; to be linked with the kernels' own."""
        rotations = {workload: rotation for workload in workloads if (rotation := self.of(workload)) is not None}
        missing = [workload for workload in rotations if workload not in self._objects]
        compiled = map_in_workers(self._compile, missing, lambda workload: f"the rotation of {workload.key}")
        self._objects.update(zip(missing, compiled, strict=True))
        return {rotation.function: self._objects[workload] for workload, rotation in rotations.items()}

    def _compile(self, workload: Workload) -> bytes:
        rotation = self.of(workload)
        assert rotation is not None
        function = rotation_function(workload.key, rotation, self._shapes(workload))
        return object_file(build_kernels(tvm.IRModule({rotation.function: function}), self._target))

    def _shapes(self, workload: Workload) -> Shapes:
        return TEMPLATES[workload.kind].argument_shapes(workload, self._machine)


def rotation_function(kernel: str, rotation: Rotation, shapes: Shapes) -> PrimFunc:
    """The function: arguments as the kernel's, but with all the copies of its weights in their place."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_attr({"global_symbol": rotation.function, "tirx.noalias": True, "tirx.is_scheduled": True})
        shapes = {**shapes, "weight": (rotation.copies, *shapes["weight"])}
        buffers = {name: T.arg(name, T.buffer(shape, "float32", buffer_name=name)) for name, shape in shapes.items()}
        arguments = Arguments(len(buffers))
        with T.serial(rotation.copies) as copy:
            for number, (name, buffer) in enumerate(buffers.items()):
                first = (copy, *[0] * (len(buffer.shape) - 1)) if name == "weight" else (0,) * len(buffer.shape)
                sizes = shapes[name][1:] if name == "weight" else shapes[name]
                arguments.set(number, tirx.BufferLoad(buffer, first), sizes)
            arguments.call(kernel, len(buffers))
    return builder.get()
