"""Dense convolution of a plain image: the first layer, where the packed layout begins."""

from __future__ import annotations

from tvm.tirx import Buffer

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import Shape
from ofa_tvm.compiler.templates._emit import load, splat
from ofa_tvm.compiler.templates._epilogue import epilogue_shapes
from ofa_tvm.compiler.templates._loops import Index
from ofa_tvm.compiler.templates._sliding import Operand, SlidingTemplate
from ofa_tvm.compiler.templates._stream import ask_for_rows
from ofa_tvm.space.workload import Workload

ROWS_AHEAD = 3


class ConvTemplate(SlidingTemplate):
    """Input ``(1, IC, H, W)``, weights ``(OC / v, IC, k, k, v)``, packed activation out."""

    def argument_shapes(self, workload: Workload, machine: Machine) -> dict[str, Shape]:
        """See `Template.argument_shapes`."""
        v, k = machine.lanes, workload.kernel_size
        return {
            "data": (1, workload.in_channels, workload.height, workload.width),
            "weight": (blocks(workload.out_channels, v), workload.in_channels, k, k, v),
            **epilogue_shapes(workload, machine),
        }

    def reduced_channels(self, workload: Workload) -> int:
        """See `SlidingTemplate.reduced_channels`."""
        return workload.in_channels

    def ask_for_data(self, buffers: dict[str, Buffer], workload: Workload, row: Index) -> None:
        """See `SlidingTemplate.ask_for_data`: the image comes from outside, and in as many pieces as it has planes."""
        ahead = (row + ROWS_AHEAD) * workload.stride + workload.kernel_size // 2
        ask_for_rows(buffers["data"], ahead, workload.stride)

    def operands(
        self, buffers: dict[str, Buffer], block: Index, channel: Index, machine: Machine
    ) -> tuple[Operand, Operand]:
        """See `SlidingTemplate.operands`."""
        return (
            lambda y, x: splat(buffers["data"][0, channel, y, x], machine.lanes),
            lambda row, tap: load(buffers["weight"], block, channel, row, tap, lanes=machine.lanes),
        )
