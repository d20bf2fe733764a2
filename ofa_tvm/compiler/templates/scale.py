"""Product with one factor a channel (squeeze-and-excite): bound by memory, so one pass over each block."""

from __future__ import annotations

from tvm.tirx import Buffer, PrimFunc

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import Parameters, Shape, Template
from ofa_tvm.compiler.templates._emit import emit_function, load, store
from ofa_tvm.compiler.templates._loops import each_in, shared
from ofa_tvm.compiler.templates._tiling import Tiling, tile_sizes
from ofa_tvm.space.workload import Workload

MAX_PIXELS = 8


class ScaleTemplate(Template):
    """Packed activation times packed factors ``(C / v, 1, 1, v)``, packed activation out."""

    def argument_shapes(self, workload: Workload, machine: Machine) -> dict[str, Shape]:
        """See `Template.argument_shapes`."""
        v = machine.lanes
        count = blocks(workload.in_channels, v)
        activation = (count, workload.height, workload.width, v)
        return {"data": activation, "factors": (count, 1, 1, v), "output": activation}

    def body(self, workload: Workload, parameters: Parameters, machine: Machine) -> PrimFunc:
        """See `Template.body`."""
        v, width = machine.lanes, workload.width
        tiling = Tiling.of(workload.height * width, parameters.tile_pixels)

        def emit(buffers: dict[str, Buffer]) -> None:
            count = blocks(workload.in_channels, v)
            for block, tiles in shared(count, tiling.count, machine.threads_for(workload)):
                for tile in each_in(tiles):
                    for pixel in (tiling.start(tile) + t for t in range(tiling.size)):
                        row, column = pixel // width, pixel % width
                        scaled = load(buffers["data"], block, row, column, lanes=v) * load(
                            buffers["factors"], block, 0, 0, lanes=v
                        )
                        store(buffers["output"], scaled, block, row, column, lanes=v)

        return emit_function(self.argument_shapes(workload, machine), emit)

    def candidates(self, workload: Workload, machine: Machine) -> list[Parameters]:
        """See `Template.candidates`."""
        sizes = tile_sizes(workload.height * workload.width, MAX_PIXELS)
        return [Parameters(tile_pixels=size) for size in sizes]
