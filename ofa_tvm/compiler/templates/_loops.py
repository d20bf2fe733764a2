"""Loops of emitted kernels: plain ones, unrolled ones, and those that threads share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import tirx as T

from ofa_tvm.compiler.templates._tiling import Group

Index: TypeAlias = "Expr | int"
Span: TypeAlias = "tuple[Index, Index]"
"""A half-open range."""

MOST_UNEVEN = 1.3
"""By how much a thread may have more to do than the mean of all, for what it reads to be in its own caches."""


def each(extent: int) -> Iterator[Index]:
    """Emit a loop over ``range(extent)``; straight code if that is one element.

    The body of the ``for`` statement over this generator becomes the loop's body.
    """
    yield from each_in((0, extent))


def each_in(span: Span) -> Iterator[Index]:
    """Emit a loop over a range, whose bounds may be computed."""
    low, high = span
    if isinstance(low, int) and isinstance(high, int) and high - low == 1:
        yield low
        return
    with T.serial(high - low) as number:
        yield low + number


def unrolled(start: int, stop: int) -> Iterator[Index]:
    """Emit a loop over ``range(start, stop)`` that is unrolled late, so that TVM's passes see one copy of it."""
    if stop - start == 1:
        yield start
    elif stop > start:
        with T.unroll(start, stop) as number:
            yield number


def shared(
    outer: int, inner: int, threads: int, pixels: Literal["outer", "inner"] | None = None
) -> Iterator[tuple[Index, Span]]:
    """Emit a loop over ``range(outer)`` whose iterations have `inner` parts each, the parts shared by threads.

    Yields an outer number and the range of the parts to do. Where one of the two loops is over `pixels` and there are
    enough of them, each thread has its part of the image, in this kernel as in the one before it: what it reads is
    then mostly in its own caches. Otherwise the parts are counted through, and shared evenly. Threads may both write
    the overlap of two tiles: they write the same values.
    """
    if threads == 1 or outer * inner == 1:
        for number in each(outer):
            yield number, (0, inner)
        return
    with T.parallel(threads) as thread:
        if pixels == "outer" and _divides(outer, threads):
            for number in each_in(_part(outer, thread, threads)):
                yield number, (0, inner)
        elif pixels == "inner" and _divides(inner, threads):
            for number in each(outer):
                yield number, _part(inner, thread, threads)
        else:
            first, last = _part(outer * inner, thread, threads)
            for number in each_in((first // inner, (last + inner - 1) // inner)):
                yield number, (tirx.max(0, first - number * inner), tirx.min(inner, last - number * inner))


def each_size(number: Index, groups: Sequence[Group]) -> Iterator[int]:
    """Emit a case for each size that the tile of this number may have; there are two at most."""
    if isinstance(number, int) or len(groups) == 1:
        yield groups[0].size  # a number that is known here is 0, of the only tile
        return
    wide, narrow = groups
    with T.If(number < narrow.first):
        with T.Then():
            yield wide.size
        with T.Else():
            yield narrow.size


def _part(count: int, thread: Index, threads: int) -> Span:
    return count * thread // threads, count * (thread + 1) // threads


def _divides(count: int, threads: int) -> bool:
    """Whether the largest part is not much larger than the mean one."""
    return -(-count // threads) * threads <= MOST_UNEVEN * count


def clip(span: Span, low: int, high: int) -> Span:
    """The part of a range between two numbers, counted from the first of them."""
    start, stop = span
    if isinstance(start, int) and isinstance(stop, int):
        return max(start, low) - low, min(stop, high) - low
    start = tirx.min(tirx.max(start, low), high) - low
    return start, tirx.max(start, tirx.min(stop, high) - low)
