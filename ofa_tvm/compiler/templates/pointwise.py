"""Pointwise convolution: a matrix product on flattened pixels, or a matrix-vector product if there is one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import get_args

from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import LoopOrder, Parameters, Shape, Template
from ofa_tvm.compiler.templates._cost import product_cycles, shortlist
from ofa_tvm.compiler.templates._emit import Accumulators, Index, each, each_tile, emit_function, splat, unrolled
from ofa_tvm.compiler.templates._epilogue import epilogue_shapes, finish, start_from_bias, tile_elements
from ofa_tvm.compiler.templates._product import Image, Matrix, image_of, matrix_of, scaled_image, scaled_matrix
from ofa_tvm.compiler.templates._tiling import Tiling, tile_sizes
from ofa_tvm.space.workload import Workload

MAX_BLOCKS = 8
PARTIAL_SUMS = (1, 2, 4)


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
        parallel, v = machine.shares(workload), machine.lanes
        scales_pixels = workload.scaled and (parameters.loop_order == "pixels" or pixel_tiling.count == 1)
        scales_weights = workload.scaled and not scales_pixels

        def emit(buffers: dict[str, Buffer]) -> None:
            def image(pixel: Index) -> Image:
                if scales_pixels:
                    return scaled_image(buffers, workload, pixel, pixel_tiling.size, v)
                return image_of(buffers, workload, pixel)

            def matrix(block: Index) -> Matrix:
                if scales_weights:
                    return scaled_matrix(buffers, workload, block, block_tiling.size, v)
                return matrix_of(buffers, block, v)

            if parameters.loop_order == "pixels" or pixel_tiling.count == 1:
                for pixel in each_tile(pixel_tiling, parallel and pixel_tiling.count > 1):
                    pixels = image(pixel)
                    for block in each_tile(block_tiling, parallel and pixel_tiling.count == 1):
                        emit_tile(buffers, pixel, block, pixels, matrix(block))
            else:
                for block in each_tile(block_tiling, parallel):
                    weights = matrix(block)
                    for pixel in each_tile(pixel_tiling):
                        emit_tile(buffers, pixel, block, image(pixel), weights)

        def emit_tile(buffers: dict[str, Buffer], pixel: Index, block: Index, image: Image, matrix: Matrix) -> None:
            tile = _Tile(pixel, pixel_tiling.size, block, block_tiling.size, parameters.partial_sums)
            sums = Accumulators(tile.vectors * tile.partial_sums, machine.lanes)
            start_from_bias(sums, buffers["bias"], block, tile.blocks, tile.pixels)
            for number in unrolled(tile.vectors, tile.vectors * tile.partial_sums):
                sums[number] = splat(0.0, machine.lanes)
            _add_channels(sums, image, matrix, tile, workload.in_channels)
            for b, t in tile_elements(tile.blocks, tile.pixels):
                row, column = (pixel + t) // workload.output_width, (pixel + t) % workload.output_width
                total = _total(sums, tile, b * tile.pixels + t)
                finish(total, buffers, workload, block + b, row, column, machine.lanes)

        return emit_function(self.argument_shapes(workload, machine), emit)

    def candidates(self, workload: Workload, machine: Machine) -> list[Parameters]:
        """See `Template.candidates`."""
        registers = machine.vector_registers - 2
        independent = machine.latency * machine.multiply_adds_per_cycle
        pixels = workload.output_height * workload.output_width
        count = blocks(workload.out_channels, machine.lanes)
        orders = get_args(LoopOrder) if pixels > 1 and count > 1 else ("blocks",)
        every = {
            Parameters(tile_pixels, tile_blocks, partial_sums, order)
            for tile_pixels, tile_blocks, partial_sums, order in product(
                tile_sizes(pixels, registers), tile_sizes(count, MAX_BLOCKS), PARTIAL_SUMS, orders
            )
            if tile_pixels * tile_blocks * partial_sums <= registers
            # More partial sums than hide the latency only take registers.
            and (partial_sums == 1 or tile_pixels * tile_blocks * partial_sums < 2 * independent)
        }
        return shortlist(every, lambda parameters: _cycles(workload, parameters, machine))


@dataclass(frozen=True, slots=True)
class _Tile:
    """Output vectors in registers: the first pixel and block, and how many of each; sums for each vector."""

    pixel: Index
    pixels: int
    block: Index
    blocks: int
    partial_sums: int

    @property
    def vectors(self) -> int:
        return self.pixels * self.blocks


def _add_channels(sums: Accumulators, image: Image, matrix: Matrix, tile: _Tile, channels: int) -> None:
    """Add all input channels to a tile: first the whole blocks of them, then the rest of the last block."""
    lanes = sums.lanes
    whole, rest = divmod(channels, lanes)

    def add(channel_block: Index, lane: Index, part: int) -> None:
        for b, t in tile_elements(tile.blocks, tile.pixels):
            pixel = splat(image(channel_block, lane, t), lanes)
            sums[part * tile.vectors + b * tile.pixels + t] += pixel * matrix(channel_block * lanes + lane, b)

    for channel_block in each(whole):
        for step in each(lanes // tile.partial_sums):
            for part in range(tile.partial_sums):
                add(channel_block, step * tile.partial_sums + part, part)
    for lane in each(rest):
        add(whole, lane, 0)


def _total(sums: Accumulators, tile: _Tile, vector: Index) -> Expr:
    total = sums[vector]
    for part in range(1, tile.partial_sums):
        total = total + sums[part * tile.vectors + vector]
    return total


def _tilings(workload: Workload, parameters: Parameters, machine: Machine) -> tuple[Tiling, Tiling]:
    """Of the flattened output pixels, and of the blocks of output channels."""
    pixels = workload.output_height * workload.output_width
    count = blocks(workload.out_channels, machine.lanes)
    return Tiling.of(pixels, parameters.tile_pixels), Tiling.of(count, parameters.tile_blocks)


def _cycles(workload: Workload, parameters: Parameters, machine: Machine) -> float:
    pixel_tiling, block_tiling = _tilings(workload, parameters, machine)
    return product_cycles(
        machine, workload.in_channels, pixel_tiling, block_tiling, parameters.partial_sums, parameters.loop_order
    )
