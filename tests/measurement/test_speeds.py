"""Latencies of unequal devices, made comparable."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from typing_extensions import override

from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.job import Float32Array, Job, KernelJob, SubnetJob
from ofa_tvm.measurement.protocol import Measurement
from ofa_tvm.measurement.sources import DeviceSource, Offer
from ofa_tvm.measurement.speeds import Speeds
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import MeasurementProtocol

REFERENCE_CHANNELS = 10
JOB_S = 0.001


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


class Board(Device):
    """Takes as many milliseconds as a kernel has channels, times a factor."""

    name = ""
    emulated = False

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.name = f"board of {factor}"

    @override
    def time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        assert isinstance(job, KernelJob)
        time.sleep(JOB_S)
        return (self.factor * job.workload.in_channels,)

    @override
    def run(self, job: SubnetJob, inputs: Float32Array) -> Float32Array:
        raise NotImplementedError

    @override
    def run_kernel(self, job: KernelJob, inputs: Sequence[Float32Array]) -> tuple[Float32Array, ...]:
        raise NotImplementedError


class BoardOffer(Offer):
    def __init__(self, board: Board) -> None:
        self.identity, self.board = board.name, board

    @override
    def connect(self) -> Device:
        return self.board


class Boards(DeviceSource):
    """Offers each board once."""

    def __init__(self, factors: Sequence[float]) -> None:
        super().__init__()
        self.offers = [BoardOffer(Board(factor)) for factor in factors]

    @override
    def offer(self) -> Offer | None:
        return self.offers.pop(0) if self.offers else None

    @override
    def explain(self) -> str:
        return "there is no other board"


def kernel(channels: int) -> KernelJob:
    return KernelJob(Path("x.so"), "kernel", ((1,),), Workload("scale", channels, channels, 1, 1))


@pytest.mark.parametrize("factors", [(1.0, 1.5), (1.5, 1.0), (1.5,)])
def test_a_farm_of_unequal_boards_finds_the_same_whichever_board_takes_which_job(factors: tuple[float, ...]):
    """The slowest alone finds just that, too."""
    jobs = [kernel(100 + 7 * number % 60) for number in range(60)]
    farm = Farm(Boards(factors), lambda _line: None)
    with contextlib.closing(farm):
        farm.open(limit_s=1)
        found = dict(farm.measure_many(jobs, kernel(REFERENCE_CHANNELS), MeasurementProtocol(repeats=1)))
    outcomes = [found[index] for index in range(len(jobs))]
    measurements = [outcome for outcome in outcomes if isinstance(outcome, Measurement)]
    assert len({outcome.device for outcome in outcomes}) == len(factors)
    speeds = Speeds(measurements)
    expected = [1.5 * job.workload.in_channels for job in jobs]
    assert [speeds.comparable_ms(measurement) for measurement in measurements] == pytest.approx(expected)
