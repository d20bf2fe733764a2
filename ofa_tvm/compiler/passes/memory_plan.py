"""Where the tensors between kernels lie in one workspace: as few bytes as a greedy plan needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Tensor = TypeVar("Tensor")

ALIGNMENT = 16
"""In float32 elements: a cache line, and the longest vector."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """`size` float32 elements, written by step `first` and read by step `last` at the latest."""

    size: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether there is a step at which both have to be kept."""
        return self.first <= other.last and other.first <= self.last


def plan_memory(lifetimes: Mapping[Tensor, Lifetime]) -> tuple[dict[Tensor, int], int]:
    """Offset of each tensor in the workspace, and the size of that, in float32 elements.

    The largest are placed first, each at the lowest offset where nothing lies that lives at the same time.
    """
    offsets: dict[Tensor, int] = {}
    for tensor, lifetime in sorted(lifetimes.items(), key=lambda item: (-item[1].size, item[1].first)):
        taken = [
            (offset, offset + lifetimes[other].size)
            for other, offset in offsets.items()
            if lifetime.overlaps(lifetimes[other])
        ]
        offsets[tensor] = _lowest(lifetime.size, sorted(taken))
    return offsets, max((offsets[tensor] + lifetimes[tensor].size for tensor in offsets), default=0)


def _lowest(size: int, taken: Sequence[tuple[int, int]]) -> int:
    offset = 0
    for low, high in taken:
        if offset + size <= low:
            break
        offset = max(offset, aligned(high))
    return offset


def aligned(size: int) -> int:
    """Rounded up to the alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT
