from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from ofa_tvm.compiler.passes.memory_plan import ALIGNMENT, Lifetime, plan_memory

LIFETIMES = st.builds(
    lambda size, first, steps: Lifetime(size, first, first + steps),
    st.integers(1, 200),
    st.integers(0, 20),
    st.integers(0, 6),
)


@given(st.lists(LIFETIMES, min_size=1, max_size=30))
def test_what_lives_at_once_lies_apart(lifetimes: list[Lifetime]) -> None:
    plan = dict(enumerate(lifetimes))
    offsets, size = plan_memory(plan)
    assert set(offsets) == set(plan)
    for one, other in itertools.combinations(plan, 2):
        if plan[one].overlaps(plan[other]):
            first, second = sorted((one, other), key=offsets.__getitem__)
            assert offsets[first] + plan[first].size <= offsets[second]
    assert all(offset % ALIGNMENT == 0 for offset in offsets.values())
    assert size == max(offsets[tensor] + plan[tensor].size for tensor in plan)


def test_a_chain_takes_turns_in_two_places() -> None:
    chain = {step: Lifetime(64, step, step + 1) for step in range(10)}
    assert plan_memory(chain)[1] == 128


def test_nothing_takes_no_memory() -> None:
    assert plan_memory({}) == ({}, 0)
