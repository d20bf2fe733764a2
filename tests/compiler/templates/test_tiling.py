"""Tilings cover their extent, and nothing but it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_tvm.compiler.templates._tiling import MOST_OVERLAP, Group, Tiling

Make = Callable[[int, int], Tiling]


def covered(tiling: Tiling) -> Counter[int]:
    """How often each element is in a tile."""
    tiles = [(group.size, group.first + number) for group in tiling.groups for number in range(group.count)]
    assert [number for _, number in tiles] == [*range(tiling.count)]
    return Counter(tiling.start(number) + element for size, number in tiles for element in range(size))


@pytest.mark.parametrize("make", [Tiling.of, Tiling.nearly_equal])
@given(extent=st.integers(1, 400), size=st.integers(1, 40))
def test_all_elements_are_covered(make: Make, extent: int, size: int) -> None:
    tiling = make(extent, size)
    counts = covered(tiling)
    assert sorted(counts) == [*range(extent)]
    assert counts.total() == tiling.computed
    assert max(group.size for group in tiling.groups) <= size


@given(extent=st.integers(1, 400), size=st.integers(1, 40))
def test_nearly_equal_tiles_overlap_by_little(extent: int, size: int) -> None:
    tiling = Tiling.nearly_equal(extent, size)
    assert tiling.count == Tiling.of(extent, size).count
    assert tiling.computed <= MOST_OVERLAP * extent
    assert len(tiling.groups) == 1 + (tiling.narrow > 0)


def test_seven_blocks_are_four_and_three() -> None:
    assert Tiling.nearly_equal(7, 4).groups == [Group(4, 0, 1), Group(3, 1, 1)]
    assert [Tiling.nearly_equal(25, 10).start(number) for number in range(3)] == [0, 9, 17]
    assert Tiling.of(7, 4).groups == [Group(4, 0, 2)]
