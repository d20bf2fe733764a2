"""The kernel that depthwise and dense convolutions share: blocks, rows, column tiles, taps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from itertools import product
from typing import get_args

from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import CANDIDATES, Parameters, Template, UnrolledRows
from ofa_tvm.compiler.templates._cost import TILE_OVERHEAD_CYCLES, spill_factor, step_cycles
from ofa_tvm.compiler.templates._emit import Accumulators, Index, each, each_tile, emit_function
from ofa_tvm.compiler.templates._epilogue import finish, start_from_bias
from ofa_tvm.compiler.templates._tiling import Tiling, tile_sizes
from ofa_tvm.compiler.templates._window import (
    Axis,
    Taps,
    each_kernel_row,
    each_window,
    row_runs,
    tile_runs,
    unrolled_multiply_adds,
)
from ofa_tvm.space.workload import Workload

MAX_UNROLLED = 3000
LOOP_CYCLES = 3

Operand = Callable[[Index, Index], Expr]


class SlidingTemplate(Template):
    """A tile is `tile_pixels` neighbours of one output row for `tile_blocks` blocks of output channels."""

    @abstractmethod
    def reduced_channels(self, workload: Workload) -> int:
        """Input channels summed up into one output."""

    @abstractmethod
    def operands(
        self, buffers: dict[str, Buffer], block: Index, channel: Index, machine: Machine
    ) -> tuple[Operand, Operand]:
        """The image by (y, x) and the kernel by (row, column), as vectors over the channels of `block`."""

    def body(self, workload: Workload, parameters: Parameters, machine: Machine) -> PrimFunc:
        """See `Template.body`."""
        rows, columns = _axes(workload)
        block_tiling, column_tiling = _tilings(workload, parameters, machine)
        tile_blocks, tile_pixels = block_tiling.size, column_tiling.size

        def emit(buffers: dict[str, Buffer]) -> None:
            for block in each_tile(block_tiling):
                for row, row_taps in each_window(row_runs(rows, parameters.unrolled_rows)):
                    for column, taps in each_window(tile_runs(columns, column_tiling)):
                        sums = Accumulators(tile_blocks * tile_pixels, machine.lanes)
                        start_from_bias(sums, buffers["bias"], block, tile_blocks, tile_pixels)
                        for channel in each(self.reduced_channels(workload)):
                            operands = [self.operands(buffers, block + b, channel, machine) for b in range(tile_blocks)]
                            for kernel_row in each_kernel_row(rows, row, row_taps):
                                y = rows.origin(row) + kernel_row
                                _add_kernel_row(sums, operands, columns, column, taps, kernel_row, y)
                        pixels = [(row, column + t) for t in range(tile_pixels)]
                        finish(sums, buffers, workload, block, tile_blocks, pixels)

        return emit_function(self.argument_shapes(workload, machine), emit)

    def candidates(self, workload: Workload, machine: Machine) -> list[Parameters]:
        """See `Template.candidates`."""
        count = blocks(workload.out_channels, machine.lanes)
        widths = tile_sizes(workload.output_width, machine.vector_registers - 2)
        every = {
            Parameters(tile_pixels=pixels, tile_blocks=channels, unrolled_rows=unrolled)
            for pixels, channels, unrolled in product(widths, tile_sizes(count, 8), get_args(UnrolledRows))
            if pixels * channels <= machine.vector_registers - 2
        }
        compact = {p for p in every if p.unrolled_rows == "none" or _unrolled(workload, p, machine) <= MAX_UNROLLED}
        return sorted(compact, key=lambda p: (self._cycles(workload, p, machine), p))[:CANDIDATES]

    def _cycles(self, workload: Workload, parameters: Parameters, machine: Machine) -> float:
        rows, columns = _axes(workload)
        block_tiling, column_tiling = _tilings(workload, parameters, machine)
        per_row = 0.0
        for run in tile_runs(columns, column_tiling):
            multiply_adds = block_tiling.size * sum(high - low for low, high in run.taps)
            loads = multiply_adds + block_tiling.size * workload.kernel_size
            accumulators = block_tiling.size * column_tiling.size
            kernel_row = max(
                step_cycles(machine, multiply_adds, loads), machine.latency * workload.kernel_size
            ) * spill_factor(machine, accumulators, 2)
            per_row += run.count * kernel_row
        kernel_rows = sum(high - low for low, high in map(rows.taps, range(rows.output)))
        tiles = rows.output * column_tiling.count
        rolled = {"none": 1.0, "interior": 0.3, "all": 0.1}[parameters.unrolled_rows]
        reduced = self.reduced_channels(workload)
        once = kernel_rows * reduced * (per_row + rolled * LOOP_CYCLES * column_tiling.count)
        return block_tiling.count * (once + tiles * TILE_OVERHEAD_CYCLES)


def _add_kernel_row(
    sums: Accumulators,
    operands: list[tuple[Operand, Operand]],
    columns: Axis,
    column: Index,
    taps: Taps,
    kernel_row: Index,
    y: Index,
) -> None:
    """Add one row of the kernel to the sums of a tile, tap by tap, so that a tap's weights are loaded once."""
    for tap, (b, (image, kernel)) in product(range(columns.kernel), enumerate(operands)):
        for t, (low, high) in enumerate(taps):
            if low <= tap < high:
                x = columns.origin(column + t) + tap
                sums[b * len(taps) + t] += image(y, x) * kernel(kernel_row, tap)


def _axes(workload: Workload) -> tuple[Axis, Axis]:
    return (
        Axis(workload.height, workload.kernel_size, workload.stride),
        Axis(workload.width, workload.kernel_size, workload.stride),
    )


def _tilings(workload: Workload, parameters: Parameters, machine: Machine) -> tuple[Tiling, Tiling]:
    """Of the blocks of output channels, and of a row of output pixels."""
    count = blocks(workload.out_channels, machine.lanes)
    return Tiling.of(count, parameters.tile_blocks), Tiling.of(workload.output_width, parameters.tile_pixels)


def _unrolled(workload: Workload, parameters: Parameters, machine: Machine) -> int:
    rows, columns = _axes(workload)
    block_tiling, column_tiling = _tilings(workload, parameters, machine)
    return unrolled_multiply_adds(rows, columns, column_tiling, block_tiling.size, parameters.unrolled_rows)
