"""A tile of a matrix product: output vectors that stay in registers while all input channels are added to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tvm.ir import Expr
from tvm.tirx import Buffer

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._emit import Accumulators, halves, load, opaque, splat, twice
from ofa_tvm.compiler.templates._epilogue import block_major, finish, start_from_bias, tile_elements
from ofa_tvm.compiler.templates._loops import Index, each, unrolled
from ofa_tvm.compiler.templates._product import Image, Matrix
from ofa_tvm.space.workload import Workload

Ask: TypeAlias = "Callable[..., None]"


@dataclass(frozen=True, slots=True)
class TileShape:
    """Pixels and blocks (vectors of channels) of a tile, and into how many partial sums each vector is split."""

    pixels: int
    blocks: int
    partial_sums: int

    def pairs(self, workload: Workload, machine: Machine) -> int:
        """How many vectors are shared by two pixels each.

        They are where the last block holds at most half a vector of channels, which would leave the other half of each
        multiply-add without use, and where it is in every tile.
        """
        channels = workload.out_channels % machine.lanes
        shared = (
            0 < channels <= machine.lanes // 2
            and self.blocks == blocks(workload.out_channels, machine.lanes)
            and self.pixels % 2 == 0
            and self.partial_sums == 1
            and not machine.multiplies_by_lane
        )
        return self.pixels // 2 if shared else 0

    def sums(self, workload: Workload, machine: Machine) -> int:
        """Vectors of sums, each of which takes a register."""
        return self.pixels * self.blocks * self.partial_sums - self.pairs(workload, machine)


class ProductTile:
    """Emits a tile that begins with a pixel and a block."""

    def __init__(
        self,
        buffers: dict[str, Buffer],
        workload: Workload,
        machine: Machine,
        shape: TileShape,
        pixel: Index,
        block: Index,
    ) -> None:
        self._buffers, self._workload, self._lanes = buffers, workload, machine.lanes
        self._by_lane = machine.multiplies_by_lane
        self._pixel, self._pixels, self._block = pixel, shape.pixels, block
        self._pairs = shape.pairs(workload, machine)
        self._whole = shape.blocks - 1 if self._pairs else shape.blocks
        self._vectors = self._whole * shape.pixels  # the shared ones are behind them
        self._partial_sums = shape.partial_sums
        self._sums = Accumulators(shape.sums(workload, machine), machine.lanes)

    def emit(self, image: Image, matrix: Matrix, ask: Ask) -> None:
        """From the bias to what is stored."""
        self._start()
        self._add_channels(image, matrix, ask)
        self._finish()

    def _start(self) -> None:
        bias = self._buffers["bias"]
        start_from_bias(self._sums, bias, self._block, self._whole, self._pixels)
        for other in unrolled(self._vectors, self._vectors * self._partial_sums):
            self._sums[other] = splat(0.0, self._lanes)
        for pair in unrolled(0, self._pairs):
            half = load(bias, self._block + self._whole, lanes=self._lanes // 2)
            self._sums[self._vectors + pair] = twice(half, self._lanes)

    def _add_channels(self, image: Image, matrix: Matrix, ask: Ask) -> None:
        """Add all input channels: first the whole blocks of them, then the rest of the last block.

        With `multiplies_by_lane` the pixels of a block of channels are in registers for all of its channels, whose
        loop is unrolled; so weights are what passes.
        """
        whole, rest = divmod(self._workload.in_channels, self._lanes)
        steps = self._lanes // self._partial_sums
        for channel_block in each(whole):
            ask(channel_block)
            for step in unrolled(0, steps) if self._by_lane else each(steps):
                ask(channel_block, step)
                for part in range(self._partial_sums):
                    self._add(image, matrix, channel_block, step * self._partial_sums + part, part)
        for lane in unrolled(0, rest) if self._by_lane else each(rest):
            self._add(image, matrix, whole, lane, 0)

    def _add(self, image: Image, matrix: Matrix, channel_block: Index, lane: Index, part: int) -> None:
        """Add one input channel to the sums of a part."""
        if self._pairs:
            self._add_to_pairs(image, matrix, channel_block, lane)
            return
        sums, lanes = self._sums, self._lanes
        channel = channel_block * lanes + lane
        elements = block_major if self._by_lane else tile_elements
        for b, t in elements(self._whole, self._pixels):
            pixel = image(channel_block, lane, t)
            sums[part * self._vectors + b * self._pixels + t] += pixel * matrix(channel, b, lanes)

    def _add_to_pairs(self, image: Image, matrix: Matrix, channel_block: Index, lane: Index) -> None:
        """Add one input channel, two pixels at a time."""
        sums, lanes = self._sums, self._lanes
        channel = channel_block * lanes + lane
        for pair in unrolled(0, self._pairs):
            pixels = [opaque(image(channel_block, lane, 2 * pair + side), lanes) for side in range(2)]
            for b in unrolled(0, self._whole):
                for side, pixel in enumerate(pixels):
                    sums[b * self._pixels + 2 * pair + side] += pixel * matrix(channel, b, lanes)
            weights = twice(matrix(channel, self._whole, lanes // 2), lanes)
            sums[self._vectors + pair] += halves(pixels[0], 0, pixels[1], 1, lanes) * weights

    def _finish(self) -> None:
        for b, t in tile_elements(self._whole, self._pixels):
            self._store(self._total(b * self._pixels + t), b, t)
        for pair in unrolled(0, self._pairs):
            for side in range(2):
                channels = halves(self._sums[self._vectors + pair], side, splat(0.0, self._lanes), 0, self._lanes)
                self._store(channels, self._whole, 2 * pair + side)

    def _store(self, total: Expr, block: Index, pixel: Index) -> None:
        # As if the image were a single row.
        finish(total, self._buffers, self._workload, self._block + block, 0, self._pixel + pixel, self._lanes)

    def _total(self, vector: Index) -> Expr:
        total = self._sums[vector]
        for part in range(1, self._partial_sums):
            total = total + self._sums[part * self._vectors + vector]
        return total
