"""Latencies of unequal devices, made comparable."""

from __future__ import annotations

import itertools

import pytest

from ofa_tvm.measurement.protocol import Measurement
from ofa_tvm.measurement.speeds import Speeds


def measured(device: str, median_ms: float, reference_ms: float) -> Measurement:
    return Measurement((median_ms,), median_ms, median_ms, 0.0, 0.0, reference_ms, device, False, "", {})


def test_a_single_device_is_taken_as_it_is():
    measurements = [measured("board0", 2.0, reference_ms) for reference_ms in (1.0, 1.1, 0.9)]
    speeds = Speeds(measurements)
    assert [speeds.comparable_ms(one) for one in measurements] == [2.0] * 3


def test_a_device_that_nothing_is_known_of_is_taken_as_it_is():
    assert Speeds().comparable_ms(measured("board0", 2.0, 1.0)) == 2.0
    speeds = Speeds([measured("board1", 2.0, 1.0), measured("board2", 2.0, 1.5)])
    assert speeds.comparable_ms(measured("board0", 2.0, 1.0)) == 2.0


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_what_is_compared_does_not_depend_on_who_measured_what(order: tuple[int, ...]):
    """Three candidates on boards of three speeds, each in the other's place too."""
    factors, true_ms = (1.0, 1.5, 1.2), (2.0, 2.1, 3.0)
    measurements = [
        measured(f"board{board}", true_ms[job] * factors[board], factors[board]) for job, board in enumerate(order)
    ]
    speeds = Speeds(measurements)
    assert [speeds.comparable_ms(one) for one in measurements] == pytest.approx([3.0, 3.15, 4.5])


def test_one_chunk_out_of_many_makes_no_device_slow():
    usual = [measured("board0", 2.0, 1.0)] * 5
    speeds = Speeds([*usual, measured("board0", 2.0, 9.0), measured("board1", 2.0, 2.0)])
    assert speeds.comparable_ms(usual[0]) == pytest.approx(4.0)


def test_what_is_learnt_later_counts_too():
    one = measured("board0", 2.0, 1.0)
    speeds = Speeds([one])
    assert speeds.comparable_ms(one) == 2.0
    speeds.learn(measured("board1", 3.0, 1.5))
    assert speeds.comparable_ms(one) == pytest.approx(3.0)
