"""What convolutions share around their sums: bias first, then activation, residual and store."""

from __future__ import annotations

from tvm.tirx import Buffer

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import Shape
from ofa_tvm.compiler.templates._emit import Accumulators, Index, activate, load, store
from ofa_tvm.space.workload import Workload


def epilogue_shapes(workload: Workload, machine: Machine) -> dict[str, Shape]:
    """Shapes of the arguments behind data and weight: bias, the residual if there is one, output."""
    count = blocks(workload.out_channels, machine.lanes)
    output = (count, workload.output_height, workload.output_width, machine.lanes)
    residual = {"residual": output} if workload.residual else {}
    return {"bias": (count, machine.lanes), **residual, "output": output}


def start_from_bias(sums: Accumulators, bias: Buffer, block: Index, tile_blocks: int, tile_pixels: int) -> None:
    """Set the sums of a tile (block-major) to the bias of their block."""
    for b in range(tile_blocks):
        for t in range(tile_pixels):
            sums[b * tile_pixels + t] = load(bias, block + b, lanes=sums.lanes)


def finish(
    sums: Accumulators,
    buffers: dict[str, Buffer],
    workload: Workload,
    block: Index,
    tile_blocks: int,
    pixels: list[tuple[Index, Index]],
) -> None:
    """Activate the sums of a tile (block-major), add the residual, store at (row, column) of `pixels`."""
    for b in range(tile_blocks):
        for t, (row, column) in enumerate(pixels):
            value = activate(sums[b * len(pixels) + t], workload.activation, sums.lanes)
            if workload.residual:
                value = value + load(buffers["residual"], block + b, row, column, lanes=sums.lanes)
            store(buffers["output"], value, block + b, row, column, lanes=sums.lanes)
