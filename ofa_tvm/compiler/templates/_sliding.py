"""The kernel that depthwise and dense convolutions share: blocks, rows, column tiles, taps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from itertools import product

from tvm.ir import Expr
from tvm.tirx import Buffer, PrimFunc

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import Parameters, Template
from ofa_tvm.compiler.templates._cost import (
    ELEMENT_BYTES,
    L2_BYTES_PER_CYCLE,
    shortlist,
    step_cycles,
    tile_cycles,
    window_spill_factor,
)
from ofa_tvm.compiler.templates._emit import Accumulators, balanced_sum, emit_function, splat, store
from ofa_tvm.compiler.templates._epilogue import finish, start_from_bias, tile_elements
from ofa_tvm.compiler.templates._loops import Index, each, shared, unrolled
from ofa_tvm.compiler.templates._stream import Stream
from ofa_tvm.compiler.templates._tiling import Tiling, tile_sizes
from ofa_tvm.compiler.templates._window import (
    Axis,
    Taps,
    each_kernel_row,
    each_row,
    each_window,
    row_runs,
    tile_runs,
    unrolled_multiply_adds,
)
from ofa_tvm.space.workload import Workload

MAX_BLOCKS = 8
MAX_UNROLLED = 300
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

    def ask_for_data(self, buffers: dict[str, Buffer], workload: Workload, row: Index) -> None:
        """Ask for data of output rows after this one, where the processor would not do it in time."""

    def body(self, workload: Workload, parameters: Parameters, machine: Machine) -> PrimFunc:
        """See `Template.body`."""
        rows, columns = _axes(workload)
        block_tiling, column_tiling = _tilings(workload, parameters, machine)
        tile_blocks, tile_pixels = block_tiling.size, column_tiling.size

        # Threads share the rows too, but for a pool, whose sums are over all of them.
        parts = 1 if workload.pooled else rows.output

        def emit(buffers: dict[str, Buffer]) -> None:
            lines = self.reduced_channels(workload) * workload.kernel_size**2
            for tile, part in shared(block_tiling.count, parts, machine.threads_for(workload), "inner"):
                block = block_tiling.start(tile)
                stream = Stream(buffers["weight"], (block + tile_blocks) * lines, tile_blocks * lines, rows.output)
                pool = _Pool(buffers["pooled"], block, tile_blocks, machine.lanes) if workload.pooled else None
                for row, row_taps in each_row(
                    row_runs(rows, parameters.unroll_kernel), (0, rows.output) if workload.pooled else part
                ):
                    stream.ask(row)
                    self.ask_for_data(buffers, workload, row)
                    for column, taps in each_window(tile_runs(columns, column_tiling)):
                        sums = Accumulators(tile_blocks * tile_pixels, machine.lanes)
                        start_from_bias(sums, buffers["bias"], block, tile_blocks, tile_pixels)
                        for channel in each(self.reduced_channels(workload)):
                            operands = [self.operands(buffers, block + b, channel, machine) for b in range(tile_blocks)]
                            for kernel_row in each_kernel_row(rows, row, row_taps):
                                y = rows.origin(row) + kernel_row
                                _add_kernel_row(sums, operands, columns, column, taps, kernel_row, y)
                        for b, t in tile_elements(tile_blocks, tile_pixels):
                            number = b * tile_pixels + t
                            sums[number] = finish(
                                sums[number], buffers, workload, block + b, row, column + t, machine.lanes
                            )
                        if pool is not None:
                            pool.add(sums, tile_pixels, column_tiling.overlap(column))
                if pool is not None:
                    pool.finish(workload.output_height * workload.output_width)

        return emit_function(self.argument_shapes(workload, machine), emit)

    def candidates(self, workload: Workload, machine: Machine) -> list[Parameters]:
        """See `Template.candidates`."""
        count = blocks(workload.out_channels, machine.lanes)
        widths = tile_sizes(workload.output_width, machine.vector_registers - 2)
        every = {
            Parameters(tile_pixels=pixels, tile_blocks=channels, unroll_kernel=unroll)
            for pixels, channels, unroll in product(widths, tile_sizes(count, MAX_BLOCKS), (False, True))
            if pixels * channels <= machine.vector_registers - 2
            # More blocks than hide the latency of multiply-add only spread the input over the cache.
            and pixels * (channels - 1) < 2 * machine.latency * machine.multiply_adds_per_cycle
        }
        compact = {p for p in every if not p.unroll_kernel or _unrolled(workload, p, machine) <= MAX_UNROLLED}
        return shortlist(compact, lambda parameters: self._cycles(workload, parameters, machine))

    def _cycles(self, workload: Workload, parameters: Parameters, machine: Machine) -> float:
        rows, columns = _axes(workload)
        block_tiling, column_tiling = _tilings(workload, parameters, machine)
        accumulators = block_tiling.size * column_tiling.size
        # The blocks of a dense convolution read the same inputs, each repeated in a vector.
        images = 1 if workload.kind == "conv" and not machine.multiplies_by_lane else block_tiling.size
        # LLVM keeps a row of inputs in registers beside the accumulators.
        spill = window_spill_factor(machine, accumulators + images * column_tiling.size * workload.stride + 2)
        per_row = 0.0
        for run in tile_runs(columns, column_tiling):
            taps = sum(high - low for low, high in run.taps)
            multiply_adds = block_tiling.size * taps
            # Operands of x86 come from memory; elsewhere an input is loaded once for all the taps on it.
            inputs = images * taps
            if machine.multiplies_by_lane:
                inputs = block_tiling.size * ((column_tiling.size - 1) * workload.stride + workload.kernel_size)
            loads = inputs + block_tiling.size * workload.kernel_size
            dependent = machine.latency * workload.kernel_size
            per_row += run.count * spill * max(step_cycles(machine, multiply_adds, loads), dependent)
        kernel_rows = sum(high - low for low, high in map(rows.taps, range(rows.output)))
        tiles = rows.output * column_tiling.count
        loop = 0 if parameters.unroll_kernel else LOOP_CYCLES * column_tiling.count
        if machine.multiplies_by_lane:
            loop *= 2
        once = kernel_rows * self.reduced_channels(workload) * (per_row + loop)
        compute = once + tiles * tile_cycles(machine, accumulators)
        streamed = rows.output * _streamed_bytes(workload, machine, block_tiling.size) / L2_BYTES_PER_CYCLE
        return block_tiling.count * (max(compute, streamed) + streamed / 4)


class _Pool:
    """Sums of the output of some blocks over all pixels, gathered while its tiles are at hand."""

    def __init__(self, means: Buffer, block: Index, blocks: int, lanes: int) -> None:
        self._means, self._block, self._blocks = means, block, blocks
        self._sums = Accumulators(blocks, lanes)
        for b in range(blocks):
            self._sums[b] = splat(0.0, lanes)

    def add(self, tile: Accumulators, pixels: int, overlap: int) -> None:
        """Add a tile (block-major) but its first `overlap` pixels, which the tile before it had too."""
        for b in range(self._blocks):
            self._sums[b] += balanced_sum([tile[b * pixels + t] for t in range(overlap, pixels)])

    def finish(self, pixels: int) -> None:
        """Store the means of `pixels` pixels."""
        lanes = self._sums.lanes
        for b in range(self._blocks):
            store(self._means, self._sums[b] * splat(1.0 / pixels, lanes), self._block + b, 0, 0, lanes=lanes)


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
        inside = [t for t, (low, high) in enumerate(taps) if low <= tap < high]
        for t in unrolled(inside[0], inside[-1] + 1) if inside else ():
            x = columns.origin(column + t) + tap
            sums[b * len(taps) + t] += image(y, x) * kernel(kernel_row, tap)


def _streamed_bytes(workload: Workload, machine: Machine, tile_blocks: int) -> int:
    """Bytes of packed input that a row of outputs reads from beyond the first-level cache."""
    if workload.kind != "depthwise":
        return 0
    row = ELEMENT_BYTES * machine.lanes * workload.width * tile_blocks
    fits = row * workload.kernel_size <= machine.l1_bytes * 3 // 4
    return row * (workload.stride if fits else workload.kernel_size)


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
    return unrolled_multiply_adds(rows, columns, column_tiling, block_tiling.size, parameters.unroll_kernel)
