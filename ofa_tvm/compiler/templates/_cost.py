"""The cost model: cycles of a kernel, from the machine's throughput, registers and first-level cache.

It ranks candidates so that the first is good without a measurement. No absolute number of it is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product

from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import LoopOrder, Parameters
from ofa_tvm.compiler.templates._tiling import Tiling

L2_BYTES_PER_CYCLE = 32
ELEMENT_BYTES = 4
# Of what a core can load, what is left beside stores and prefetches.
USABLE_LOADS = 0.9
# Cycles that a load takes from multiply-adds beside it, as measured on x86: of tiles with as many sums, those that are
# nearly square load least. With the 16 registers of AVX2, 4 pixels of 3 blocks are 6 to 8% faster than 2 of 6. A single
# pixel's product waits for its weights, and not for what loads them.
LOAD_CYCLES = 0.1
# Cycles a vector of a scaled copy takes: of weights, which are asked for ahead, and of pixels, which are not.
SCALED_WEIGHT_CYCLES, SCALED_PIXEL_CYCLES = 2, 4
# On x86, where most of such a copy does not fit the first-level cache beside the weights it is made of.
X86_SCALED_WEIGHT_CYCLES = 3
# Cycles more that a vector of outputs takes where the next one is far away, as measured on x86.
SCATTERED_CYCLES = 2
# Of the registers, how many vectors a window's loop may have on x86 without losing time: multiply-adds take what is
# needed once from memory. Beyond, it loses less than other loops.
WINDOW_ROOM = 1.125
CANDIDATES = 20
NEIGHBOURS = 4


def shortlist(every: Iterable[Parameters], cycles: Callable[[Parameters], float]) -> list[Parameters]:
    """The candidates worth measuring, fewest `cycles` first.

    Those that differ in `tile_pixels` alone are neighbours and perform alike, so only the best few of
    them are taken: the list then covers what the model may be wrong about.
    """
    taken: Counter[Parameters] = Counter()
    result: list[Parameters] = []
    for parameters in sorted(every, key=lambda candidate: (cycles(candidate), candidate)):
        family = replace(parameters, tile_pixels=1)
        if taken[family] < NEIGHBOURS and len(result) < CANDIDATES:
            taken[family] += 1
            result.append(parameters)
    return result


def step_cycles(machine: Machine, accumulators: int, loads: float) -> float:
    """Cycles in which every accumulator gets one multiply-add and `loads` vectors are loaded."""
    issue = accumulators / machine.multiply_adds_per_cycle
    return max(issue, loads / machine.loads_per_cycle, float(machine.latency))


def spill_factor(machine: Machine, live_vectors: int) -> float:
    """By how much a loop slows down whose live vectors do not fit the registers."""
    excess = live_vectors - machine.vector_registers
    return 1.0 if excess <= 0 else 1.5 + excess / machine.vector_registers


def window_spill_factor(machine: Machine, live_vectors: int) -> float:
    """As `spill_factor`, of a loop over the taps of a window."""
    if machine.multiplies_by_lane:
        return spill_factor(machine, live_vectors)
    excess = live_vectors - WINDOW_ROOM * machine.vector_registers
    return 1.0 if excess <= 0 else 1.25 + 0.6 * excess / machine.vector_registers


def tile_cycles(machine: Machine, accumulators: int) -> float:
    """Cycles of what is done once a tile.

    A core that starts one multiply-add a cycle does most of it beside those of the next tile.
    """
    return 12 + 2 * accumulators if machine.multiply_adds_per_cycle > 1 else 3 + 1.5 * accumulators


def product_cycles(
    machine: Machine,
    channels: int,
    pixels: Tiling,
    blocks: Tiling,
    partial_sums: int,
    order: LoopOrder,
    sums: Callable[[int, int], int],
) -> float:
    """Cycles of a matrix product over `channels`, tiled in pixels and in blocks of output channels.

    A tile of so many pixels and blocks has `sums` vectors of partial sums.
    """
    streamed = _streamed_bytes(machine, channels, pixels, blocks, order) / L2_BYTES_PER_CYCLE

    def tile(tile_pixels: int, tile_blocks: int) -> float:
        accumulators = sums(tile_pixels, tile_blocks)
        shared = tile_pixels * tile_blocks * partial_sums - accumulators
        by_lane = machine.multiplies_by_lane
        loads = (tile_pixels / machine.lanes if by_lane else tile_pixels) + tile_blocks
        step = step_cycles(machine, accumulators, loads * partial_sums / USABLE_LOADS)
        if not by_lane and pixels.extent > 1:
            step += LOAD_CYCLES * loads * partial_sums
        operands = tile_pixels + 2 if by_lane else min(tile_pixels, tile_blocks) + (2 if shared else 1)
        compute = channels / partial_sums * step * spill_factor(machine, accumulators + operands)
        overhead = tile_cycles(machine, accumulators)
        if not by_lane:
            overhead += SCATTERED_CYCLES * (tile_blocks + (tile_pixels if order == "pixels" else 0))
        # Streams overlap with computing, though not entirely.
        return max(compute, streamed) + streamed / 4 + overhead

    return sum(p.count * b.count * tile(p.size, b.size) for p, b in product(pixels.groups, blocks.groups))


def scaling_cycles(machine: Machine, channels: int, pixels: Tiling, blocks: Tiling, order: LoopOrder) -> float:
    """Cycles of scaling what the outer loop of a product holds."""
    if order == "pixels":
        return pixels.computed * channels / machine.lanes * SCALED_PIXEL_CYCLES
    weight_cycles = SCALED_WEIGHT_CYCLES if machine.multiplies_by_lane else X86_SCALED_WEIGHT_CYCLES
    return blocks.computed * channels * weight_cycles


def _streamed_bytes(machine: Machine, channels: int, pixels: Tiling, blocks: Tiling, order: LoopOrder) -> int:
    """Bytes a tile reads from beyond the first-level cache."""
    pixel_bytes, block_bytes = ELEMENT_BYTES * channels, ELEMENT_BYTES * channels * machine.lanes
    # What the outer loop holds fixed stays in the cache if it fits; what the inner one runs over, only as a whole.
    fixed_pixels = pixels.size if order == "pixels" else pixels.extent
    fixed_blocks = blocks.size if order == "blocks" else blocks.extent
    room = machine.l1_bytes * 3 // 4
    data = pixels.size * pixel_bytes if fixed_pixels * pixel_bytes > room else 0
    weights = blocks.size * block_bytes if fixed_blocks * block_bytes > room else 0
    return data + weights
