"""Pointwise convolution: a matrix product on flattened pixels, or a matrix-vector product if there is one."""

from __future__ import annotations

from itertools import product
from typing import get_args

from tvm.tirx import Buffer, PrimFunc

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import CANDIDATES, LoopOrder, Parameters, Shape, Template
from ofa_tvm.compiler.templates._cost import (
    TILE_OVERHEAD_CYCLES,
    spill_factor,
    step_cycles,
    streaming_cycles,
)
from ofa_tvm.compiler.templates._emit import Accumulators, Index, each, each_tile, emit_function, load, splat
from ofa_tvm.compiler.templates._epilogue import epilogue_shapes, finish, start_from_bias
from ofa_tvm.compiler.templates._tiling import Tiling, tile_sizes
from ofa_tvm.space.workload import Workload

MAX_BLOCKS = 8
PARTIAL_SUMS = (1, 2, 4)
SPARE_REGISTERS = 2
FLOAT_BYTES = 4


class PointwiseTemplate(Template):
    """A tile is `tile_pixels` by `tile_blocks` vectors in registers; each input channel updates all of them.

    Weights are ``(OC / v, ceil(IC / v) * v, v)``; their padding is not read.
    """

    def argument_shapes(self, workload: Workload, machine: Machine) -> dict[str, Shape]:
        """See `Template.argument_shapes`."""
        v = machine.lanes
        inputs = blocks(workload.in_channels, v)
        return {
            "data": (inputs, workload.height, workload.width, v),
            "weight": (blocks(workload.out_channels, v), inputs * v, v),
            **epilogue_shapes(workload, machine),
        }

    def body(self, workload: Workload, parameters: Parameters, machine: Machine) -> PrimFunc:
        """See `Template.body`."""
        pixel_tiling, block_tiling = _tilings(workload, parameters, machine)

        def emit(buffers: dict[str, Buffer]) -> None:
            if parameters.loop_order == "pixels":
                for pixel in each_tile(pixel_tiling):
                    for block in each_tile(block_tiling):
                        emit_tile(buffers, pixel, block)
            else:
                for block in each_tile(block_tiling):
                    for pixel in each_tile(pixel_tiling):
                        emit_tile(buffers, pixel, block)

        def emit_tile(buffers: dict[str, Buffer], pixel: Index, block: Index) -> None:
            width = workload.output_width
            pixels = [((pixel + t) // width, (pixel + t) % width) for t in range(pixel_tiling.size)]
            sums = _Sums(buffers, workload, block, block_tiling.size, pixels, parameters.partial_sums, machine.lanes)
            finish(sums.reduce(), buffers, workload, block, block_tiling.size, pixels)

        return emit_function(self.argument_shapes(workload, machine), emit)

    def candidates(self, workload: Workload, machine: Machine) -> list[Parameters]:
        """See `Template.candidates`."""
        registers = machine.vector_registers - SPARE_REGISTERS
        pixels = workload.output_height * workload.output_width
        count = blocks(workload.out_channels, machine.lanes)
        orders = get_args(LoopOrder) if pixels > 1 and count > 1 else ("blocks",)
        every = {
            Parameters(tile_pixels, tile_blocks, partial_sums, order)
            for tile_pixels, tile_blocks, partial_sums, order in product(
                tile_sizes(pixels, registers), tile_sizes(count, MAX_BLOCKS), PARTIAL_SUMS, orders
            )
            if tile_pixels * tile_blocks * partial_sums <= registers
        }
        return sorted(every, key=lambda p: (_cycles(workload, p, machine), p))[:CANDIDATES]


class _Sums:
    """The sums of one tile, `partial` of them for each output vector: sum-major, then block, then pixel."""

    def __init__(
        self,
        buffers: dict[str, Buffer],
        workload: Workload,
        block: Index,
        tile_blocks: int,
        pixels: list[tuple[Index, Index]],
        partial: int,
        lanes: int,
    ) -> None:
        self._data, self._weight = buffers["data"], buffers["weight"]
        self._channels, self._stride = workload.in_channels, workload.stride
        self._block, self._tile_blocks, self._pixels, self._partial = block, tile_blocks, pixels, partial
        self._vectors = tile_blocks * len(pixels)
        self._sums = Accumulators(self._vectors * partial, lanes)
        start_from_bias(self._sums, buffers["bias"], block, tile_blocks, len(pixels))
        for number in range(self._vectors, self._vectors * partial):
            self._sums[number] = splat(0.0, lanes)

    def reduce(self) -> Accumulators:
        """Add all input channels, whole blocks of them first, then the rest; join the partial sums."""
        lanes = self._sums.lanes
        for channel_block in each(self._channels // lanes):
            for step in each(lanes // self._partial):
                for part in range(self._partial):
                    self._add(channel_block, step * self._partial + part, part)
        for lane in each(self._channels % lanes):
            self._add(self._channels // lanes, lane, 0)
        for number in range(self._vectors, self._vectors * self._partial):
            self._sums[number % self._vectors] += self._sums[number]
        return self._sums

    def _add(self, channel_block: Index, lane: Index, part: int) -> None:
        lanes = self._sums.lanes
        for b in range(self._tile_blocks):
            factor = load(self._weight, self._block + b, channel_block * lanes + lane, lanes=lanes)
            for t, (row, column) in enumerate(self._pixels):
                pixel = self._data[channel_block, row * self._stride, column * self._stride, lane]
                number = part * self._vectors + b * len(self._pixels) + t
                self._sums[number] += splat(pixel, lanes) * factor


def _tilings(workload: Workload, parameters: Parameters, machine: Machine) -> tuple[Tiling, Tiling]:
    """Of the flattened output pixels, and of the blocks of output channels."""
    pixels = workload.output_height * workload.output_width
    count = blocks(workload.out_channels, machine.lanes)
    return Tiling.of(pixels, parameters.tile_pixels), Tiling.of(count, parameters.tile_blocks)


def _cycles(workload: Workload, parameters: Parameters, machine: Machine) -> float:
    pixel_tiling, block_tiling = _tilings(workload, parameters, machine)
    vectors = pixel_tiling.size * block_tiling.size
    accumulators = vectors * parameters.partial_sums
    # With one block, a pixel is broadcast by the multiply-add itself; with more, it takes a register.
    operands = 1 + (block_tiling.size if block_tiling.size > 1 else 0)
    loads = (pixel_tiling.size + block_tiling.size) * parameters.partial_sums
    step = step_cycles(machine, accumulators, loads) * spill_factor(machine, accumulators, operands)
    steps = workload.in_channels / parameters.partial_sums
    overhead = TILE_OVERHEAD_CYCLES + 2 * accumulators
    tiles = pixel_tiling.count * block_tiling.count
    activations = FLOAT_BYTES * workload.in_channels * pixel_tiling.extent
    weights = FLOAT_BYTES * workload.in_channels * block_tiling.extent * machine.lanes
    if parameters.loop_order == "pixels":
        streamed = streaming_cycles(machine, weights, pixel_tiling.count)
    else:
        streamed = streaming_cycles(machine, activations, block_tiling.count)
    return tiles * (steps * step + overhead) + streamed / 4
