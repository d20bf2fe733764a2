"""Dividing an extent into tiles of equal size, of which the last overlaps its neighbour, or of nearly equal size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tvm import tirx

MOST_OVERLAP = 1.02
"""Elements computed, over those there are, for which code of a second size of tiles is not worth its place."""


@dataclass(frozen=True, slots=True)
class Group:
    """Tiles of one size: `count` of them, from the number `first` on."""

    size: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Tiling:
    """`count` tiles that cover `extent`: of `size` elements each, the last `narrow` of one less.

    Without narrow ones the last tile begins early enough to be whole: elements in the overlap are computed twice.
    """

    extent: int
    size: int
    count: int
    narrow: int = 0

    @classmethod
    def of(cls, extent: int, size: int) -> Tiling:
        """As few tiles as tiles of at most `size` allow, of the smallest equal size: 25 by 10 is 3 tiles of 9."""
        count = -(-extent // min(size, extent))
        return cls(extent, -(-extent // count), count)

    @classmethod
    def nearly_equal(cls, extent: int, size: int) -> Tiling:
        """As many tiles, of two sizes if they would overlap by much: 25 by 10 is 9, 8 and 8."""
        tiling = cls.of(extent, size)
        surplus = tiling.computed - extent
        return replace(tiling, narrow=surplus) if tiling.computed > MOST_OVERLAP * extent else tiling

    @property
    def groups(self) -> list[Group]:
        """The wide tiles, and the narrow ones if there are any."""
        wide = self.count - self.narrow
        return [Group(self.size, 0, wide), *([Group(self.size - 1, wide, self.narrow)] if self.narrow else [])]

    def start(self, number: Any) -> Any:
        """First element of a tile, for a number or a loop variable."""
        if self.narrow:
            return number * (self.size - 1) + _least(number, self.count - self.narrow)
        if self.computed == self.extent:
            return number * self.size
        return _least(number * self.size, self.extent - self.size)

    def overlap(self, start: Any) -> int:
        """How many elements at the beginning of a tile belong to the tile before it too: never in a loop over tiles."""
        return -start % self.size if isinstance(start, int) and not self.narrow else 0

    @property
    def computed(self) -> int:
        """Elements computed, the overlap counted twice."""
        return self.count * self.size - self.narrow


def _least(number: Any, limit: int) -> Any:
    return min(number, limit) if isinstance(number, int) else tirx.Min(number, limit)


def tile_sizes(extent: int, limit: int) -> list[int]:
    """The distinct sizes of equal tiles up to `limit`, largest first."""
    return sorted({Tiling.of(extent, size).size for size in range(1, limit + 1)}, reverse=True)
