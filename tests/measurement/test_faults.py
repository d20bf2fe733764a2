"""Faults on the local device: whatever a kernel or a process does, the command goes on or ends with a clear error."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import tvm

from ofa_tvm.errors import DeviceUnavailableError, MeasurementError
from ofa_tvm.measurement import local_farm, local_processes, rpc_session
from ofa_tvm.measurement.devices import open_farm
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.job import KernelJob
from ofa_tvm.measurement.protocol import Measurement, MeasurementFailure
from ofa_tvm.measurement.rpc_session import RpcSession
from ofa_tvm.measurement.sources import LocalSource
from ofa_tvm.measurement.tracker import request_device
from ofa_tvm.targets import Target

from ..processes import PATIENCE_S, await_true, below, listening, words_of

Kernels = Callable[[str], KernelJob]

HOLDER = """
import sys, time
sys.modules["torch"] = None  # tvm_ffi would import it, for nothing
from ofa_tvm.measurement.devices import open_farm
from ofa_tvm.targets import load_target
with open_farm(load_target("local")):
    try:
        print("ready", flush=True)
        time.sleep(1000)
    finally:
        print("closing", flush=True)
"""


@pytest.fixture(scope="module")
def target(quick_target: Callable[..., Target]) -> Target:
    """With a limit that is short for kernels that hang, and long for those that don't."""
    return quick_target("local", timeout_s=3.0)


@pytest.fixture(scope="module")
def farm(target: Target) -> Iterator[Farm]:
    with open_farm(target) as farm:
        yield farm


def test_kernel_that_crashes_fails_alone(farm: Farm, target: Target, faulty_job: Kernels, kernel_job: Kernels):
    jobs = [kernel_job("double"), faulty_job("segfault"), kernel_job("triple")]
    outcomes = dict(farm.measure_many(jobs, kernel_job("double"), target.measurement))
    first, crashed, last = (outcomes[index] for index in range(3))
    assert isinstance(first, Measurement)
    assert isinstance(last, Measurement)
    assert isinstance(crashed, MeasurementFailure)
    assert crashed.error.count("SIGSEGV") == 2
    assert "\n" not in crashed.error


def test_kernel_that_never_ends_meets_the_time_limit(
    farm: Farm, target: Target, faulty_job: Kernels, kernel_job: Kernels
):
    with pytest.raises(MeasurementError, match=r"no answer within 3 s, measurement\.timeout_s of target local; raise"):
        farm.measure(faulty_job("hang"), kernel_job("double"), target.measurement)
    assert farm.measure(kernel_job("double"), kernel_job("double"), target.measurement)
    await_true(lambda: not _computes(_server()))


def test_server_killed_during_a_job_is_started_again(
    farm: Farm, target: Target, faulty_job: Kernels, kernel_job: Kernels
):
    killed = _server()
    killer = _once_it_hangs(killed, killed.kill)
    with pytest.raises(MeasurementError, match=r"; then .*no answer within 6 s"):
        farm.measure(faulty_job("hang"), kernel_job("double"), target.measurement.model_copy(update={"timeout_s": 6.0}))
    killer.join()
    assert farm.measure(kernel_job("double"), kernel_job("double"), target.measurement)
    assert _server().pid != killed.pid


@pytest.mark.parametrize("killed", ["server", "session"])
def test_a_connection_that_breaks_without_a_word_is_told_from_a_crash(target: Target, faulty_job: Kernels, killed: str):
    """Of the session's end the server tells; nobody is left to tell of its own."""
    patient = target.measurement.model_copy(update={"timeout_s": 20.0})
    with local_farm.local_farm(target) as local:
        offer = LocalSource(target, local, "this host").offer()
        assert offer is not None
        device = offer.connect()
        server = _server()
        victims = [server, *server.children()] if killed == "server" else server.children()
        killer = _once_it_hangs(server, lambda: [victim.kill() for victim in victims])
        error, text = (
            (DeviceUnavailableError, "connection to this host was lost during kernel hang")
            if killed == "server"
            else (MeasurementError, "kernel hang .*SIGKILL")
        )
        with pytest.raises(error, match=text):
            device.time(faulty_job("hang"), patient)
        killer.join()


def test_tracker_killed_between_jobs_is_started_again(
    farm: Farm, target: Target, faulty_job: Kernels, kernel_job: Kernels
):
    _newest("tracker.py").kill()
    # The session outlives the tracker.
    assert farm.measure(kernel_job("double"), kernel_job("double"), target.measurement)
    with pytest.raises(MeasurementError):
        farm.measure(faulty_job("segfault"), kernel_job("double"), target.measurement)
    assert farm.measure(kernel_job("double"), kernel_job("double"), target.measurement)


def test_server_that_hangs_is_replaced(
    farm: Farm, target: Target, kernel_job: Kernels, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(local_farm, "BUSY_LIMIT_S", 0.2)
    monkeypatch.setattr(local_processes, "STOP_LIMIT_S", 0.2)
    hung = _server()
    for process in [hung, *hung.children()]:
        process.suspend()
    assert farm.measure(kernel_job("double"), kernel_job("double"), target.measurement)
    assert not hung.is_running()


def test_nothing_listens_beyond_loopback(farm: Farm, target: Target, kernel_job: Kernels):
    farm.measure(kernel_job("double"), kernel_job("double"), target.measurement)
    found = set().union(*map(listening, [psutil.Process(), *below()]))
    assert {address for address, _ in found} == {"127.0.0.1"}
    assert len(found) >= 2


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_survives_the_command(number: signal.Signals, tmp_path: Path):
    command = subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        assert command.stdout is not None
        assert command.stdout.readline() == b"ready\n"
        family = list(below(psutil.Process(command.pid)))
        assert len(family) >= 3  # tracker, server, session
        os.kill(command.pid, number)
        assert (b"closing" in command.communicate(timeout=PATIENCE_S)[0]) == (number == signal.SIGINT)
        _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
        assert not alive
    finally:
        command.kill()
        command.wait()


def test_interruption_gets_through_while_a_kernel_hangs(target: Target, faulty_job: Kernels, kernel_job: Kernels):
    before = below()
    with pytest.raises(KeyboardInterrupt), open_farm(target) as farm, contextlib.ExitStack() as stack:
        # Again after a while: Python ignores an interrupt that comes while it runs a destructor.
        for delay_s in (0.5, 8.0, 16.0):
            interrupt = threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGINT))
            stack.callback(interrupt.cancel)
            interrupt.start()
        patient = target.measurement.model_copy(update={"timeout_s": 60.0})
        farm.measure(faulty_job("hang"), kernel_job("double"), patient)
    await_true(lambda: below() <= before)


def test_exception_in_the_body_stops_everything(target: Target):
    before = below()
    with pytest.raises(ZeroDivisionError), open_farm(target):
        assert below() - before
        raise ZeroDivisionError
    await_true(lambda: below() <= before)


@pytest.mark.parametrize("killed", [False, True])
def test_no_file_is_left(
    target: Target, kernel_job: Kernels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with open_farm(target) as farm:
        farm.measure(kernel_job("double"), kernel_job("double"), target.measurement)
        assert list(tmp_path.glob("**/*.so"))
        if killed:
            _server().kill()
    assert not list(tmp_path.iterdir())


def _newest(script: str) -> psutil.Process:
    """Other files' tests in this process may keep a tracker, too."""
    children = [child for child in psutil.Process().children() if any(script in word for word in words_of(child))]
    return max(children, key=psutil.Process.create_time)


def _server() -> psutil.Process:
    return _newest("server.py")


def _computes(server: psutil.Process) -> bool:
    """Whether one of its sessions does for longer than any kernel here does that ends, however little it gets done."""
    busy = below(server)
    for _ in range(15):
        time.sleep(0.02)
        busy = {session for session in busy if _is_runnable(session)}
    return bool(busy)


def _is_runnable(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_RUNNING
    except psutil.NoSuchProcess:
        return False


def _once_it_hangs(server: psutil.Process, act: Callable[[], object]) -> threading.Thread:
    """Do something when a session of the server computes without a break."""

    def wait() -> None:
        await_true(lambda: _computes(server))
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_freeing_what_a_hanging_device_holds_has_a_limit(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """TVM waits for the answer with Python's lock held: nothing else in this process could end that wait."""
    monkeypatch.setattr(rpc_session, "RECEIVE_MARGIN_S", 3 - target.measurement.timeout_s)
    before = below()
    with local_farm.local_farm(target) as local:
        offer = request_device(local.ensure_running(), target.device.key, timeout_s=PATIENCE_S)
        session = RpcSession(offer, target.measurement.timeout_s)
        held = tvm.runtime.tensor(np.zeros(4, np.float32), session._cpu)
        hanging = below() - before
        for process in hanging:
            process.suspend()
        del held  # without the limit: for ever
        for process in hanging:
            process.resume()
        session.close()
