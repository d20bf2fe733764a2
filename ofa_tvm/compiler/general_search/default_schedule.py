"""A default schedule for what neither a template nor a search covers: vectorised, in registers, on all threads.

TVM itself has none for CPUs but for a few patterns: what it isn't given a schedule for runs as plain loops, with the
sum innermost, which a compiler must not vectorise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import tvm
from tvm import s_tir, tirx
from tvm.s_tir.schedule import ScheduleError
from tvm.target import Target
from tvm.target.codegen import llvm_get_vector_width
from tvm.tirx.analysis import undefined_vars

from ofa_tvm.compiler.machine import SHARED_MACS

# TVM's loops and blocks have no types of their own that mypy could see.
Loop: TypeAlias = Any

SPATIAL, REDUCTION = 0, 2
ROWS = 4
"""Vectors that a sum is computed for at a time: so many, times two, hide a multiply-add's latency."""


@tvm.transform.module_pass(opt_level=0, name="DefaultSchedule")
class DefaultSchedule:
    """Schedule every function of loops that has no schedule yet, for the current target."""

    def transform_module(self, mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Schedule them."""
        functions = dict(mod.functions_items())
        for name, function in functions.items():
            if isinstance(function, tirx.PrimFunc) and not function.attrs.get("tirx.is_scheduled", False):
                functions[name] = schedule_function(function, Target.current())
        return tvm.IRModule(functions, attrs=mod.attrs, global_infos=mod.global_infos)


def schedule_function(function: tirx.PrimFunc, target: Target) -> tirx.PrimFunc:
    """The function with each of its blocks scheduled, as far as it has a form known here."""
    schedule = s_tir.Schedule(function)
    lanes = max(int(llvm_get_vector_width(target)), 128) // 32
    threads = int(target.attrs.get("num-cores") or 1)
    for name in blocks(schedule):
        schedule = _attempt(schedule, _inline, name)
    for name in blocks(schedule):  # of which some become part of the one before
        schedule = _attempt(schedule, _schedule_block, name, lanes, threads)
    return schedule.mod["main"].with_attr("tirx.is_scheduled", True)


def _attempt(schedule: s_tir.Schedule, action: Callable[..., None], *arguments: Any) -> s_tir.Schedule:
    """The schedule after an action, or as it was if the action does not fit it."""
    trial = schedule.copy()
    try:
        action(trial, *arguments)
    except RuntimeError:  # a ScheduleError, or a check of TVM's own that failed
        return schedule
    return trial


def blocks(schedule: s_tir.Schedule) -> list[str]:
    """Names of a function's blocks, none if it is written in another way."""
    try:
        root = schedule.get_sblock("root")
    except ScheduleError:
        return []
    return [str(schedule.get(block).name_hint) for block in schedule.get_child_blocks(root)]


def _inline(schedule: s_tir.Schedule, name: str) -> None:
    """Compute elements where they are read, unless a sum reads them again and again."""
    block = schedule.get_sblock(name)
    readers = [schedule.get(reader) for reader in schedule.get_consumers(block)]
    if schedule.get(block).init is None and all(reader.init is None for reader in readers):
        schedule.compute_inline(block)


def _schedule_block(schedule: s_tir.Schedule, name: str, lanes: int, threads: int) -> None:
    block = schedule.get_sblock(name)
    loops, variables = schedule.get_loops(block), list(schedule.get(block).iter_vars)
    if len(loops) != len(variables):  # another block's loops by now, or no loops at all
        return
    spatial = [loop for loop, variable in zip(loops, variables, strict=True) if variable.iter_type == SPATIAL]
    reduced = [loop for loop, variable in zip(loops, variables, strict=True) if variable.iter_type == REDUCTION]
    if not spatial or len(spatial) + len(reduced) != len(loops):
        return
    operations = _size(schedule, loops)
    if not reduced:
        outer = [*spatial[:-1], _vectorise(schedule, spatial[-1], lanes)]
    elif _sums_along_memory(schedule.get(block)):
        block, outer, reduced = _sum_in_lanes(schedule, block, spatial, reduced, lanes)
    else:
        outer = _sum_in_registers(schedule, block, spatial, reduced, lanes)
    if threads > 1 and operations >= SHARED_MACS:
        schedule.parallel(schedule.fuse(*outer))
    if reduced:
        schedule.decompose_reduction(block, reduced[0])


def _sum_in_registers(
    schedule: s_tir.Schedule, block: Any, spatial: Sequence[Loop], reduced: Sequence[Loop], lanes: int
) -> list[Loop]:
    """A tile of elements side by side, the sum around it; what follows is computed on the tile."""
    wide = [loop for loop in spatial if _extent(schedule, loop) > 1] or list(spatial[-1:])
    inner = {wide[0]: _divisor(_extent(schedule, wide[0]), ROWS)}
    inner[wide[-1]] = _divisor(_extent(schedule, wide[-1]), 2 * lanes)
    result = schedule.cache_write(block, 0, "global")
    for reader in schedule.get_consumers(result):
        if _size(schedule, schedule.get_loops(reader)) == _size(schedule, spatial):  # else it spreads the sums out
            schedule.reverse_compute_inline(reader)
    outer, tile = [], []
    for loop in spatial:
        outside, inside = schedule.split(loop, [None, inner.get(loop, 1)], preserve_unit_iters=True)
        outer.append(outside)
        tile.append(inside)
    schedule.reorder(*outer, *reduced, *tile)
    schedule.reverse_compute_at(result, outer[-1], preserve_unit_loops=True)
    for part in (block, result):
        for loop in schedule.get_loops(part)[-len(tile) : -1]:
            schedule.unroll(loop)
        schedule.vectorize(schedule.get_loops(part)[-1])
    return outer


def _sum_in_lanes(
    schedule: s_tir.Schedule, block: Any, spatial: Sequence[Loop], reduced: Sequence[Loop], lanes: int
) -> tuple[Any, list[Loop], list[Loop]]:
    """A partial sum a lane, and then their sum: the block of partial sums, its spatial loops and its reduction."""
    together = schedule.fuse(*reduced)
    _, lane = schedule.split(together, [None, _divisor(_extent(schedule, together), 2 * lanes)])
    partial = schedule.rfactor(lane, factor_axis=len(spatial))
    *outer, rows, columns = schedule.get_loops(partial)
    schedule.vectorize(columns)
    return partial, outer, [rows]


def _vectorise(schedule: s_tir.Schedule, loop: Loop, lanes: int) -> Loop:
    """Vectorise as much of a loop as divides it; the loop outside of that."""
    outside, inside = schedule.split(loop, [None, _divisor(_extent(schedule, loop), 2 * lanes)])
    schedule.vectorize(inside)
    return outside


def _sums_along_memory(block: s_tir.SBlock) -> bool:
    """Whether neighbours in memory are added to each other, not to different sums."""
    reduced = [variable.var for variable in block.iter_vars if variable.iter_type == REDUCTION]
    spatial = [variable.var for variable in block.iter_vars if variable.iter_type == SPATIAL]
    last = [read.region[-1].min for read in block.reads]
    return any(_uses(index, reduced) for index in last) and not any(_uses(index, spatial) for index in last)


def _uses(index: tirx.Expr, variables: Sequence[tirx.Var]) -> bool:
    used = undefined_vars(index)
    return any(variable.same_as(other) for variable in variables for other in used)


def _extent(schedule: s_tir.Schedule, loop: Loop) -> int:
    return int(schedule.get(loop).extent)


def _size(schedule: s_tir.Schedule, loops: Sequence[Loop]) -> int:
    return math.prod(_extent(schedule, loop) for loop in loops)


def _divisor(extent: int, limit: int) -> int:
    """The largest divisor within a limit."""
    return max(divisor for divisor in range(1, min(extent, limit) + 1) if extent % divisor == 0)
