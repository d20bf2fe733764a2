"""Global average pooling: blocks of channels, their pixels summed in several independent sums."""

from __future__ import annotations

from tvm.tirx import Buffer, PrimFunc

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import Parameters, Shape, Template
from ofa_tvm.compiler.templates._emit import Accumulators, emit_function, load, splat, store
from ofa_tvm.compiler.templates._loops import Index, each, shared
from ofa_tvm.compiler.templates._tiling import Tiling
from ofa_tvm.space.workload import Workload

MAX_BLOCKS = 4
PARTIAL_SUMS = (4, 8, 2, 1)


class PoolTemplate(Template):
    """Packed activation in, ``(C / v, 1, 1, v)`` out."""

    def argument_shapes(self, workload: Workload, machine: Machine) -> dict[str, Shape]:
        """See `Template.argument_shapes`."""
        v = machine.lanes
        count = blocks(workload.in_channels, v)
        return {"data": (count, workload.height, workload.width, v), "output": (count, 1, 1, v)}

    def body(self, workload: Workload, parameters: Parameters, machine: Machine) -> PrimFunc:
        """See `Template.body`."""
        v, width, pixels = machine.lanes, workload.width, workload.height * workload.width
        tiling = Tiling.of(blocks(workload.in_channels, v), parameters.tile_blocks)
        partial = parameters.partial_sums

        def emit(buffers: dict[str, Buffer]) -> None:
            data, output = buffers["data"], buffers["output"]

            def add(sums: Accumulators, block: Index, pixel: Index, part: int) -> None:
                for b in range(tiling.size):
                    sums[part * tiling.size + b] += load(data, block + b, pixel // width, pixel % width, lanes=v)

            for tile, _whole in shared(tiling.count, 1, machine.threads_for(workload)):
                block = tiling.start(tile)
                sums = Accumulators(tiling.size * partial, v)
                for number in range(tiling.size * partial):
                    sums[number] = splat(0.0, v)
                for step in each(pixels // partial):
                    for part in range(partial):
                        add(sums, block, step * partial + part, part)
                for rest in range(pixels - pixels % partial, pixels):
                    add(sums, block, rest, 0)
                for number in range(tiling.size, tiling.size * partial):
                    sums[number % tiling.size] += sums[number]
                for b in range(tiling.size):
                    store(output, sums[b] * splat(1.0 / pixels, v), block + b, 0, 0, lanes=v)

        return emit_function(self.argument_shapes(workload, machine), emit)

    def candidates(self, workload: Workload, machine: Machine) -> list[Parameters]:
        """See `Template.candidates`."""
        count, pixels = blocks(workload.in_channels, machine.lanes), workload.height * workload.width
        return [
            Parameters(tile_blocks=tile_blocks, partial_sums=partial)
            for partial in PARTIAL_SUMS
            for tile_blocks in (1, 2, MAX_BLOCKS)
            if partial <= pixels and tile_blocks <= count and partial * tile_blocks < machine.vector_registers
        ]
