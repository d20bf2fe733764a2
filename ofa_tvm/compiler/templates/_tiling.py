"""Dividing an extent into equal tiles, the last one overlapping its neighbour where it has to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import tirx


@dataclass(frozen=True, slots=True)
class Tiling:
    """`count` tiles of `size` elements that cover `extent`; elements in the overlap are computed twice."""

    extent: int
    size: int
    count: int

    @classmethod
    def of(cls, extent: int, size: int) -> Tiling:
        """As few tiles as tiles of at most `size` allow, of the smallest equal size: 25 by 10 is 3 tiles of 9."""
        count = -(-extent // min(size, extent))
        return cls(extent, -(-extent // count), count)

    def start(self, number: Any) -> Any:
        """First element of a tile, for a number or a loop variable."""
        if self.count * self.size == self.extent:
            return number * self.size
        last = self.extent - self.size
        return min(number * self.size, last) if isinstance(number, int) else tirx.Min(number * self.size, last)

    def overlap(self, start: Any) -> int:
        """How many elements at the beginning of a tile belong to the tile before it too: never in a loop over tiles."""
        return -start % self.size if isinstance(start, int) else 0

    @property
    def computed(self) -> int:
        """Elements computed, the overlap counted twice."""
        return self.count * self.size


def tile_sizes(extent: int, limit: int) -> list[int]:
    """The distinct sizes of equal tiles up to `limit`, largest first."""
    return sorted({Tiling.of(extent, size).size for size in range(1, limit + 1)}, reverse=True)
