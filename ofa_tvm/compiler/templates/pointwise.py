"""Pointwise convolution: a matrix product on flattened pixels, or a matrix-vector product if there is one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Literal, get_args

from tvm.tirx import Buffer, PrimFunc

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import LoopOrder, Parameters, Shape, Template
from ofa_tvm.compiler.templates._cost import ELEMENT_BYTES, product_cycles, scaling_cycles, shortlist
from ofa_tvm.compiler.templates._emit import emit_function
from ofa_tvm.compiler.templates._epilogue import epilogue_shapes
from ofa_tvm.compiler.templates._loops import Index, Span, clip, each_in, each_size, shared
from ofa_tvm.compiler.templates._product import Image, Matrix, image_of, matrix_of, scaled_image, scaled_matrix
from ofa_tvm.compiler.templates._product_tile import Ask, ProductTile, TileShape
from ofa_tvm.compiler.templates._stream import Stream
from ofa_tvm.compiler.templates._tiling import Tiling, tile_sizes
from ofa_tvm.space.workload import Workload

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
            if TileShape(tile_pixels, tile_blocks, partial_sums).sums(workload, machine) <= registers
            # More partial sums than hide the latency only take registers.
            and (partial_sums == 1 or tile_pixels * tile_blocks * partial_sums < 2 * independent)
        }
        return shortlist(every, lambda parameters: _cycles(workload, parameters, machine))


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
        if self.pixels_outside:
            for number, pixel, pixels, span in self._outer(self.pixels, self.blocks):
                image = self._image(pixel, pixels)
                for step, block, count in self._inner(self.blocks, span):
                    shape = TileShape(pixels, count, self.partial_sums)
                    ask = self._ask_ahead(block, 0, number * self.blocks.count + step)
                    self._tile(shape, pixel, block).emit(image, matrix_of(self.buffers, block), ask)
        else:
            for number, block, count, span in self._outer(self.blocks, self.pixels):
                matrix = self._matrix(block, count)
                for step, pixel, pixels in self._inner(self.pixels, span):
                    shape = TileShape(pixels, count, self.partial_sums)
                    image = image_of(self.buffers, self.workload, pixel, self.machine)
                    ask = self._ask_ahead(block, step, number * self.pixels.count + step)
                    self._tile(shape, pixel, block).emit(image, matrix, ask)

    def _outer(self, outer: Tiling, inner: Tiling) -> Iterator[tuple[Index, Index, int, Span]]:
        """Emit the outer loop: number, first element and size of a tile, and which inner ones belong to it."""
        kind: Literal["outer", "inner"] = "outer" if self.pixels_outside else "inner"
        for number, span in shared(outer.count, inner.count, self.threads, kind):
            for size in each_size(number, outer.groups):
                yield number, outer.start(number), size, span

    def _inner(self, inner: Tiling, span: Span) -> Iterator[tuple[Index, Index, int]]:
        """Emit the inner loops: number, first element and size of a tile."""
        for group in inner.groups:
            for step in each_in(clip(span, group.first, group.first + group.count)):
                number = group.first + step
                yield number, inner.start(number), group.size

    def _tile(self, shape: TileShape, pixel: Index, block: Index) -> ProductTile:
        return ProductTile(self.buffers, self.workload, self.machine, shape, pixel, block)

    def _image(self, first: Index, pixels: int) -> Image:
        if self.workload.scaled:
            return scaled_image(self.buffers, self.workload, first, pixels, self.machine)
        return image_of(self.buffers, self.workload, first, self.machine)

    def _matrix(self, first: Index, count: int) -> Matrix:
        if self.workload.scaled:
            return scaled_matrix(self.buffers, self.workload, first, count, self.lanes)
        return matrix_of(self.buffers, first)

    def _ask_ahead(self, block: Index, step: Index, number: Index) -> Ask:
        """What asks for weights in the loop over blocks of channels: the next tile's, and what follows the last.

        The tile is the `step`-th of those that read the same weights, the `number`-th of all.
        """
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


def _tilings(workload: Workload, parameters: Parameters, machine: Machine) -> tuple[Tiling, Tiling]:
    """Of the flattened output pixels, and of the blocks of output channels."""
    pixels = workload.output_height * workload.output_width
    count = blocks(workload.out_channels, machine.lanes)
    return Tiling.nearly_equal(pixels, parameters.tile_pixels), Tiling.nearly_equal(count, parameters.tile_blocks)


def _cycles(workload: Workload, parameters: Parameters, machine: Machine) -> float:
    channels, partial_sums, order = workload.in_channels, parameters.partial_sums, parameters.loop_order
    pixels, count = _tilings(workload, parameters, machine)

    def sums(tile_pixels: int, tile_blocks: int) -> int:
        return TileShape(tile_pixels, tile_blocks, partial_sums).sums(workload, machine)

    product = product_cycles(machine, channels, pixels, count, partial_sums, order, sums)
    return product + (scaling_cycles(machine, channels, pixels, count, order) if workload.scaled else 0)
