"""Pointwise convolution: a matrix product on flattened pixels, or a matrix-vector product if there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import TypeAlias, get_args

from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import LoopOrder, Parameters, Shape, Template
from ofa_tvm.compiler.templates._cost import ELEMENT_BYTES, product_cycles, scaling_cycles, shortlist
from ofa_tvm.compiler.templates._emit import Accumulators, emit_function, splat
from ofa_tvm.compiler.templates._epilogue import block_major, epilogue_shapes, finish, start_from_bias, tile_elements
from ofa_tvm.compiler.templates._loops import Index, each, each_in, shared, unrolled
from ofa_tvm.compiler.templates._product import Image, Matrix, image_of, matrix_of, scaled_image, scaled_matrix
from ofa_tvm.compiler.templates._stream import Stream
from ofa_tvm.compiler.templates._tiling import Tiling, tile_sizes
from ofa_tvm.space.workload import Workload

Ask: TypeAlias = "Callable[..., None]"

MAX_BLOCKS = 8
PARTIAL_SUMS = (1, 2, 4)
STREAMED_PIXELS = 8
"""Fewer take less time to compute on a vector of weights than it takes to come, which is then up to the processor."""


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
        shapes = self.argument_shapes(workload, machine)
        return emit_function(shapes, lambda buffers: _Emitter(workload, parameters, machine, buffers).emit())

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


class _Emitter:
    """Writes the body of one kernel."""

    def __init__(
        self, workload: Workload, parameters: Parameters, machine: Machine, buffers: dict[str, Buffer]
    ) -> None:
        self.workload, self.machine, self.buffers, self.lanes = workload, machine, buffers, machine.lanes
        self.threads = machine.threads_for(workload)
        self.pixels, self.blocks = _tilings(workload, parameters, machine)
        self.partial_sums = parameters.partial_sums
        # With one tile of pixels there is nothing to hold the weights for.
        self.pixels_outside = parameters.loop_order == "pixels" or self.pixels.count == 1

    def emit(self) -> None:
        """Tiles of pixels and of blocks, one inside the other; what the outer loop holds is scaled there."""
        outer, inner = (self.pixels, self.blocks) if self.pixels_outside else (self.blocks, self.pixels)
        for number, span in shared(outer.count, inner.count, self.threads, "outer" if self.pixels_outside else "inner"):
            first = outer.start(number)
            if self.pixels_outside:
                image = self._image(first)
                for step in each_in(span):
                    block = inner.start(step)
                    matrix = matrix_of(self.buffers, block, self.lanes)
                    self._emit_tile(first, block, image, matrix, 0, number * inner.count + step)
            else:
                matrix = self._matrix(first)
                for step in each_in(span):
                    pixel = inner.start(step)
                    image = image_of(self.buffers, self.workload, pixel, self.machine)
                    self._emit_tile(pixel, first, image, matrix, step, number * inner.count + step)

    def _image(self, first: Index) -> Image:
        if self.workload.scaled:
            return scaled_image(self.buffers, self.workload, first, self.pixels.size, self.machine)
        return image_of(self.buffers, self.workload, first, self.machine)

    def _matrix(self, first: Index) -> Matrix:
        if self.workload.scaled:
            return scaled_matrix(self.buffers, self.workload, first, self.blocks.size, self.lanes)
        return matrix_of(self.buffers, first, self.lanes)

    def _emit_tile(self, pixel: Index, block: Index, image: Image, matrix: Matrix, step: Index, number: Index) -> None:
        """Emit a tile: the `step`-th of those that read the same weights, the `number`-th of all."""
        tile = _Tile(pixel, self.pixels.size, block, self.blocks.size, self.partial_sums)
        sums = Accumulators(tile.vectors * tile.partial_sums, self.lanes)
        start_from_bias(sums, self.buffers["bias"], block, tile.blocks, tile.pixels)
        for other in unrolled(tile.vectors, tile.vectors * tile.partial_sums):
            sums[other] = splat(0.0, self.lanes)
        ask, by_lane = self._ask_ahead(block, step, number), self.machine.multiplies_by_lane
        _add_channels(sums, image, matrix, tile, self.workload.in_channels, ask, by_lane)
        for b, t in tile_elements(tile.blocks, tile.pixels):
            total = _total(sums, tile, b * tile.pixels + t)
            # As if the image were a single row.
            finish(total, self.buffers, self.workload, block + b, 0, pixel + t, self.lanes)

    def _ask_ahead(self, block: Index, step: Index, number: Index) -> Ask:
        """What asks for weights in the loop over blocks of channels: the next tile's, and what follows the last."""
        whole = self.workload.in_channels // self.lanes
        if self.pixels.extent < STREAMED_PIXELS or whole == 0:
            return lambda _channel_block, _step=None: None
        inputs = blocks(self.workload.in_channels, self.lanes) * self.lanes
        repeats = 1 if self.pixels_outside else self.pixels.count
        next_tile = Stream(
            self.buffers["weight"],
            first=(block + self.blocks.size) * inputs,
            count=inputs * self.blocks.size,
            steps=repeats * whole,
            substeps=self.lanes // self.partial_sums,
        )
        following = Stream(
            self.buffers["weight"],
            first=inputs * blocks(self.workload.out_channels, self.lanes),
            count=_following_elements(self.workload, self.machine) // self.lanes,
            steps=self.pixels.count * self.blocks.count,
            substeps=whole,
        )
        following.ask(number)

        def ask(channel_block: Index, lane: Index | None = None) -> None:
            next_tile.ask(step * whole + channel_block, lane)
            if lane is None:
                following.ask(number, channel_block)

        return ask


def _following_elements(workload: Workload, machine: Machine) -> int:
    """How many weights behind its own a kernel asks for.

    What follows an expansion takes less time to compute than its weights take to come: a depthwise convolution, and the
    two products of squeeze-and-excite; or, after the last one, the head.
    """
    channels = workload.out_channels
    if channels <= workload.in_channels:
        return 0
    depthwise, products = 25 * channels, channels * channels // 2
    return min(depthwise + products, machine.l2_bytes // (2 * ELEMENT_BYTES))


def _add_channels(
    sums: Accumulators,
    image: Image,
    matrix: Matrix,
    tile: _Tile,
    channels: int,
    ask: Ask,
    by_lane: bool,
) -> None:
    """Add all input channels to a tile: first the whole blocks of them, then the rest of the last block.

    With `by_lane` the pixels of a block of channels are in registers for all of its channels, whose loop is unrolled;
    so weights are what passes.
    """
    lanes = sums.lanes
    whole, rest = divmod(channels, lanes)

    def add(channel_block: Index, lane: Index, part: int) -> None:
        for b, t in block_major(tile.blocks, tile.pixels) if by_lane else tile_elements(tile.blocks, tile.pixels):
            pixel = image(channel_block, lane, t)
            sums[part * tile.vectors + b * tile.pixels + t] += pixel * matrix(channel_block * lanes + lane, b)

    steps = lanes // tile.partial_sums
    for channel_block in each(whole):
        ask(channel_block)
        for step in unrolled(0, steps) if by_lane else each(steps):
            ask(channel_block, step)
            for part in range(tile.partial_sums):
                add(channel_block, step * tile.partial_sums + part, part)
    for lane in unrolled(0, rest) if by_lane else each(rest):
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
    channels, order = workload.in_channels, parameters.loop_order
    tilings = _tilings(workload, parameters, machine)
    product = product_cycles(machine, channels, *tilings, parameters.partial_sums, order)
    return product + (scaling_cycles(machine, channels, *tilings, order) if workload.scaled else 0)
