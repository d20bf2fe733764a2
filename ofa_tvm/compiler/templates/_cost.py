"""The cost model: cycles of a register tile, from the machine's multiply-add and load throughput.

It ranks candidates so that the first is good without a measurement. It knows nothing of caches beyond
the first level, and no absolute number of it is ever reported.
"""

from __future__ import annotations

from ofa_tvm.compiler.machine import Machine

LOADS_PER_CYCLE = 2
TILE_OVERHEAD_CYCLES = 12
L2_BYTES_PER_CYCLE = 32


def step_cycles(machine: Machine, accumulators: int, loads: int) -> float:
    """Cycles in which every accumulator gets one multiply-add and `loads` vectors are loaded."""
    issue = accumulators / machine.multiply_adds_per_cycle
    return max(issue, loads / LOADS_PER_CYCLE, float(machine.latency))


def spill_factor(machine: Machine, accumulators: int, operands: int) -> float:
    """By how much a tile slows down whose accumulators do not fit the registers beside `operands` others."""
    excess = accumulators + operands - machine.vector_registers
    return 1.0 if excess <= 0 else 1.5 + excess / machine.vector_registers


def streaming_cycles(machine: Machine, resident_bytes: int, passes: int) -> float:
    """Cycles to stream data that is used in each of `passes` and does not stay in the first-level cache."""
    return passes * resident_bytes / L2_BYTES_PER_CYCLE if resident_bytes > machine.l1_bytes // 2 else 0.0
