"""What every RPC server must do, whatever a kernel, a client or the tracker does to it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import struct
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import pytest
import tvm
from tvm.rpc import base

from ..processes import PATIENCE_S, await_true, lives

KINDS = ["python", "native", pytest.param("native-sanitized", marks=pytest.mark.slow)]
KEYS = {
    "server": str,
    "hostname": str,
    "id": (str, type(None)),
    "system": str,
    "machine": str,
    "cpu_model": (str, type(None)),
    "cpu_features": list,
    "cores": int,
    "memory_total_mib": int,
    "memory_available_mib": int,
    "temperature_c": (float, type(None)),
    "governor": (str, type(None)),
    "clock_mhz": (int, type(None)),
    "max_clock_mhz": (int, type(None)),
    "emulated": bool,
    "versions": dict,
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def server(farm, kind: str):
    return farm.start_server(kind)


def test_kernel_is_timed_and_computes(farm, server, kernels: Path):
    session = farm.session()
    module = session.module(kernels)
    np.testing.assert_array_equal(session.run(module, "double"), [0, 2, 4, 6])
    vectors = [tvm.runtime.tensor(np.zeros(4, np.float32), session.remote.cpu(0)) for _ in range(2)]
    evaluator = module.time_evaluator("double", session.remote.cpu(0), number=2, repeat=3)
    samples = session.within(lambda: evaluator(*vectors).results)
    assert len(samples) == 3
    assert all(sample > 0 for sample in samples)


def test_subnet_computes(farm, server, subnet: Path):
    np.testing.assert_allclose(farm.session().run_subnet(subnet), [[6], [24]])


def test_random_fill_that_tuning_needs_is_there(farm, server):
    session = farm.session()
    session.within(lambda: session.remote.get_function("tvm.contrib.random.random_fill_for_measure"))


def test_files_go_there_and_back_and_away(farm, server):
    session = farm.session()
    session.within(lambda: session.remote.upload(bytearray(b"\0weights\xff"), target="some file"))
    assert session.within(lambda: bytes(session.remote.download("some file"))) == b"\0weights\xff"
    assert len(list(farm.temporary.glob("*/files/some file"))) == 1
    session.within(lambda: session.remote.remove("some file"))
    assert not list(farm.temporary.glob("*/files/some file"))
    with pytest.raises(Exception, match="nothing"):
        session.module(Path("nothing.so"))


def test_name_that_leads_out_of_the_workspace_is_refused(farm, server):
    session = farm.session()
    upload = session.within(lambda: session.remote.get_function("tvm.rpc.server.upload"))
    for path in ("../outside", "a/../../outside", "..", "", str(farm.folder / "outside")):
        with pytest.raises(Exception, match="outside the session's folder"):
            session.within(functools.partial(upload, path, bytearray(b"text")))
        with pytest.raises(Exception, match="outside the session's folder"):
            session.within(functools.partial(session.remote.load_module, path))
    assert not list(farm.folder.glob("**/outside"))
    session.within(lambda: session.remote.upload(bytearray(b"text"), target="..inside"))


def test_crash_ends_only_its_session_and_the_client_is_told(farm, server, kernels: Path):
    session = farm.session()
    module = session.module(kernels)
    with pytest.raises(Exception, match="SIGSEGV"):
        session.run(module, "segfault")
    again = farm.session()
    np.testing.assert_array_equal(again.run(again.module(kernels), "double"), [0, 2, 4, 6])
    assert server.process.poll() is None


def test_hanging_kernel_is_killed_after_its_client_hung_up(farm, server, kernels: Path):
    session = farm.session()
    module = session.module(kernels)
    (hanging,) = server.sessions()
    with pytest.raises(TimeoutError):
        session.run(module, "hang", limit_s=0.3)
    await_true(lambda: not lives(hanging))
    again = farm.session()
    np.testing.assert_array_equal(again.run(again.module(kernels), "double"), [0, 2, 4, 6])


@pytest.mark.parametrize("function", ["hang", None])
def test_session_limit_ends_a_busy_and_an_idle_session(farm, kind: str, kernels: Path, function: str | None):
    server = farm.start_server(kind, "--session-limit", "3")
    session = farm.session()
    with pytest.raises(Exception, match=r"ended after 3 s.*--session-limit"):
        module = session.module(kernels)
        if function is None:
            server.says("--session-limit")
        session.run(module, function or "double")
    again = farm.session()
    np.testing.assert_array_equal(again.run(again.module(kernels), "double"), [0, 2, 4, 6])


def test_server_comes_back_to_a_tracker_that_was_started_again(farm, server, kernels: Path):
    farm.tracker.kill()
    server.says("trying again every second")
    with socket.create_server(("127.0.0.1", farm.port)) as listener:  # a tracker that goes away in the greeting
        listener.settimeout(PATIENCE_S)
        for _ in range(2):
            listener.accept()[0].close()
    farm.start_tracker()
    server.says("registered at", times=2)
    assert server.log.count("trying again") == 1
    session = farm.session()
    np.testing.assert_array_equal(session.run(session.module(kernels), "double"), [0, 2, 4, 6])


def test_session_outlives_its_tracker(farm, server, kernels: Path):
    session = farm.session()
    module = session.module(kernels)
    farm.tracker.kill()
    np.testing.assert_array_equal(session.run(module, "double"), [0, 2, 4, 6])
    farm.start_tracker()
    session.hang_up()
    server.says("registered at", times=2)
    assert farm.session()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("busy", [True, False])
def test_signal_stops_the_server_at_once(farm, server, kernels: Path, number: signal.Signals, busy: bool):
    family = []
    if busy:
        session = farm.session()
        session.module(kernels)
        family = server.sessions()
        assert family
    server.process.send_signal(number)
    assert server.process.wait(PATIENCE_S) == 0
    await_true(lambda: not any(map(lives, family)))
    assert not list(farm.temporary.iterdir())
    assert server.log.endswith("rpc server: stopped\n")


def test_nohup_keeps_its_meaning(farm, kind: str, kernels: Path):
    old = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        server = farm.start_server(kind)
    finally:
        signal.signal(signal.SIGHUP, old)
    session = farm.session()
    module = session.module(kernels)
    for process in (*server.sessions(), server.process):
        process.send_signal(signal.SIGHUP)
    np.testing.assert_array_equal(session.run(module, "double"), [0, 2, 4, 6])
    assert server.process.poll() is None


def test_signal_while_a_session_ends_leaves_nothing(farm, kind: str, kernels: Path):
    for _ in range(5):
        server = farm.start_server(kind)
        session = farm.session()
        session.module(kernels)
        session.hang_up()
        server.process.terminate()
        assert server.process.wait(PATIENCE_S) == 0
        assert not list(farm.temporary.iterdir())


def test_killed_server_leaves_no_session_and_its_files_go_when_it_starts_again(farm, kind: str, kernels: Path):
    neighbour = farm.start_server(kind, key="neighbour")
    busy = farm.session("neighbour")
    module = busy.module(kernels)
    killed = farm.start_server(kind)
    session = farm.session()
    session.module(kernels)
    family = killed.sessions()
    killed.kill()
    await_true(lambda: not any(map(lives, family)))
    assert len(list(farm.temporary.iterdir())) == 2
    farm.start_server(kind)
    assert len(list(farm.temporary.iterdir())) == 1
    np.testing.assert_array_equal(busy.run(module, "double"), [0, 2, 4, 6])
    busy.module(kernels)
    assert neighbour.process.poll() is None


def test_wrong_match_key_is_turned_away(farm, server):
    host, port, match_key = farm.offer()
    for wrong in (match_key[:-1], match_key + "0", "board:0.5", "", match_key.replace("board", "bored")):
        assert _greet(host, port, f"client:{wrong}") == base.RPC_CODE_MISMATCH
    assert _greet(host, port, f"client:{match_key} -timeout=9") == base.RPC_CODE_SUCCESS


def test_garbage_on_the_port_does_no_harm(farm, server, kernels: Path):
    host, port, match_key = farm.offer()
    rng = np.random.default_rng(1)
    magic = struct.pack("<i", base.RPC_MAGIC)
    noise = [b"", b"GET / HTTP/1.1\r\n\r\n", magic, *(magic + struct.pack("<i", n) for n in (-1, 0, 1024, 2**31 - 1))]
    noise += [magic + struct.pack("<i", 8) + b"\xff" * 8, *(rng.bytes(n) for n in (8, 9, 5000))]
    for line in noise:
        with socket.create_connection((host, port), timeout=PATIENCE_S) as connection:
            connection.sendall(line)
            with contextlib.suppress(OSError):  # turned away already
                connection.shutdown(socket.SHUT_WR)
    server.says("turned away", times=len(noise))
    connection = socket.create_connection((host, port), timeout=PATIENCE_S)
    name = f"client:{match_key}".encode()
    connection.sendall(struct.pack("<ii", base.RPC_MAGIC, len(name)) + name + b"\xff" * 100)  # into the session itself
    connection.close()
    session = farm.session()
    np.testing.assert_array_equal(session.run(session.module(kernels), "double"), [0, 2, 4, 6])


def test_offer_that_is_not_taken_up_is_renewed(farm, server):
    first = farm.offer()
    assert farm.free() == 0
    assert farm.offer()[2] != first[2]  # waits until it is free again


def test_device_stands_once_in_the_summary_after_some_sessions(farm, server, kernels: Path):
    for _ in range(3):
        session = farm.session()
        session.module(kernels)
        session.hang_up()
    farm.await_free()
    summary = farm.summary()
    assert [entry["key"] for entry in summary["server_info"]] == ["server:board"]
    assert summary["queue_info"]["board"] == {"free": 1, "pending": 0}


def test_two_servers_of_one_key_serve_side_by_side(farm, kind: str, kernels: Path):
    for _ in range(2):
        farm.start_server(kind)
    assert farm.free() == 2
    sessions = [farm.session(), farm.session()]
    assert sessions[0].address != sessions[1].address
    for session in sessions:
        np.testing.assert_array_equal(session.run(session.module(kernels), "double"), [0, 2, 4, 6])


def test_no_thread_and_no_descriptor_is_left_by_sessions(farm, server, kernels: Path):
    farm.session().hang_up()
    farm.await_free()
    before = psutil.Process(server.process.pid).num_fds()
    for _ in range(3):
        session = farm.session()
        session.run(session.module(kernels), "double")
        session.hang_up()
    farm.await_free()
    assert psutil.Process(server.process.pid).num_fds() == before
    assert psutil.Process(server.process.pid).num_threads() == 1


def test_device_info_has_the_agreed_keys_and_types(farm, server, kind: str):
    session = farm.session()
    info = json.loads(session.within(lambda: session.remote.get_function("ofa_tvm.device_info")()))
    assert list(info) == list(KEYS)
    for key, types in KEYS.items():
        assert isinstance(info[key], types), key
    assert info["server"] == kind.split("-")[0]
    assert info["hostname"] == socket.gethostname()
    assert info["system"] == f"Linux {os.uname().release}"
    assert info["cores"] == len(os.sched_getaffinity(0))
    assert info["memory_total_mib"] == psutil.virtual_memory().total >> 20
    assert info["cpu_features"]
    assert not info["emulated"]
    assert info["versions"]["apache-tvm"] == version("apache-tvm")
    assert info["versions"]["apache-tvm-ffi"] == version("apache-tvm-ffi")


def test_inherited_socket_and_threads(farm, kind: str, kernels: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [*farm.commands(kind), "--tracker", f"127.0.0.1:{farm.port}", "--key", "board"]
        server = farm.launch([*command, "--listen-fd", listener.fileno(), "--threads", "2"], listener.fileno())
    session = farm.session()
    assert session.address == ("127.0.0.1", port)
    session.module(kernels)
    assert server.sessions()[0].environ().get("TVM_NUM_THREADS", "2") == "2"


def test_warns_when_others_can_reach_it(farm, kind: str):
    server = farm.start_server(kind, "--host", "0.0.0.0")
    assert "0.0.0.0 is reachable from other machines" in server.log
    assert "reachable" not in farm.start_server(kind).log


def test_mistake_is_one_line_and_status_2(farm, kind: str):
    needed = ["--tracker", "127.0.0.1:9190", "--key", "board"]
    for options in (
        ["--key", "board"],
        ["--tracker", "127.0.0.1:9190"],
        [*needed, "--tracker", "127.0.0.1"],
        [*needed, "--key", "two words"],
        [*needed, "--session-limit", "-1"],
        [*needed, "--session-limit", "nan"],
        [*needed, "--threads", "many"],
        [*needed, "--port", "70000"],
        [*needed, "--host", "999.0.0.1"],
        [*needed, "--no-such-option"],
        [*needed, "extra"],
    ):
        server = farm.launch([*farm.commands(kind), *options])
        assert (options, server.process.wait(PATIENCE_S)) == (options, 2)
        assert server.log.count("\n") == 1, server.log
        assert server.log.startswith("rpc server: ")


def test_port_in_use_is_one_line_and_status_2(farm, kind: str):
    options = ["--tracker", f"127.0.0.1:{farm.port}", "--key", "board", "--port", farm.port]
    server = farm.launch([*farm.commands(kind), *options])
    assert server.process.wait(PATIENCE_S) == 2
    assert f"cannot listen on 127.0.0.1:{farm.port}" in server.log
    assert server.log.count("\n") == 1


def test_stops_while_there_is_no_tracker(farm, server):
    farm.tracker.kill()
    server.says("trying again every second")
    server.process.terminate()
    assert server.process.wait(PATIENCE_S) == 0


def _greet(host: str, port: int, words: str) -> int:
    with socket.create_connection((host, port), timeout=PATIENCE_S) as connection:
        connection.sendall(struct.pack("<ii", base.RPC_MAGIC, len(words)) + words.encode())
        return struct.unpack("<i", base.recvall(connection, 4))[0]
