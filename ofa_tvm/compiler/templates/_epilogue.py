"""What convolutions share around their sums: bias first, then activation, residual and store."""

from __future__ import annotations

from collections.abc import Iterator

from tvm.ir import Expr
from tvm.tirx import Buffer

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import Shape
from ofa_tvm.compiler.templates._emit import Accumulators, activate, load, store
from ofa_tvm.compiler.templates._loops import Index, unrolled
from ofa_tvm.space.workload import Workload


def epilogue_shapes(workload: Workload, machine: Machine) -> dict[str, Shape]:
    """Shapes of the arguments behind data and weight: bias, factors and residual if any, output, means if any."""
    v, count = machine.lanes, blocks(workload.out_channels, machine.lanes)
    output = (count, workload.output_height, workload.output_width, v)
    factors = {"factors": (blocks(workload.in_channels, v), 1, 1, v)} if workload.scaled else {}
    residual = {"residual": output} if workload.residual else {}
    pooled = {"pooled": (count, 1, 1, v)} if workload.pooled else {}
    return {"bias": (count, v), **factors, **residual, "output": output, **pooled}


def tile_elements(tile_blocks: int, tile_pixels: int) -> Iterator[tuple[Index, Index]]:
    """Emit unrolled loops over the (block, pixel) of a tile, the smaller of both innermost.

    Operands of the inner loop stay in registers while the outer one passes: the fewer, the less is spilled.
    """
    if tile_blocks > tile_pixels:
        yield from block_major(tile_blocks, tile_pixels)
        return
    for t in unrolled(0, tile_pixels):
        for b in unrolled(0, tile_blocks):
            yield b, t


def block_major(tile_blocks: int, tile_pixels: int) -> Iterator[tuple[Index, Index]]:
    """Emit unrolled loops over the (block, pixel) of a tile, pixels innermost."""
    for b in unrolled(0, tile_blocks):
        for t in unrolled(0, tile_pixels):
            yield b, t


def start_from_bias(sums: Accumulators, bias: Buffer, block: Index, tile_blocks: int, tile_pixels: int) -> None:
    """Set the sums of a tile (block-major) to the bias of their block."""
    for b, t in tile_elements(tile_blocks, tile_pixels):
        sums[b * tile_pixels + t] = load(bias, block + b, lanes=sums.lanes)


def finish(
    value: Expr, buffers: dict[str, Buffer], workload: Workload, block: Index, row: Index, column: Index, lanes: int
) -> Expr:
    """Activate a finished sum, add the residual, store; returns what was stored."""
    value = activate(value, workload.activation, lanes)
    if workload.residual:
        value = value + load(buffers["residual"], block, row, column, lanes=lanes)
    store(buffers["output"], value, block, row, column, lanes=lanes)
    return value
