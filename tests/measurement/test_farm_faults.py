"""A farm of real servers at a real tracker, some of which are killed or frozen while it measures."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ofa_tvm.errors import DeviceUnavailableError, TrackerUnreachableError
from ofa_tvm.measurement.device_info import DeviceInfo
from ofa_tvm.measurement.devices import open_farm
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.job import KernelJob
from ofa_tvm.measurement.limits import Limits
from ofa_tvm.measurement.protocol import Measurement, MeasurementFailure, Outcome
from ofa_tvm.measurement.rpc_session import RpcSession
from ofa_tvm.measurement.sources import TrackerSource
from ofa_tvm.measurement.tracker import TrackerAddress, summarize
from ofa_tvm.targets import Target

from ..processes import PATIENCE_S, await_true, below, free_port, listening

RPC = Path(__file__).parents[2] / "rpc"
KEY = "board"

Kernels = Callable[[str], KernelJob]


class Site:
    """A tracker and servers, each a process that can be started, killed and frozen."""

    def __init__(self) -> None:
        self.tracker = TrackerAddress("127.0.0.1", free_port())
        self.processes: list[subprocess.Popen[bytes]] = []
        self.tracker_process = self.start_tracker()

    def start_tracker(self) -> subprocess.Popen[bytes]:
        process = self.start("tracker.py", "--port", str(self.tracker.port))
        await_true(self.answers)
        return process

    def start_servers(self, count: int) -> list[subprocess.Popen[bytes]]:
        registered = summarize(self.tracker).registered.get(KEY, 0)
        servers = [self.start("server.py", "--tracker", str(self.tracker), "--key", KEY) for _ in range(count)]
        await_true(lambda: self.free() >= registered + count)
        return servers

    def start(self, script: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(RPC / script), *options]
        self.processes.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))
        return self.processes[-1]

    def answers(self) -> bool:
        with contextlib.suppress(TrackerUnreachableError):
            summarize(self.tracker)
            return True
        return False

    def free(self) -> int:
        with contextlib.suppress(TrackerUnreachableError):  # it is busy starting
            return summarize(self.tracker).free.get(KEY, 0)
        return 0

    def close(self) -> None:
        for process in self.processes:
            family = below(psutil.Process(process.pid)) if process.poll() is None else set()
            process.kill()
            process.wait()
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def target(quick_target: Callable[..., Target]) -> Target:
    target = quick_target("rasp4", timeout_s=5.0, cooldown_ms=0.0, min_repeat_ms=3.0)
    return target.model_copy(update={"device": target.device.model_copy(update={"key": KEY})})


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def farm(site: Site, target: Target, said: list[str]) -> Iterator[Farm]:
    """Of three servers."""
    site.start_servers(3)
    with open_farm(target, str(site.tracker), said.append) as farm:
        yield farm
    await_true(lambda: not connections_to(site))


def test_three_servers_share_the_work(farm: Farm, target: Target, kernel_job: Kernels):
    outcomes = measure(farm, target, some_jobs(kernel_job, 90), kernel_job)
    assert_each_measured(outcomes, 90)
    assert {outcome.device for outcome in outcomes.values()} == set(farm.devices)
    assert len(farm.devices) == 3
    assert len(farm.reference_ms()) == 3


def test_a_server_killed_amid_measuring_loses_nothing(
    site: Site, farm: Farm, target: Target, kernel_job: Kernels, said: list[str]
):
    def kill() -> None:
        site.processes[1].kill()

    outcomes = measure(farm, target, some_jobs(kernel_job, 300), kernel_job, after=20, do=kill)
    assert_each_measured(outcomes, 300)
    assert site.processes[1].wait(PATIENCE_S) == -signal.SIGKILL


def test_a_server_that_freezes_is_left_and_taken_again_later(
    site: Site, farm: Farm, target: Target, kernel_job: Kernels
):
    frozen = psutil.Process(site.processes[1].pid)
    family = [frozen, *frozen.children()]

    def freeze() -> None:
        for process in family:
            process.suspend()

    outcomes = measure(farm, target, some_jobs(kernel_job, 300), kernel_job, after=20, do=freeze)
    assert_each_measured(outcomes, 300)
    for process in family:
        process.resume()
    await_true(lambda: site.free() == 1)
    outcomes = measure(farm, target, some_jobs(kernel_job, 300), kernel_job)
    assert_each_measured(outcomes, 300)
    assert {outcome.device for outcome in outcomes.values()} == set(farm.devices)


def test_a_tracker_killed_and_started_again_is_not_missed(
    site: Site, farm: Farm, target: Target, faulty_job: Kernels, kernel_job: Kernels
):
    def restart() -> None:
        site.tracker_process.kill()
        site.tracker_process.wait()
        site.tracker_process = site.start_tracker()

    jobs = some_jobs(kernel_job, 300)
    jobs[150] = faulty_job("segfault")  # ends sessions, for which the new tracker is needed
    outcomes = measure(farm, target, jobs, kernel_job, after=20, do=restart)
    crashed = outcomes.pop(150)
    assert isinstance(crashed, MeasurementFailure)
    tries = crashed.error.count("SIGSEGV")
    assert tries in (2, 3)
    assert sum(f"failed on {device}: " in crashed.error for device in farm.devices) == tries
    assert len(outcomes) == 299
    assert all(isinstance(outcome, Measurement) for outcome in outcomes.values())


def test_a_tracker_that_hangs_holds_up_nobody_for_long(
    site: Site, farm: Farm, target: Target, kernel_job: Kernels, said: list[str]
):
    hung = psutil.Process(site.tracker_process.pid)
    hung.suspend()
    outcomes = measure(farm, target, some_jobs(kernel_job, 300), kernel_job)
    hung.resume()
    assert_each_measured(outcomes, 300)
    assert not any("set aside" in line or "waiting" in line for line in said)


def test_a_kernel_that_never_ends_keeps_no_other_from_its_device(
    farm: Farm, target: Target, faulty_job: Kernels, kernel_job: Kernels, said: list[str]
):
    jobs = some_jobs(kernel_job, 60)
    jobs[5] = faulty_job("hang")
    outcomes = measure(farm, target, jobs, kernel_job)
    hung = outcomes.pop(5)
    assert isinstance(hung, MeasurementFailure)
    assert hung.error.count("no answer within 5 s") in (2, 3)
    assert len(outcomes) == 59
    assert all(isinstance(outcome, Measurement) for outcome in outcomes.values())
    assert not any("set aside" in line for line in said)


def test_an_interrupt_frees_all_devices(site: Site, target: Target, kernel_job: Kernels):
    site.start_servers(3)
    with (
        pytest.raises(KeyboardInterrupt),
        open_farm(target, str(site.tracker)) as farm,
        contextlib.ExitStack() as stack,
    ):
        # Again after a while: Python ignores an interrupt that comes while it runs a destructor.
        for delay_s in (0.5, 8.0, 16.0):
            interrupt = threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGINT))
            stack.callback(interrupt.cancel)
            interrupt.start()
        measure(farm, target, some_jobs(kernel_job, 20_000), kernel_job)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("farm")]
    await_true(lambda: site.free() == 3)


def test_the_only_server_is_waited_for(site: Site, target: Target, kernel_job: Kernels, said: list[str]):
    site.start_servers(1)

    def replace() -> None:
        site.processes[1].kill()
        site.start("server.py", "--tracker", str(site.tracker), "--key", KEY)

    with open_farm(target, str(site.tracker), said.append) as farm:
        outcomes = measure(farm, target, some_jobs(kernel_job, 100), kernel_job, after=10, do=replace)
    assert_each_measured(outcomes, 100)


def test_a_server_that_stays_away_is_an_error_with_what_to_type(site: Site, target: Target, kernel_job: Kernels):
    site.start_servers(1)
    farm = Farm(TrackerSource(target, site.tracker), print, limits=Limits(absence_s=1.0))
    farm.open(PATIENCE_S)
    with (
        contextlib.closing(farm),
        pytest.raises(DeviceUnavailableError, match=r"no device 'board'.*devices start board"),
    ):
        measure(farm, target, some_jobs(kernel_job, 300), kernel_job, after=10, do=site.processes[1].kill)


def test_a_tracker_that_stays_away_is_an_error_once_it_is_needed(
    site: Site, target: Target, faulty_job: Kernels, kernel_job: Kernels
):
    site.start_servers(1)
    farm = Farm(TrackerSource(target, site.tracker), print, limits=Limits(absence_s=1.0))
    farm.open(PATIENCE_S)
    jobs = some_jobs(kernel_job, 60)
    jobs[40] = faulty_job("segfault")
    with contextlib.closing(farm), pytest.raises(TrackerUnreachableError, match=r"start_rpc_tracker\.sh"):
        measure(farm, target, jobs, kernel_job, after=10, do=site.tracker_process.kill)


def test_devices_of_another_run_are_left_alone(site: Site, target: Target, kernel_job: Kernels):
    site.start_servers(2)
    with open_farm(target, str(site.tracker)) as theirs:
        assert theirs.connected == 2
        farm = Farm(TrackerSource(target, site.tracker), print)
        with pytest.raises(DeviceUnavailableError, match=r"all 2 devices 'board'.*\(0 of 2 free\).*devices list"):
            farm.open(limit_s=0.5)
        assert_each_measured(measure(theirs, target, some_jobs(kernel_job, 20), kernel_job), 20)


def test_devices_to_avoid_stay_free(site: Site, target: Target):
    site.start_servers(2)
    source = TrackerSource(target, site.tracker)
    addresses = summarize(site.tracker).addresses[KEY]
    source.avoid = set(addresses)
    assert source.offer() is None
    assert site.free() == 2
    source.avoid = {addresses[0], "127.0.0.1:1"}  # the second has gone
    assert source.offer() is not None


def test_an_emulated_board_under_the_key_of_real_ones_is_refused(
    site: Site, target: Target, monkeypatch: pytest.MonkeyPatch
):
    site.start_servers(1)
    told = DeviceInfo(hostname="board", emulated=True)
    monkeypatch.setattr(RpcSession, "_ask_info", lambda _session: told)
    with (
        pytest.raises(DeviceUnavailableError, match=r"'?board'? at 127.* is emulated, the target rasp4 is not"),
        open_farm(target, str(site.tracker)),
    ):
        pass
    await_true(lambda: site.free() == 1)
    with open_farm(target.model_copy(update={"emulated": True}), str(site.tracker)) as farm:
        assert farm.emulated


@pytest.mark.slow
def test_tvms_own_server_is_known_by_its_address(site: Site, target: Target, kernel_job: Kernels):
    command = ["-m", "tvm.exec.rpc_server", "--host", "127.0.0.1", "--tracker", str(site.tracker), "--key", KEY]
    site.processes.append(subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL))
    await_true(lambda: site.free() == 1, limit_s=120)
    with open_farm(target, str(site.tracker)) as farm:
        (address,) = summarize(site.tracker).addresses[KEY]
        assert farm.devices == (f"{KEY} at {address}",)
        assert_each_measured(measure(farm, target, some_jobs(kernel_job, 20), kernel_job), 20)


def some_jobs(kernel_job: Kernels, count: int) -> list[KernelJob]:
    return [kernel_job(("double", "triple")[index % 2]) for index in range(count)]


def measure(
    farm: Farm,
    target: Target,
    jobs: list[KernelJob],
    kernel_job: Kernels,
    after: int = -1,
    do: Callable[[], None] = lambda: None,
) -> dict[int, Outcome]:
    """Outcomes by index; each must come once. After so many, do something."""
    outcomes: dict[int, Outcome] = {}
    with contextlib.closing(farm.measure_many(jobs, kernel_job("double"), target.measurement)) as measured:
        for index, outcome in measured:
            assert index not in outcomes
            outcomes[index] = outcome
            if len(outcomes) == after:
                do()
    return outcomes


def assert_each_measured(outcomes: dict[int, Outcome], count: int) -> None:
    assert sorted(outcomes) == list(range(count))
    assert all(isinstance(outcome, Measurement) for outcome in outcomes.values())


def connections_to(site: Site) -> list[int]:
    """Local ports of this process's connections to the site's servers."""
    servers = {
        port
        for process in site.processes
        if process.poll() is None
        for _, port in listening(psutil.Process(process.pid))
    }
    return [
        connection.laddr.port
        for connection in psutil.Process().net_connections()
        if connection.raddr and connection.raddr.port in servers and connection.status == psutil.CONN_ESTABLISHED
    ]
