"""The tracker script, the client of the tracker, and the rule that says which tracker a target uses."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tvm.rpc import base

from ofa_tvm.errors import DeviceUnavailableError, TrackerUnreachableError, UsageError
from ofa_tvm.measurement.devices import cpu_model, open_farm
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.tracker import TrackerAddress, claim_device, request_device, request_session, summarize
from ofa_tvm.targets import Target

from ..processes import PATIENCE_S, await_true, free_port

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "start_rpc_tracker.sh"


@pytest.fixture(scope="module")
def tracker() -> Iterator[TrackerAddress]:
    """A tracker started by the script, with no device."""
    port = free_port()
    with _started([SCRIPT, "--port", str(port)], cwd="/") as process:
        _await_line(process, f"127.0.0.1:{port}")
        yield TrackerAddress("127.0.0.1", port)


@pytest.fixture(scope="module")
def device_key(tracker: TrackerAddress) -> Iterator[str]:
    """A device registered there, by the launcher that goes to boards."""
    command = [sys.executable, ROOT / "rpc" / "server.py", "--tracker", str(tracker), "--key", "board"]
    with _started(command) as process:
        _await_line(process, "board registered")
        _await_free(tracker, "board")
        yield "board"


@contextlib.contextmanager
def _started(command: list[str | Path], cwd: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """A process that is to end when it is asked to."""
    process = subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, text=True)
    try:
        yield process
        process.terminate()
        process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()


def test_script_answers_tvms_own_query_and_stops_on_sigint():
    port = free_port()
    process = subprocess.Popen([SCRIPT, "--port", str(port)], stderr=subprocess.PIPE, text=True)
    try:
        _await_line(process, str(port))
        query = [sys.executable, "-m", "tvm.exec.query_rpc_tracker", "--host", "127.0.0.1", "--port", str(port)]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=240)
        assert "Queue Status" in answer.stdout
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        assert "Traceback" not in errors
    finally:
        process.kill()
        process.communicate()


def test_script_says_that_the_port_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        run = subprocess.run([SCRIPT, "--port", str(port)], capture_output=True, text=True, timeout=PATIENCE_S)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}" in run.stderr
    assert "--port" in run.stderr


def test_script_warns_when_others_can_reach_it():
    process = subprocess.Popen([SCRIPT, "--port", "0", "--host", "0.0.0.0"], stderr=subprocess.PIPE, text=True)
    try:
        _await_line(process, "without a password")
    finally:
        process.kill()
        process.communicate()


def test_script_without_environment_says_what_to_run(tmp_path: Path):
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / SCRIPT.name
    script.write_bytes(SCRIPT.read_bytes())
    run = subprocess.run(["bash", script], capture_output=True, text=True)
    assert run.returncode == 2
    assert "quickstart.sh" in run.stderr


def test_device_at_a_tracker_measures(
    tracker: TrackerAddress, device_key: str, quick_target: Callable[..., Target], kernel_job: Callable
):
    target = _with_key(quick_target("rasp4"), device_key)
    with open_farm(target, str(tracker)) as farm:
        measurement = farm.measure(kernel_job("double"), kernel_job("double"), target.measurement)
        assert farm.devices == (measurement.device,)
        assert measurement.device == name_at(farm, tracker, device_key)
        assert measurement.versions["device apache-tvm"] == measurement.versions["apache-tvm"]


def test_local_uses_a_free_local_device_of_a_running_tracker(
    tracker: TrackerAddress, device_key: str, quick_target: Callable[..., Target], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OFA_TVM_TRACKER", str(tracker))
    _await_free(tracker, device_key)
    with open_farm(_with_key(quick_target("local"), device_key)) as farm:
        assert farm.name == name_at(farm, tracker, device_key)


def test_local_starts_its_own_when_the_tracker_has_no_local_device(
    tracker: TrackerAddress, quick_target: Callable[..., Target]
):
    with open_farm(quick_target("local"), str(tracker)) as farm:
        assert farm.name == f"local: {cpu_model()}"


def test_device_in_use_is_not_waited_for_forever_and_comes_back_when_the_offer_was_not_taken_up(
    tracker: TrackerAddress, device_key: str
):
    _await_free(tracker, device_key)
    request_device(tracker, device_key, timeout_s=PATIENCE_S)
    with pytest.raises(DeviceUnavailableError, match="in use"):
        request_device(tracker, device_key, timeout_s=0.1)
    _await_free(tracker, device_key)


def test_summary_has_the_addresses_of_servers(tracker: TrackerAddress, device_key: str):
    _await_free(tracker, device_key)
    summary = summarize(tracker)
    (address,) = summary.addresses[device_key]
    offer = request_device(tracker, device_key, timeout_s=PATIENCE_S)
    assert address == f"{offer.host}:{offer.port}"
    assert claim_device(tracker, device_key) is None
    _await_free(tracker, device_key)


def test_a_request_that_somebody_else_won_is_withdrawn(tracker: TrackerAddress, device_key: str):
    _await_free(tracker, device_key)
    request_device(tracker, device_key, timeout_s=PATIENCE_S)
    assert request_session(tracker, device_key) is None  # as if the device had been free a moment ago
    assert summarize(tracker).pending[device_key] == 1  # the tracker finds out when a device becomes free
    _await_free(tracker, device_key)
    assert summarize(tracker).pending[device_key] == 0
    request_device(tracker, device_key, timeout_s=PATIENCE_S)


def test_missing_device_names_those_that_are_there(tracker: TrackerAddress, device_key: str):
    with pytest.raises(DeviceUnavailableError, match=r"no device 'rasp5'.*board.*devices start rasp5") as caught:
        request_device(tracker, "rasp5", timeout_s=0)
    assert "\n" not in str(caught.value)


def test_no_tracker_says_what_to_type(quick_target: Callable[..., Target]):
    with (
        pytest.raises(TrackerUnreachableError, match=r"start_rpc_tracker\.sh"),
        open_farm(quick_target("rasp4"), f"127.0.0.1:{free_port()}"),
    ):
        pass


def test_something_else_at_the_port_is_no_tracker(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ofa_tvm.measurement.tracker.ANSWER_LIMIT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(TrackerUnreachableError):
        summarize(TrackerAddress("127.0.0.1", listener.getsockname()[1]))


GARBAGE = {
    "a list of queues": b'[0,{"server_info":[],"queue_info":[]}]',
    "a queue that is a number": b'[0,{"server_info":[],"queue_info":{"a":1}}]',
    "no summary": b"[0,[]]",
    "brackets": b"[" * 200_000,
    "infinity": b'[0,{"server_info":[],"queue_info":{"a":{"free":Infinity,"pending":0}}}]',
    "an address that is a number": b'[0,{"server_info":[{"key":"server:k","addr":5}],"queue_info":{}}]',
    "no code": b'{"server_info":[],"queue_info":{}}',
    "another code": b'[-1,{"server_info":[],"queue_info":{}}]',
    "bytes": bytes(range(256)),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_an_answer_that_is_garbage_is_no_trackers(content: bytes):
    with (
        _answering(struct.pack("<i", len(content)) + content) as address,
        pytest.raises(TrackerUnreachableError) as told,
    ):
        summarize(address)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("size", [-5, 0, 1 << 21, (1 << 31) - 1])
def test_an_answer_of_absurd_length_is_no_trackers(size: int):
    with _answering(struct.pack("<i", size)) as address, pytest.raises(TrackerUnreachableError, match=f" {size} bytes"):
        summarize(address)


def test_an_answer_has_one_limit_however_slowly_it_comes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ofa_tvm.measurement.tracker.ANSWER_LIMIT_S", 0.5)
    content = b'[0,{"server_info":[],"queue_info":{}}]'
    with (
        _answering(struct.pack("<i", len(content)) + content, period_s=0.1) as address,
        pytest.raises(TrackerUnreachableError, match="timed out"),
    ):
        summarize(address)


@contextlib.contextmanager
def _answering(answer: bytes, period_s: float = 0.0) -> Iterator[TrackerAddress]:
    """Something that greets as a tracker does, and gives this answer to any question, byte by byte if there is time."""
    ended = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as client:
            client.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
            for part in [answer] if not period_s else [bytes([byte]) for byte in answer]:
                client.sendall(part)
                ended.wait(period_s)
            ended.wait(20)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield TrackerAddress("127.0.0.1", listener.getsockname()[1])
        finally:
            ended.set()
            thread.join()


@pytest.mark.parametrize("text", ["", "9190", "host:", "host:port", "host:0", "host:70000"])
def test_malformed_address_is_a_usage_error(text: str):
    with pytest.raises(UsageError, match="HOST:PORT"):
        TrackerAddress.parse(text)


def name_at(farm: Farm, tracker: TrackerAddress, key: str) -> str:
    """Of this host as a device: with what tells it from other hosts of its name."""
    (device,) = farm.open_devices
    assert device.info is not None
    if device.info.id is None:
        (address,) = summarize(tracker).addresses[key]
        return f"board {socket.gethostname()}: {cpu_model()} at {address}"
    return f"board {socket.gethostname()} ({device.info.id[:6]}): {cpu_model()}"


def _with_key(target: Target, key: str) -> Target:
    return target.model_copy(update={"device": target.device.model_copy(update={"key": key})})


def _await_free(tracker: TrackerAddress, key: str) -> None:
    await_true(lambda: summarize(tracker).free.get(key))


def _await_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"{process.args} ended without saying {text!r}")
