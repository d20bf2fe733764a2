"""How long a device is run before it is measured, on latencies that are written down here."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import pytest

from ofa_tvm.measurement.warm_up import LONGEST_S, STEADY_S, warm_up
from ofa_tvm.targets import MeasurementProtocol

PROTOCOL = MeasurementProtocol(repeats=25, cooldown_ms=20.0)


class Bench:
    """A reference kernel of which each look takes so many seconds, by its own clock."""

    def __init__(self, latencies: Iterable[float], look_s: float) -> None:
        self.latencies: Iterator[float] = iter(latencies)
        self.look_s = look_s
        self.now_s = 0.0
        self.looks: list[float] = []
        self.protocols: list[MeasurementProtocol] = []

    def time(self, protocol: MeasurementProtocol) -> tuple[float, ...]:
        self.now_s += self.look_s
        self.looks.append(next(self.latencies))
        self.protocols.append(protocol)
        return (self.looks[-1],) * protocol.repeats

    def warm_up(self) -> None:
        warm_up(self.time, PROTOCOL, lambda: self.now_s)


def ramp(start: float, end: float, looks: int) -> Iterator[float]:
    """Ever faster in so many looks, then steady."""
    return itertools.chain((start + (end - start) * look / looks for look in range(looks)), itertools.repeat(end))


def test_a_steady_device_is_left_after_a_moment():
    bench = Bench(itertools.repeat(1.0), look_s=0.01)
    bench.warm_up()
    assert bench.now_s <= STEADY_S + 3 * bench.look_s


def test_noise_is_no_reason_to_go_on():
    bench = Bench(itertools.cycle([1.04, 1.0, 1.02, 0.995]), look_s=0.01)
    bench.warm_up()
    assert bench.now_s <= 2 * STEADY_S


@pytest.mark.parametrize("look_s", [0.01, 0.3])
@pytest.mark.parametrize("looks", [2, 6])
def test_a_device_is_run_until_it_is_as_fast_as_it_gets(looks: int, look_s: float):
    bench = Bench(ramp(1.3, 1.0, looks), look_s)
    bench.warm_up()
    assert bench.looks[-1] == 1.0


def test_a_clock_that_rises_slowly_is_waited_for():
    bench = Bench(ramp(1.2, 1.0, looks=100), look_s=0.01)
    bench.warm_up()
    assert bench.looks[-1] <= 1.01


def test_a_device_that_never_is_steady_is_measured_all_the_same():
    bench = Bench((0.9**look for look in itertools.count()), look_s=0.1)
    bench.warm_up()
    assert bench.now_s == pytest.approx(LONGEST_S, abs=2 * bench.look_s)


def test_a_look_is_short_and_rests_between_samples_as_the_protocol_does():
    bench = Bench(itertools.repeat(1.0), look_s=0.1)
    bench.warm_up()
    assert {(protocol.repeats, protocol.cooldown_ms) for protocol in bench.protocols} == {(5, 20.0)}
