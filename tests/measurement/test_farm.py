"""The farm's decisions, on devices that do as they are told and a clock that is told what time it is."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from typing_extensions import override

from ofa_tvm.errors import (
    DeviceError,
    DeviceUnavailableError,
    MeasurementError,
    NumericalMismatchError,
    TrackerUnreachableError,
)
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.device_info import DeviceInfo
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.job import Float32Array, Job, KernelJob, SubnetJob
from ofa_tvm.measurement.limits import Limits
from ofa_tvm.measurement.protocol import Measurement, MeasurementFailure, Outcome
from ofa_tvm.measurement.run import MAX_ATTEMPTS
from ofa_tvm.measurement.sources import DeviceSource, Offer
from ofa_tvm.measurement.task_queue import CHUNK_JOBS, TaskQueue
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import MeasurementProtocol

PROTOCOL = MeasurementProtocol(max_drift=0.05, repeats=1)
JOB_S = 0.001
LONG_PAUSES = {"pause_s": 30.0, "longest_pause_s": 300.0}
SUBNET = SubnetJob(Path("subnet.so"), (1, 3, 4, 4), ())
IMAGE = np.zeros(SUBNET.input_shape, np.float32)


def a_job(function: str) -> KernelJob:
    return KernelJob(Path("x.so"), function, ((1,),), Workload("scale", 1, 1, 1, 1))


REFERENCE = a_job("reference")


def some_jobs(count: int) -> list[KernelJob]:
    return [a_job(f"job{number}") for number in range(count)]


class Clock:
    """Goes on by a little whenever somebody looks."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.01
        return self.now_s


@dataclass(eq=False)
class Host:
    """What a scripted device does.

    Attributes
    ----------
    reference_ms
        Of run after run of the reference kernel; the last one for ever.
    fails
        Whether a function fails here at this call; it may also raise, or do something to the host.
    keeps_session
        Whether a job that failed leaves the connection open.
    freezes, refuses
        Connecting takes until it is given up, or is refused.
    numbers
        Added to the outputs of subnets.
    board
        What tells its board from others, if it says so.
    slow_until_warm
        How many times as long the reference kernel takes before the device was warmed up.
    while_warming
        Called while the device is warmed up.
    lost
        How often its connection was lost.
    """

    name: str
    reference_ms: list[float] = field(default_factory=lambda: [1.0])
    fails: Callable[[str], bool] = lambda _function: False
    keeps_session: bool = False
    freezes: bool = False
    refuses: bool = False
    numbers: float = 0.0
    board: str | None = None
    slow_until_warm: float = 1.0
    while_warming: Callable[[], object] = lambda: None
    lost: int = 0
    warmed_up: int = 0
    alive: bool = True
    identity: str = ""
    session: ScriptedDevice | None = None
    log: list[str] = field(default_factory=list)

    @property
    def timed(self) -> Counter[str]:
        """How often each job was asked for."""
        return Counter(function for function in self.log if function != "reference")


class ScriptedDevice(Device):
    def __init__(self, host: Host) -> None:
        self.host = host
        self.open = True

    @property
    @override
    def name(self) -> str:
        return self.host.name

    @property
    @override
    def emulated(self) -> bool:
        return False

    @property
    @override
    def info(self) -> DeviceInfo | None:
        return DeviceInfo(id=self.host.board) if self.host.board else None

    @property
    @override
    def is_open(self) -> bool:
        return self.open

    @override
    def close(self) -> None:
        self.open = False

    @override
    def time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        assert isinstance(job, KernelJob)
        self.attempt(job.function)
        if job != REFERENCE:
            return (2.0,)
        latencies = self.host.reference_ms
        latency_ms = latencies.pop(0) if len(latencies) > 1 else latencies[0]
        return (latency_ms if self.host.warmed_up else latency_ms * self.host.slow_until_warm,)

    @override
    def warm_up(self, reference: KernelJob, protocol: MeasurementProtocol) -> None:
        assert reference == REFERENCE
        self.host.warmed_up += 1
        self.host.while_warming()
        if not self.open or not self.host.alive:
            raise DeviceUnavailableError("connection broken")

    @override
    def run(self, job: SubnetJob, inputs: Float32Array) -> Float32Array:
        self.attempt("subnet")
        return inputs + np.float32(self.host.numbers) if self.host.numbers else inputs

    @override
    def run_kernel(self, job: KernelJob, inputs: Sequence[Float32Array]) -> tuple[Float32Array, ...]:
        self.attempt(job.function)
        return (inputs[0],)

    def attempt(self, function: str) -> None:
        time.sleep(JOB_S)
        failed = self.host.fails(function)
        if not self.open or not self.host.alive:
            self.open = False
            raise DeviceUnavailableError("connection broken")
        self.host.log.append(function)
        if failed:
            self.open = self.host.keeps_session
            raise MeasurementError(f"{function} crashed")


class ScriptedOffer(Offer):
    def __init__(self, host: Host) -> None:
        self.identity = host.identity or host.name
        self.host = host
        self.cancelled = threading.Event()

    @override
    def connect(self) -> Device:
        if self.host.freezes:
            assert self.cancelled.wait(20), "nobody gave up"
            raise DeviceUnavailableError(f"{self.host.name} does not answer")
        if self.host.refuses:
            raise DeviceUnavailableError(f"{self.host.name} refuses: no space")
        self.host.session = ScriptedDevice(self.host)
        return self.host.session

    @override
    def cancel(self) -> None:
        self.cancelled.set()


class ScriptedSource(DeviceSource):
    """Offers its hosts in turn, those that live and are not in use."""

    def __init__(self, hosts: list[Host]) -> None:
        super().__init__()
        self.hosts = hosts
        self.turn = 0
        self.error: DeviceError | None = None
        self.offered: Counter[str] = Counter()

    @override
    def offer(self) -> Offer | None:
        if self.error is not None:
            raise self.error
        self.turn += 1
        if self.turn > len(self.hosts):
            self.turn = 0
            return None
        host = self.hosts[self.turn - 1]
        in_use = host.session is not None and host.session.open
        if not host.alive or in_use or host.name in self.avoid:
            return self.offer()
        self.offered[host.name] += 1
        return ScriptedOffer(host)

    @override
    def explain(self) -> str:
        return "no scripted device is free"


class Scene:
    """A farm of scripted hosts and all that was said."""

    def __init__(self, *hosts: Host, **limits: float) -> None:
        self.hosts = list(hosts)
        self.source = ScriptedSource(self.hosts)
        self.clock = Clock()
        self.said: list[str] = []
        self.farm = Farm(self.source, self.said.append, self.clock, Limits(**{"urgent_poll_s": 0.001, **limits}))

    def measure(self, jobs: Sequence[Job]) -> dict[int, Outcome]:
        """Outcomes by index; each must come once."""
        outcomes = list(self.farm.measure_many(jobs, REFERENCE, PROTOCOL))
        assert len(dict(outcomes)) == len(outcomes)
        assert not farm_threads()
        return dict(outcomes)

    def said_of(self, host: Host) -> list[str]:
        return [line for line in self.said if line.startswith(host.name)]


def farm_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("farm")]


def hosts(count: int) -> list[Host]:
    return [Host(f"board{number}") for number in range(count)]


def assert_each_measured(outcomes: dict[int, Outcome], jobs: Sequence[Job]) -> None:
    assert sorted(outcomes) == list(range(len(jobs)))
    assert all(isinstance(outcome, Measurement) for outcome in outcomes.values())


@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_job_is_measured_once_and_says_where(count: int):
    scene, jobs = Scene(*hosts(count)), some_jobs(150)
    scene.farm.open(limit_s=1)
    outcomes = scene.measure(jobs)
    assert_each_measured(outcomes, jobs)
    for host in scene.hosts:
        mine = {jobs[index].function for index, outcome in outcomes.items() if outcome.device == host.name}
        assert host.timed == Counter(mine)
        assert mine
    assert scene.farm.devices == tuple(host.name for host in scene.hosts)
    assert not scene.said


def test_one_device_takes_jobs_in_order_between_two_references():
    (host,) = scene_hosts = hosts(1)
    scene = Scene(*scene_hosts)
    assert list(scene.measure(some_jobs(CHUNK_JOBS + 1))) == list(range(CHUNK_JOBS + 1))
    names = [job.function for job in some_jobs(CHUNK_JOBS + 1)]
    assert host.log == ["reference", *names[:-1], "reference", "reference", names[-1], "reference"]


@pytest.mark.parametrize(
    ("jobs", "devices", "expected"),
    [
        (200, 4, [16, 16, 16, 16, 16, 15, 13, 11, 10, 8, 8, 8, 8, 8, 8, 8, 8, 7]),
        (16, 4, [4, 4, 4, 4]),
        (3, 4, [1, 1, 1]),
        (20, 1, [16, 4]),
    ],
)
def test_chunks_shrink_but_not_below_what_pays_for_their_references(jobs, devices, expected):
    queue = TaskQueue(some_jobs(jobs))
    sizes = []
    while len(queue):
        sizes.append(len(queue.take(devices, lambda _task: False)))
    assert max(sizes) <= CHUNK_JOBS
    assert sizes == expected


def test_outcomes_come_before_the_run_is_over():
    scene, jobs = Scene(*hosts(1)), some_jobs(3 * CHUNK_JOBS)
    with contextlib.closing(scene.farm.measure_many(jobs, REFERENCE, PROTOCOL)) as outcomes:
        next(outcomes)
        assert len(scene.hosts[0].timed) < len(jobs)
    assert not farm_threads()


def test_a_device_that_dies_loses_nothing():
    dying, *others = hosts(4)
    dying.fails = kill_after(dying, 5)
    scene, jobs = Scene(dying, *others), some_jobs(100)
    outcomes = scene.measure(jobs)
    assert_each_measured(outcomes, jobs)
    assert dying.name not in {outcome.device for outcome in outcomes.values()}
    assert any("gone" in line for line in scene.said_of(dying))
    assert not any("aside" in line for line in scene.said)


def test_a_device_that_comes_back_goes_on_with_its_chunk():
    host = Host("board0", fails=once("job3"))
    scene, jobs = Scene(host), some_jobs(CHUNK_JOBS)
    assert_each_measured(scene.measure(jobs), jobs)
    assert host.timed == Counter({**dict.fromkeys((job.function for job in jobs), 1), "job3": 2})
    assert host.log.count("reference") == 4


def test_another_device_at_the_same_address_begins_the_chunk_anew():
    second = Host("board1", identity="address")
    first = Host("board0", identity="address")

    def swap(function: str) -> bool:
        if function == "job3":
            first.alive = False
            scene.hosts[0] = second
        return False

    first.fails = swap
    scene, jobs = Scene(first), some_jobs(CHUNK_JOBS)
    outcomes = scene.measure(jobs)
    assert_each_measured(outcomes, jobs)
    assert {outcome.device for outcome in outcomes.values()} == {"board1"}
    assert second.log[0] == second.log[-1] == "reference"
    assert scene.farm.devices == ("board0", "board1")


def test_unequal_devices_are_named_once():
    slow, *others = Host("board0", reference_ms=[1.2]), *hosts(3)[1:]
    scene = Scene(slow, *others)
    scene.farm.open(limit_s=1)
    for _ in range(2):
        scene.measure(some_jobs(60))
    scene.farm.close()
    (line,) = scene.said
    assert "board0, 20% more" in line
    assert scene.farm.reference_ms() == {"board0": 1.2, "board1": 1.0, "board2": 1.0}


def test_equal_devices_are_not_named():
    scene = Scene(Host("board0", reference_ms=[1.04]), Host("board1"))
    scene.farm.open(limit_s=1)
    scene.measure(some_jobs(60))
    assert not scene.said


def test_a_device_that_drifts_is_set_aside_and_tried_again_later():
    drifting, steady = Host("board0", reference_ms=[1.0, 1.5, 1.0]), Host("board1")
    scene = Scene(drifting, steady, **LONG_PAUSES)
    scene.farm.open(limit_s=1)
    jobs = some_jobs(60)
    outcomes = scene.measure(jobs)
    assert_each_measured(outcomes, jobs)
    assert {outcome.device for outcome in outcomes.values()} == {"board1"}
    (line,) = scene.said_of(drifting)
    assert "set aside for 30 s" in line
    assert "50.0%" in line
    before = len(drifting.log)
    scene.measure(jobs[:4])
    assert len(drifting.log) == before
    scene.clock.now_s += 31
    outcomes = scene.measure(some_jobs(500))  # so many that it is back before the other one has done them all
    assert drifting.log[before : before + 3] == ["reference"] * 3  # two to prove itself, one before a chunk
    assert "board0" in {outcome.device for outcome in outcomes.values()}
    assert len(scene.said_of(drifting)) == 1


def test_a_device_set_aside_is_left_to_others_at_the_tracker():
    drifting, steady = Host("board0", reference_ms=[1.0, 2.0] * 50), Host("board1")
    scene = Scene(drifting, steady, poll_s=0.01, **LONG_PAUSES)
    scene.farm.open(limit_s=1)
    scene.measure(some_jobs(100))
    scene.measure(some_jobs(100))
    assert scene.source.offered == {"board0": 1, "board1": 1}


def test_the_pause_doubles_up_to_the_longest():
    drifting, steady = Host("board0", reference_ms=[1.0, 1.5] * 50), Host("board1")
    scene = Scene(drifting, steady, **LONG_PAUSES)
    scene.farm.open(limit_s=1)
    for _ in range(6):
        assert_each_measured(scene.measure(some_jobs(300)), some_jobs(300))
        scene.clock.now_s += 301
    pauses = [line.split(" set aside for ")[1].split(" s:")[0] for line in scene.said_of(drifting)]
    assert pauses == ["30", "60", "120", "240", "300", "300"]


def test_a_device_set_aside_is_tried_again_at_once_when_no_other_can_work():
    """Its numbers are wrong for a moment; then the only other one is gone, and the pause has hardly begun."""
    wrong, steady = hosts(2)
    proofs: list[str] = []

    def prove(device: Device) -> None:
        proofs.append(device.name)
        if device.name == wrong.name and steady.alive:
            raise NumericalMismatchError("2 is not 4")

    steady.fails = kill_after(steady, 30)
    scene, jobs = Scene(wrong, steady, pause_s=1e6, longest_pause_s=1e6, retry_s=0.1), some_jobs(80)
    scene.farm.require(prove)
    scene.farm.open(limit_s=1)
    assert_each_measured(scene.measure(jobs), jobs)
    assert wrong.timed
    assert proofs.count(wrong.name) == 2
    assert sum("set aside" in line for line in scene.said_of(wrong)) == 1


def test_trials_for_want_of_others_are_not_said_and_make_no_pause_longer():
    wrong, steady = hosts(2)
    trials = itertools.count()

    def prove(device: Device) -> None:
        if device.name == wrong.name and next(trials) < 4:
            raise NumericalMismatchError("2 is not 4")

    steady.fails = kill_after(steady, 30)
    scene, jobs = Scene(wrong, steady, pause_s=1e6, longest_pause_s=1e6, retry_s=0.1), some_jobs(80)
    scene.farm.require(prove)
    scene.farm.open(limit_s=1)
    assert_each_measured(scene.measure(jobs), jobs)
    assert next(trials) == 5
    assert sum("set aside" in line for line in scene.said_of(wrong)) == 1


def test_a_device_set_aside_is_free_for_a_minute_at_most():
    assert Limits().pause_s <= 5
    assert Limits().longest_pause_s <= 60


def test_a_device_is_warmed_up_before_its_first_chunk_and_before_its_trial():
    drifting, steady = Host("board0", reference_ms=[1.0, 1.5, 1.0]), Host("board1")
    scene, jobs = Scene(drifting, steady, **LONG_PAUSES), some_jobs(500)
    scene.farm.open(limit_s=1)
    scene.measure(jobs)
    scene.measure(jobs)
    assert (drifting.warmed_up, steady.warmed_up) == (1, 1)
    scene.clock.now_s += 31
    scene.measure(jobs)
    assert (drifting.warmed_up, steady.warmed_up) == (2, 1)


def test_a_device_that_is_slow_until_it_is_warm_is_not_said_to_have_changed():
    cold = Host("board0", reference_ms=[1.0], slow_until_warm=1.3)
    scene, jobs = Scene(cold), some_jobs(3 * CHUNK_JOBS)
    outcomes = scene.measure(jobs)
    assert {outcome.reference_ms for outcome in outcomes.values()} == {1.0}
    assert not scene.said


def test_a_connection_lost_while_a_device_is_warmed_up_is_made_again():
    host = Host("board0")
    lose = lose_during(host, "warm up", times=1)
    host.while_warming = lambda: lose("warm up")
    scene, jobs = Scene(host), some_jobs(3)
    assert_each_measured(scene.measure(jobs), jobs)
    assert host.warmed_up == 2


def test_the_only_device_may_drift_and_the_record_says_so():
    host = Host("board0", reference_ms=[1.0, 1.5, 1.0, 1.2, 1.0, 1.4])
    scene = Scene(host)
    outcome = scene.measure([a_job("a")])[0]
    assert isinstance(outcome, Measurement)
    assert outcome.drift == pytest.approx(0.2)
    assert host.timed["a"] == MAX_ATTEMPTS
    assert not scene.said


def test_when_all_devices_drift_one_of_them_goes_on():
    scene = Scene(*(Host(f"board{number}", reference_ms=[1.0, 1.5] * 200) for number in range(2)))
    scene.farm.open(limit_s=1)
    outcomes = scene.measure(some_jobs(20))
    assert_each_measured(outcomes, some_jobs(20))
    assert all(outcome.drift > PROTOCOL.max_drift for outcome in outcomes.values())


@pytest.mark.parametrize("keeps_session", [True, False])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_jobs_that_fail_everywhere_are_values_and_nobodys_fault(count: int, keeps_session: bool):
    bad = {"job3", "job4", "job5", "job40"}
    scene = Scene(*hosts(count))
    for host in scene.hosts:
        host.fails, host.keeps_session = bad.__contains__, keeps_session
    scene.farm.open(limit_s=1)
    jobs = some_jobs(60)
    outcomes = scene.measure(jobs)
    failed = {jobs[index].function: o for index, o in outcomes.items() if isinstance(o, MeasurementFailure)}
    assert set(failed) == bad
    assert len(outcomes) == len(jobs)
    total = sum((host.timed for host in scene.hosts), Counter())
    assert all(2 <= total[function] <= (2 if count < 3 else 3) for function in bad)
    for function, outcome in failed.items():
        assert outcome.error.count(f"{function} crashed") == total[function]
        told = [host.name for host in scene.hosts if host.name in outcome.error]
        assert len(told) >= (2 if count > 2 else 1)  # one that failed twice in a row is not asked for its opinion
    assert not any("aside" in line for line in scene.said)


def test_a_device_on_which_jobs_fail_that_succeed_elsewhere_is_set_aside():
    broken, *others = hosts(3)
    broken.fails = lambda function: function != "reference"
    scene, jobs = Scene(broken, *others), some_jobs(100)
    scene.farm.open(limit_s=1)
    outcomes = scene.measure(jobs)
    assert_each_measured(outcomes, jobs)
    assert any("set aside" in line and "crashed" in line for line in scene.said_of(broken))
    assert broken.name not in {outcome.device for outcome in outcomes.values()}


def test_one_failure_now_and_then_sets_nobody_aside():
    shaky, *others = hosts(3)
    calls = itertools.count()
    shaky.fails = lambda function: function != "reference" and next(calls) % 20 == 19
    scene, jobs = Scene(shaky, *others), some_jobs(200)
    scene.farm.open(limit_s=1)
    assert_each_measured(scene.measure(jobs), jobs)
    assert not any("aside" in line for line in scene.said)
    assert sum(shaky.timed.values()) > 20


def test_a_device_whose_reference_kernel_fails_is_set_aside():
    broken, steady = hosts(2)
    broken.fails = lambda _function: True
    scene, jobs = Scene(broken, steady), some_jobs(60)
    scene.farm.open(limit_s=1)
    assert_each_measured(scene.measure(jobs), jobs)
    assert any("reference kernel fails: reference crashed" in line for line in scene.said_of(broken))


def test_the_reference_kernel_failing_on_the_only_device_is_an_error():
    scene = Scene(Host("board0", fails=lambda function: function == "reference"))
    with pytest.raises(MeasurementError, match="reference crashed"):
        scene.measure(some_jobs(3))
    assert not farm_threads()


def test_a_late_joiner_takes_part():
    first = Host("board0")

    def join(function: str) -> bool:
        if function == "job20":
            scene.hosts.append(Host("board1"))
        scene.clock.now_s += 0.5
        return False

    first.fails = join
    scene, jobs = Scene(first, poll_s=0.01), some_jobs(500)
    outcomes = scene.measure(jobs)
    assert_each_measured(outcomes, jobs)
    assert {outcome.device for outcome in outcomes.values()} == {"board0", "board1"}


def test_a_device_that_freezes_while_it_is_connected_to_holds_nobody_up():
    frozen, steady = Host("board0", freezes=True), Host("board1")
    scene, jobs = Scene(frozen, steady), some_jobs(60)
    assert_each_measured(scene.measure(jobs), jobs)


def test_a_bug_ends_the_run_after_what_was_finished():
    def divide(function: str) -> bool:
        return function == "job20" and 1 // 0 > 0

    scene = Scene(Host("board0", fails=divide))
    outcomes: list[int] = []
    with pytest.raises(ZeroDivisionError):
        outcomes.extend(index for index, _ in scene.farm.measure_many(some_jobs(40), REFERENCE, PROTOCOL))
    assert outcomes == list(range(CHUNK_JOBS))
    assert not farm_threads()


def test_an_interrupt_loses_no_chunk_that_was_finished():
    def interrupt(function: str) -> bool:
        if function == "job20":
            os.kill(os.getpid(), signal.SIGINT)
        return False

    scene = Scene(Host("board0", fails=interrupt))
    outcomes: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        outcomes.extend(index for index, _ in scene.farm.measure_many(some_jobs(40), REFERENCE, PROTOCOL))
    assert outcomes[:CHUNK_JOBS] == list(range(CHUNK_JOBS))
    assert not farm_threads()
    jobs = some_jobs(20)
    scene.hosts[0].fails = lambda _function: False
    assert_each_measured(scene.measure(jobs), jobs)


def test_no_device_for_too_long_is_an_error_after_what_was_finished():
    host = Host("board0")
    host.fails = kill_after(host, CHUNK_JOBS + 4)
    scene = Scene(host)
    outcomes: list[int] = []
    with pytest.raises(DeviceUnavailableError, match="no scripted device is free"):
        outcomes.extend(index for index, _ in scene.farm.measure_many(some_jobs(40), REFERENCE, PROTOCOL))
    assert outcomes == list(range(CHUNK_JOBS))
    assert scene.clock.now_s > 60
    assert sum(line.startswith("waiting for a device") for line in scene.said) == 1


def test_a_device_that_is_back_in_time_is_waited_for():
    host = Host("board0")
    host.fails = kill_after(host, 20)
    scene, jobs = Scene(host), some_jobs(40)

    def tell(line: str) -> None:
        scene.said.append(line)
        if line.startswith("waiting"):
            host.fails, host.alive = (lambda _function: False), True

    scene.farm = Farm(scene.source, tell, scene.clock, Limits(urgent_poll_s=0.001))
    assert_each_measured(scene.measure(jobs), jobs)
    assert scene.said[-1] == "there is a device again"


def test_a_tracker_that_is_away_is_no_matter_while_sessions_are_open():
    scene, jobs = Scene(*hosts(2)), some_jobs(60)
    scene.farm.open(limit_s=1)
    scene.source.error = TrackerUnreachableError("no tracker")
    assert_each_measured(scene.measure(jobs), jobs)


def test_a_tracker_that_stays_away_is_the_error_once_a_session_is_needed():
    host = Host("board0")

    def fail(function: str) -> bool:
        if function == "job20":
            scene.source.error = TrackerUnreachableError("no tracker")
        return function == "job20"

    host.fails = fail
    scene = Scene(host)
    with pytest.raises(TrackerUnreachableError, match="no tracker"):
        scene.measure(some_jobs(40))


def test_time_between_two_runs_is_no_absence():
    scene = Scene(Host("board0", fails=lambda function: function == "a"))
    assert isinstance(scene.measure([a_job("a")])[0], MeasurementFailure)  # the connection is gone
    scene.clock.now_s += 1000
    assert_each_measured(scene.measure(some_jobs(3)), some_jobs(3))
    assert not scene.said


def test_a_condemned_device_that_is_left_alone_goes_on():
    """Its jobs failed while others succeeded, but the others are gone when it has ended what it does."""
    shaky, steady = hosts(2)
    shaky.fails = lambda function: function in {"job0", "job1"} and steady.alive
    steady.fails = kill_after(steady, 30)
    scene, jobs = Scene(shaky, steady), some_jobs(120)
    scene.farm.open(limit_s=1)
    assert_each_measured(scene.measure(jobs), jobs)
    assert max(shaky.timed.values()) <= 2


def test_nothing_there_is_an_error_at_once():
    scene = Scene()
    with pytest.raises(DeviceUnavailableError, match="no scripted device is free"):
        scene.farm.open(limit_s=0.1)


def test_no_chunk_is_begun_after_the_deadline():
    scene = Scene(*hosts(1))
    outcomes = list(scene.farm.measure_many(some_jobs(60), REFERENCE, PROTOCOL, deadline_s=0.0))
    assert [index for index, _ in outcomes] == list(range(CHUNK_JOBS))


def test_a_single_job_that_fails_is_an_error():
    scene = Scene(Host("board0", fails=lambda function: function == "a"))
    with pytest.raises(MeasurementError, match=r"a crashed \(on board0\); then a crashed \(on board0\)"):
        scene.farm.measure(a_job("a"), REFERENCE, PROTOCOL)
    assert scene.farm.measure(a_job("b"), REFERENCE, PROTOCOL).median_ms == 2.0


def test_a_subnet_that_fails_on_one_device_runs_on_another():
    broken, steady = hosts(2)
    broken.fails = lambda _function: True
    scene = Scene(broken, steady)
    scene.farm.open(limit_s=1)
    assert scene.farm.run(SUBNET, IMAGE).output is IMAGE
    assert broken.timed == steady.timed == Counter(subnet=1)


@pytest.mark.parametrize("count", [1, 2])
def test_a_subnet_that_fails_twice_is_an_error_that_says_where(count: int):
    scene = Scene(*hosts(count))
    for host in scene.hosts:
        host.fails = lambda _function: True
    with pytest.raises(MeasurementError) as caught:
        scene.farm.run(SUBNET, IMAGE)
    assert str(caught.value).count("subnet crashed") == 2
    assert all(host.name in str(caught.value) for host in scene.hosts)


def test_closing_ends_all_connections():
    scene = Scene(*hosts(3))
    scene.farm.open(limit_s=1)
    scene.farm.close()
    assert not any(host.session is not None and host.session.open for host in scene.hosts)


def test_jobs_of_a_device_that_cannot_be_connected_to_again_go_to_the_others():
    """Its server has no space for a session any more; by then the others have emptied the queue."""
    steady, full = hosts(2)
    full.refuses = False

    def fill(function: str) -> bool:
        full.refuses = function != "reference"
        return full.refuses

    full.fails = fill
    scene, jobs = Scene(steady, full), some_jobs(40)
    scene.farm.open(limit_s=1)
    assert_each_measured(scene.measure(jobs), jobs)
    assert any("set aside" in line and "refuses" in line for line in scene.said_of(full))


@pytest.mark.parametrize("fails_for_good", [True, False])
def test_a_caller_that_takes_its_time_changes_nothing(fails_for_good: bool):
    """While it writes, a chunk ends on a connection that has closed, and the device is free again."""
    host = Host("board0", fails="job20".__eq__ if fails_for_good else once("job20"))
    scene, jobs = Scene(host), some_jobs(64)
    outcomes: dict[int, Outcome] = {}
    with contextlib.closing(scene.farm.measure_many(jobs, REFERENCE, PROTOCOL)) as measured:
        for index, outcome in measured:
            assert index not in outcomes
            outcomes[index] = outcome
            time.sleep(0.005)
    assert isinstance(outcomes[20], MeasurementFailure) == fails_for_good
    assert host.timed == Counter({**dict.fromkeys((job.function for job in jobs), 1), "job20": 2})


@pytest.mark.parametrize("count", [1, 2, 3])
def test_many_bad_devices_make_no_job_fail_that_a_good_one_can_do(count: int):
    good = Host("good", fails=lambda _function: time.sleep(0.02) is not None)
    bad = [Host(f"bad{number}", fails=lambda function: function != "reference") for number in range(count)]
    scene, jobs = Scene(good, *bad), some_jobs(64)
    scene.farm.open(limit_s=1)
    outcomes = scene.measure(jobs)
    assert_each_measured(outcomes, jobs)
    assert {outcome.device for outcome in outcomes.values()} == {"good"}


def test_a_device_that_fails_every_second_job_is_set_aside():
    steady, shaky = hosts(2)
    calls = itertools.count()
    shaky.fails = lambda function: function != "reference" and next(calls) % 2 == 1
    scene, jobs = Scene(steady, shaky), some_jobs(200)
    scene.farm.open(limit_s=1)
    assert_each_measured(scene.measure(jobs), jobs)
    assert any("set aside" in line for line in scene.said_of(shaky))


def test_a_connection_lost_twice_is_not_the_jobs_fault():
    host = Host("board0")
    host.fails = lose_during(host, "job3", times=2)
    scene, jobs = Scene(host), some_jobs(CHUNK_JOBS)
    assert_each_measured(scene.measure(jobs), jobs)
    assert host.log.count("reference") == 4  # one more after each loss, to see that the device is well


def test_a_connection_lost_during_the_reference_kernel_is_not_its_fault():
    host = Host("board0")
    host.fails = lose_during(host, "reference", times=3)
    scene, jobs = Scene(host), some_jobs(3)
    assert_each_measured(scene.measure(jobs), jobs)


@pytest.mark.parametrize("count", [1, 2])
def test_a_job_that_takes_its_device_down_again_and_again_has_failed(count: int):
    scene, jobs = Scene(*hosts(count)), some_jobs(40)
    for host in scene.hosts:
        host.fails = lose_during(host, "job5", times=100)
    scene.farm.open(limit_s=1)
    outcomes = scene.measure(jobs)
    lost = outcomes.pop(5)
    assert isinstance(lost, MeasurementFailure)
    assert "connection broken" in lost.error
    assert sum(host.lost for host in scene.hosts) == 4
    assert len(outcomes) == 39
    assert all(isinstance(outcome, Measurement) for outcome in outcomes.values())


def test_a_device_that_is_lost_whatever_it_does_is_an_error_after_a_while():
    host = Host("board0")
    host.fails = lose_during(host, "reference", times=1_000_000)
    scene = Scene(host, absence_s=1.0)
    with pytest.raises(DeviceUnavailableError, match="board0 is lost again and again: connection broken"):
        scene.measure(some_jobs(3))


def test_a_device_that_is_lost_whatever_it_does_is_set_aside_for_others():
    steady, shaky = hosts(2)
    shaky.fails = lose_during(shaky, "reference", times=1_000_000)
    scene, jobs = Scene(steady, shaky), some_jobs(60)
    scene.farm.open(limit_s=1)
    assert_each_measured(scene.measure(jobs), jobs)
    assert any("set aside" in line and "lost again and again" in line for line in scene.said_of(shaky))


def test_a_device_that_throttles_between_chunks_is_set_aside_until_it_is_as_fast_again():
    hot, steady = Host("board0", reference_ms=[1.0] * 4 + [3.0] * 4 + [1.0]), Host("board1")
    scene, jobs = Scene(hot, steady, **LONG_PAUSES), some_jobs(500)
    scene.farm.open(limit_s=1)
    outcomes = scene.measure(jobs)
    assert_each_measured(outcomes, jobs)
    assert {outcome.reference_ms for outcome in outcomes.values()} == {1.0}
    (line,) = scene.said_of(hot)
    assert "set aside for 30 s: its reference kernel took 1 ms at first and takes 3 ms now" in line
    scene.clock.now_s += 31  # its trial: still slow
    scene.measure(jobs)
    assert "set aside for 60 s" in scene.said_of(hot)[1]
    scene.clock.now_s += 61
    outcomes = scene.measure(jobs)
    assert "board0" in {outcome.device for outcome in outcomes.values()}
    assert len(scene.said_of(hot)) == 2


@pytest.mark.parametrize("later_ms", [[3.0] * 100, [1.0 + 0.02 * number for number in range(100)]])
def test_the_only_device_that_throttles_is_named_once_with_both_figures(later_ms: list[float]):
    host = Host("board0", reference_ms=[1.0] * 6 + later_ms)
    scene, jobs = Scene(host), some_jobs(20 * CHUNK_JOBS)
    assert_each_measured(scene.measure(jobs), jobs)
    (line,) = scene.said
    assert line.startswith("board0 goes on, though its reference kernel took 1 ms at first and takes")
    assert host.log.count("reference") == 40  # nothing is measured again for it


def test_a_device_that_was_slow_at_first_is_not_set_aside_when_it_is_fast():
    cold, steady = Host("board0", reference_ms=[2.0, 2.0, 1.0]), Host("board1")
    scene, jobs = Scene(cold, steady), some_jobs(200)
    scene.farm.open(limit_s=1)
    assert_each_measured(scene.measure(jobs), jobs)
    assert not any("aside" in line for line in scene.said)


def test_one_bad_device_does_not_end_the_run_while_the_others_are_away_for_a_moment():
    steady, broken = hosts(2)
    broken.fails = lambda function: function == "reference" and not steady.alive

    steady.fails = kill_after(steady, 10)
    scene, jobs = Scene(steady, broken), some_jobs(120)

    def tell(line: str) -> None:
        scene.said.append(line)
        steady.fails, steady.alive = (lambda _function: False), steady.alive or line.startswith("board1 is set aside")

    scene.farm = Farm(scene.source, tell, scene.clock, Limits(urgent_poll_s=0.001))
    scene.farm.open(limit_s=1)
    assert_each_measured(scene.measure(jobs), jobs)
    assert any("reference kernel fails" in line for line in scene.said_of(broken))


def test_a_reference_kernel_that_fails_everywhere_is_an_error():
    scene = Scene(*hosts(3))
    for host in scene.hosts:
        host.fails = lambda function: function == "reference"
    scene.farm.open(limit_s=1)
    with pytest.raises(MeasurementError, match="reference crashed"):
        scene.measure(some_jobs(30))


def test_a_device_that_computes_wrong_numbers_measures_nothing():
    wrong, right = hosts(2)
    scene, jobs = Scene(wrong, right), some_jobs(60)
    scene.farm.require(right_except_on("board0"))
    scene.farm.open(limit_s=1)
    outcomes = scene.measure(jobs)
    assert_each_measured(outcomes, jobs)
    assert {outcome.device for outcome in outcomes.values()} == {"board1"}
    assert not wrong.log
    assert any("set aside" in line and "wrong numbers: 2 is not 4 on board0" in line for line in scene.said)


def test_the_only_device_that_computes_wrong_numbers_is_an_error():
    scene = Scene(*hosts(1))
    scene.farm.require(right_except_on("board0"))
    with pytest.raises(NumericalMismatchError, match="2 is not 4 on board0"):
        scene.measure(some_jobs(3))
    assert not scene.hosts[0].log


def test_a_device_is_asked_for_its_proof_once():
    asked: list[str] = []
    scene = Scene(*hosts(2))
    scene.farm.require(lambda device: asked.append(device.name))
    scene.farm.open(limit_s=1)
    for _ in range(2):
        scene.measure(some_jobs(60))
    assert sorted(asked) == ["board0", "board1"]


def test_a_subnet_with_wrong_numbers_on_one_device_runs_on_another():
    scene = Scene(*hosts(2))
    scene.farm.open(limit_s=1)
    scene.hosts[0].numbers = 1.0
    ran = scene.farm.run(SUBNET, IMAGE, all_zero)
    assert (ran.device, ran.emulated) == ("board1", False)
    (line,) = scene.said_of(scene.hosts[0])
    assert "set aside" in line and "wrong numbers: not all zero" in line
    assert scene.farm.connected == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_subnet_with_wrong_numbers_everywhere_is_an_error_that_says_where(count: int):
    scene = Scene(*hosts(count))
    scene.farm.open(limit_s=1)
    for host in scene.hosts:
        host.numbers = 1.0
    with pytest.raises(NumericalMismatchError) as caught:
        scene.farm.run(SUBNET, IMAGE, all_zero)
    assert [host.name in str(caught.value) for host in scene.hosts] == [True, True, False][:count]
    assert not scene.said


def test_a_subnet_runs_though_the_connection_is_lost_twice():
    host = Host("board0")
    host.fails = lose_during(host, "subnet", times=2)
    scene = Scene(host)
    assert scene.farm.run(SUBNET, IMAGE).output is IMAGE


def test_a_board_whose_server_has_another_port_goes_on_with_its_chunk():
    board = Host("board0", identity="host:1", board="a1b2c3d4")

    def move(function: str) -> bool:
        if function == "job3" and board.identity == "host:1":
            board.identity = "host:2"
            assert board.session is not None
            board.session.open = False
        return False

    board.fails = move
    scene, jobs = Scene(board), some_jobs(CHUNK_JOBS)
    assert_each_measured(scene.measure(jobs), jobs)
    assert scene.farm.devices == ("board0",)
    assert board.timed == Counter(job.function for job in jobs)


def test_servers_of_one_board_are_devices_of_their_own():
    scene, jobs = Scene(*(Host(f"b{n}", identity=f"host:{n}", board="a1b2c3d4") for n in range(3))), some_jobs(90)
    scene.farm.open(limit_s=1)
    assert_each_measured(scene.measure(jobs), jobs)
    assert scene.farm.devices == ("b0", "b1", "b2")
    assert all(host.timed for host in scene.hosts)


def test_frozen_devices_do_not_keep_the_others_from_being_connected_to():
    frozen = [Host(f"frozen{number}", freezes=True) for number in range(3)]
    scene = Scene(*frozen, *hosts(2), open_s=0.0, poll_s=0.01)
    scene.farm.open(limit_s=1)
    assert scene.farm.devices
    assert not farm_threads()
    assert_each_measured(scene.measure(some_jobs(20)), some_jobs(20))


def test_an_interrupt_while_a_batch_is_in_hand_waits_until_it_is_written():
    scene = Scene(Host("board0"))
    written: list[int] = []
    with (
        pytest.raises(KeyboardInterrupt),
        contextlib.closing(scene.farm.measure_in_batches(some_jobs(40), REFERENCE, PROTOCOL)) as batches,
    ):
        for batch in batches:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            written.extend(index for index, _ in batch)
    assert written[:CHUNK_JOBS] == list(range(CHUNK_JOBS))
    assert scene.hosts[0].timed.total() - len(written) <= CHUNK_JOBS  # what was not finished
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def all_zero(output: Float32Array) -> None:
    if output.any():
        raise NumericalMismatchError("not all zero")


def right_except_on(name: str) -> Callable[[Device], None]:
    """A proof that fails on one device."""

    def prove(device: Device) -> None:
        if device.name == name:
            raise NumericalMismatchError(f"2 is not 4 on {name}")

    return prove


def lose_during(host: Host, function: str, times: int) -> Callable[[str], bool]:
    """A script with which the connection is lost the first so many times that a function is called."""

    def script(called: str) -> bool:
        if called == function and host.lost < times:
            host.lost += 1
            assert host.session is not None
            host.session.open = False
        return False

    return script


def kill_after(host: Host, count: int) -> Callable[[str], bool]:
    """A script with which a host dies during its job number `count`."""
    calls = itertools.count()

    def script(function: str) -> bool:
        if function != "reference" and next(calls) == count:
            host.alive = False
        return False

    return script


def once(function: str) -> Callable[[str], bool]:
    """A script with which a function fails the first time."""
    seen: Iterator[bool] = itertools.chain([True], itertools.repeat(False))
    return lambda called: called == function and next(seen)
