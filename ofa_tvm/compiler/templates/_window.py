"""Kernels that slide a window over an image: rows, column tiles, and taps clipped where the border is.

No input is padded. Column tiles are grouped by the taps that fall inside the image, so each group is
one loop of branch-free code, and taps on the border cost nothing: on small images that saves up to
half of the work. The window's rows are clipped by loop bounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from tvm import tirx

from ofa_tvm.compiler.templates._loops import Index, Span, clip, each, each_in
from ofa_tvm.compiler.templates._tiling import Tiling

Taps = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a padded convolution: sizes in elements, padding ``kernel // 2``."""

    input: int
    kernel: int
    stride: int

    @property
    def output(self) -> int:
        """Output elements."""
        return (self.input - 1) // self.stride + 1

    def origin(self, position: Index) -> Index:
        """Input element under the window's first tap; negative in the padding."""
        return position * self.stride - self.kernel // 2

    def taps(self, position: int) -> tuple[int, int]:
        """Half-open range of the taps that lie inside the input."""
        origin = position * self.stride - self.kernel // 2
        return max(0, -origin), min(self.kernel, self.input - origin)


@dataclass(frozen=True, slots=True)
class Run:
    """`count` tiles, `step` elements apart, whose elements have the same taps inside the input."""

    first: int
    step: int
    count: int
    taps: Taps


def tile_runs(axis: Axis, tiling: Tiling) -> list[Run]:
    """The tiles of an axis, grouped by their taps."""
    starts = [tiling.start(number) for number in range(tiling.count)]

    def taps(start: int) -> Taps:
        return tuple(axis.taps(start + offset) for offset in range(tiling.size))

    grouped = [(key, list(members)) for key, members in groupby(starts, taps)]
    result = []
    for key, members in grouped:
        regular = [start for start in members if (start - members[0]) % tiling.size == 0]
        result.append(Run(regular[0], tiling.size, len(regular), key))
        result.extend(Run(start, tiling.size, 1, key) for start in members if start not in regular)
    return result


def each_window(runs: list[Run]) -> Iterator[tuple[Index, Taps]]:
    """Emit the tiles, one loop a run; yields the tile's first element and its elements' taps."""
    for run in runs:
        for number in each(run.count):
            yield run.first + number * run.step, run.taps


def each_row(runs: list[Run], rows: Span) -> Iterator[tuple[Index, Taps]]:
    """Emit those of the rows that lie in a range, one loop a run of `row_runs`."""
    for run in runs:
        for number in each_in(clip(rows, run.first, run.first + run.count)):
            yield run.first + number, run.taps


def row_runs(axis: Axis, unroll_kernel: bool) -> list[Run]:
    """Rows, one a tile; those with no taps given are to be clipped by loop bounds."""
    if not unroll_kernel:
        return [Run(0, 1, axis.output, ())]
    whole = (0, axis.kernel)
    result = []
    for inside, members in groupby(range(axis.output), lambda row: axis.taps(row) == whole):
        rows = list(members)
        result.append(Run(rows[0], 1, len(rows), (whole,) if inside else ()))
    return result


def each_kernel_row(axis: Axis, row: Index, taps: Taps) -> Iterator[Index]:
    """Emit the rows of the kernel inside the image: straight code for known taps, else a loop."""
    if taps:
        yield from range(*taps[0])
        return
    origin = axis.origin(row)
    yield from each_in((tirx.max(0, -origin), tirx.min(axis.kernel, axis.input - origin)))


def unrolled_multiply_adds(rows: Axis, columns: Axis, tile: Tiling, blocks: int, unroll_kernel: bool) -> int:
    """Multiply-adds in straight-line code, the measure of a kernel's size."""
    in_row = sum(high - low for run in tile_runs(columns, tile) for low, high in run.taps)
    row_copies = sum(run.taps[0][1] - run.taps[0][0] if run.taps else 1 for run in row_runs(rows, unroll_kernel))
    return in_row * row_copies * blocks
