"""Depthwise convolution: a tap is one vector multiply-add a pixel."""

from __future__ import annotations

from tvm.tirx import Buffer

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import Shape
from ofa_tvm.compiler.templates._emit import load
from ofa_tvm.compiler.templates._epilogue import epilogue_shapes
from ofa_tvm.compiler.templates._loops import Index
from ofa_tvm.compiler.templates._sliding import Operand, SlidingTemplate
from ofa_tvm.space.workload import Workload


class DepthwiseTemplate(SlidingTemplate):
    """Packed activation in and out, weights ``(C / v, k, k, v)``."""

    def argument_shapes(self, workload: Workload, machine: Machine) -> dict[str, Shape]:
        """See `Template.argument_shapes`."""
        v, k = machine.lanes, workload.kernel_size
        count = blocks(workload.in_channels, v)
        return {
            "data": (count, workload.height, workload.width, v),
            "weight": (count, k, k, v),
            **epilogue_shapes(workload, machine),
        }

    def reduced_channels(self, workload: Workload) -> int:
        """See `SlidingTemplate.reduced_channels`."""
        return 1

    def operands(
        self, buffers: dict[str, Buffer], block: Index, channel: Index, machine: Machine
    ) -> tuple[Operand, Operand]:
        """See `SlidingTemplate.operands`."""
        return (
            lambda y, x: load(buffers["data"], block, y, x, lanes=machine.lanes),
            lambda row, tap: load(buffers["weight"], block, row, tap, lanes=machine.lanes),
        )
