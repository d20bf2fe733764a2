"""A board becomes a device at the tracker, stays one whatever is broken, and leaves nothing when it is stopped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from tvm import rpc

from ofa_tvm.boards import lifecycle
from ofa_tvm.boards.inventory import take_inventory
from ofa_tvm.boards.lifecycle import seen_at, start, stop
from ofa_tvm.boards.link_control import link_status, start_link, stop_link
from ofa_tvm.boards.link_state import link_file
from ofa_tvm.boards.provisioning import set_up
from ofa_tvm.boards.registry import Board, load_board, save_board
from ofa_tvm.boards.removal import remove
from ofa_tvm.boards.service import ShellService, server_command
from ofa_tvm.boards.ssh import SshConnection
from ofa_tvm.errors import (
    BoardSetUpError,
    BoardUnreachableError,
    DeviceError,
    HostKeyError,
    TrackerUnreachableError,
)
from ofa_tvm.files import shipped_folder
from ofa_tvm.locks import try_lock
from ofa_tvm.measurement.tracker import TrackerAddress
from ofa_tvm.reporting import Say

from ..processes import await_true, free_port, lives, send, words_of
from .conftest import LIMIT_S, SshBoard, Tracker, ip, links

pytestmark = pytest.mark.slow


@pytest.fixture
def say() -> Say:
    return lambda _: None


@pytest.fixture
def ready(ssh_board: SshBoard, board: Board, say: Say) -> Board:
    """A board with the native server installed, which is the quicker one."""
    return _set_up(ssh_board, board, say)


def _set_up(ssh_board: SshBoard, board: Board, say: Say, runtime: str = "native") -> Board:
    with ssh_board.connect() as connection:
        board, _ = set_up(connection, board, say, runtime=runtime)
    save_board(board)
    return board


@pytest.fixture
def started(ready: Board, tracker: Tracker, say: Say):
    board = start(ready, tracker.address, say)
    yield board
    stop_link(board)


def _ask(tracker: Tracker) -> dict:
    """What the device says of itself, through the tracker and the tunnel."""
    session = rpc.connect_tracker(tracker.address.host, tracker.address.port).request("rasp4", session_timeout=30)
    return json.loads(session.get_function("ofa_tvm.device_info")())


def _serves(tracker: Tracker) -> bool:
    """Whether the device is there and answers: a dead one may stay in the list for a moment."""
    if not tracker.free():
        return False
    try:
        return bool(_ask(tracker))
    except Exception:
        return False


@pytest.mark.parametrize("runtime", ["python", "native"])
def test_board_serves_and_stop_leaves_nothing(
    ssh_board: SshBoard, board: Board, tracker: Tracker, say: Say, runtime: str, state: Path
):
    ready = _set_up(ssh_board, board, say, runtime)
    before = {process.pid for process in ssh_board.processes()}
    board = start(ready, tracker.address, say)
    assert load_board(board.name) == board
    assert tracker.free() == 1
    assert _ask(tracker)["server"] == runtime
    assert link_status(board).state == "up"

    stop(board, say)
    await_true(lambda: {process.pid for process in ssh_board.processes()} <= before)
    await_true(lambda: not tracker.free())
    assert link_status(board) is None
    assert not _links_of(board)
    assert not list(ssh_board.home.rglob("run/*")) + list(ssh_board.home.rglob("links/*"))
    with socket.create_server(("127.0.0.1", board.port)):
        pass
    stop(board, say)  # there is nothing to stop, which is no error


def test_started_twice_is_started_once(started: Board, tracker: Tracker, ssh_board: SshBoard):
    servers = {process.pid for process in ssh_board.processes("ofa_tvm-rpc-server")}
    steps: list[str] = []
    assert start(started, tracker.address, steps.append) == started
    assert len(steps) == 1
    assert {process.pid for process in ssh_board.processes("ofa_tvm-rpc-server")} == servers


def test_started_by_several_at_once_is_started_once(ready: Board, tracker: Tracker, ssh_board: SshBoard, say: Say):
    with ThreadPoolExecutor(4) as pool:
        boards = list(pool.map(lambda _: start(ready, tracker.address, say), range(4)))
    try:
        assert len(set(map(str, boards))) == 1
        assert tracker.free() == 1
        assert len(ssh_board.processes("supervise.sh")) >= 1
        assert len([process for process in links() if ready.name in words_of(process)]) == 1
    finally:
        stop(boards[0], say)


def test_other_runtime_replaces_the_one_that_runs(started: Board, tracker: Tracker, ssh_board: SshBoard, say: Say):
    folder = Path(started.folder).parent
    for old in ("native-0", "python-0"):
        (folder / old).mkdir()
    (folder / "run" / "other").mkdir()
    (folder / "run" / "other" / "command").write_text(f"{folder}/python-0/venv/bin/python\n")  # of another board
    again = start(_set_up(ssh_board, started, say, "python"), tracker.address, say)
    assert (again.port, again.tracker_port) == (started.port, started.tracker_port)
    await_true(lambda: _serves(tracker))
    assert _ask(tracker)["server"] == "python"
    assert not _servers(ssh_board, started)
    left = {path.name for path in folder.iterdir()} - {"run", "links"}
    assert left == {Path(again.folder).name, "python-0"}
    stop(again, say)


def test_two_boards_of_a_key_are_two_devices(
    make_board: Callable[..., SshBoard], board: Board, ready: Board, tracker: Tracker, say: Say
):
    second = make_board()
    other = board.model_copy(update={"name": "second", "host": second.address, "identity": second.identity})
    boards = [start(each, tracker.address, say) for each in (ready, _set_up(second, other, say))]
    try:
        assert tracker.free() == 2
        assert all(seen_at(each, tracker.address) for each in boards)
    finally:
        for each in boards:
            stop(each, say)


def test_nothing_listens_beyond_loopback(started: Board, ssh_board: SshBoard):
    inside = ["ip", "netns", "exec", ssh_board.namespace]
    on_board = subprocess.run([*inside, "ss", "-Htln"], capture_output=True, text=True, check=True).stdout
    ports = sorted(line.split()[3] for line in on_board.splitlines())
    loopback = [f"127.0.0.1:{started.port}", f"127.0.0.1:{started.tracker_port}"]
    assert ports == sorted([f"{ssh_board.address}:22", *loopback])
    here = psutil.Process(link_status(started).pid).net_connections("tcp")
    listening = [each.laddr for each in here if each.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", started.port)]


def test_cut_ssh_connection_is_made_again(started: Board, tracker: Tracker, ssh_board: SshBoard):
    send(ssh_board.sessions())
    await_true(lambda: " lost: " in link_file(started.name, "log").read_text())
    await_true(lambda: _serves(tracker))
    assert link_status(started).tracker_port == started.tracker_port


def test_restarted_ssh_server_is_found_again(started: Board, tracker: Tracker, ssh_board: SshBoard):
    send(ssh_board.processes("sshd"))
    await_true(lambda: link_status(started).state == "reconnecting")
    assert link_status(started).reason
    ssh_board.start()
    await_true(lambda: _serves(tracker))


def test_frozen_board_is_given_up_and_found_again(ready: Board, tracker: Tracker, ssh_board: SshBoard, say: Say):
    board = start(ready, tracker.address, say)
    processes = ssh_board.processes()
    send(processes, signal.SIGSTOP)
    try:
        await_true(lambda: link_status(board).state == "reconnecting")
        assert "silent" in link_status(board).reason or "failed" in link_status(board).reason
    finally:
        send(processes, signal.SIGCONT)
    await_true(lambda: _serves(tracker))
    # The SSH server's process of the frozen connection held the port; it is gone.
    await_true(lambda: len(ssh_board.sessions()) == 1)
    stop(board, say)


def test_everything_works_for_a_user_who_is_not_root(
    make_board: Callable[..., SshBoard], board: Board, tracker: Tracker, say: Say
):
    ssh_board = make_board("pi")
    own = {"user": "pi", "host": ssh_board.address, "identity": ssh_board.identity}
    ready = _set_up(ssh_board, board.model_copy(update=own), say)
    started = start(ready, tracker.address, say)
    server = _servers(ssh_board, started)[0]
    assert server.uids().real == 4321
    send(sessions := ssh_board.sessions(), signal.SIGSTOP)
    await_true(lambda: link_status(started).state == "reconnecting")
    await_true(lambda: _serves(tracker))  # although the frozen session had the port
    assert link_status(started).tracker_port == started.tracker_port
    send(sessions, signal.SIGCONT)
    stop(started, say)
    await_true(lambda: not _servers(ssh_board, started))
    with ssh_board.connect() as connection:
        listed = connection.run("ls -A ~/.local/share/ofa_tvm/run ~/.local/share/ofa_tvm/links", LIMIT_S).stdout
    assert listed.count("\n") == 3


def test_cable_that_is_pulled_and_plugged_in(started: Board, tracker: Tracker, ssh_board: SshBoard):
    ip("link", "set", ssh_board.namespace, "down")
    await_true(lambda: link_status(started).state == "reconnecting")
    ip("link", "set", ssh_board.namespace, "up")
    await_true(lambda: _serves(tracker))


def test_tracker_that_is_restarted_has_the_device_again(started: Board, tracker: Tracker):
    tracker.kill()
    tracker.start()
    await_true(lambda: _serves(tracker))


@pytest.mark.parametrize("runtime", ["python", "native"])
def test_killed_server_comes_back(ssh_board: SshBoard, board: Board, tracker: Tracker, say: Say, runtime: str):
    board = start(_set_up(ssh_board, board, say, runtime), tracker.address, say)
    killed = _servers(ssh_board, board)
    send(killed)
    await_true(lambda: set(_servers(ssh_board, board)) - set(killed))
    await_true(lambda: _serves(tracker))
    stop(board, say)
    await_true(lambda: not _servers(ssh_board, board))


def _servers(ssh_board: SshBoard, board: Board) -> list[psutil.Process]:
    program = server_command(board, "")[0]
    return [process for process in ssh_board.processes(program) if words_of(process)[:1] == [program]]


def test_stop_ends_the_server_even_if_its_supervisor_was_killed(started: Board, ssh_board: SshBoard, say: Say):
    send(ssh_board.processes("supervise.sh"))
    assert _servers(ssh_board, started)
    stop(started, say)
    assert not _servers(ssh_board, started)


def test_killed_link_is_started_again(started: Board, tracker: Tracker, say: Say):
    process = psutil.Process(link_status(started).pid)
    process.kill()
    await_true(lambda: link_status(started) is None)
    assert start(started, tracker.address, say).port == started.port
    await_true(lambda: _serves(tracker))


def test_other_tracker_gets_the_board(started: Board, tracker: Tracker, say: Say):
    other = Tracker()
    try:
        start(started, other.address, say)
        assert other.free() == 1
        await_true(lambda: not tracker.free())
    finally:
        other.kill()


def test_port_that_was_taken_meanwhile_is_replaced(started: Board, tracker: Tracker, say: Say):
    stop(started, say)
    with socket.create_server(("127.0.0.1", started.port)):
        again = start(started, tracker.address, say)
        assert again.port != started.port
        assert tracker.free() == 1
        stop(again, say)


def test_link_ends_at_once_on_sigterm(started: Board):
    process = psutil.Process(link_status(started).pid)
    process.terminate()
    await_true(lambda: not lives(process), 20)
    assert link_status(started) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_link_whose_starter_was_ended_does_not_come_up(
    ready: Board, tracker: Tracker, ssh_board: SshBoard, number: signal.Signals
):
    board = ready.model_copy(update={"port": free_port()})
    save_board(board)
    send(processes := ssh_board.processes(), signal.SIGSTOP)
    script = (
        "from ofa_tvm.boards.link_control import *; from ofa_tvm.boards.registry import load_board;"
        f"start_link(load_board('{board.name}'), TrackerAddress('127.0.0.1', {tracker.address.port}))"
    )
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL) as starter:
        await_true(lambda: _links_of(board))
        starter.send_signal(number)
    send(processes, signal.SIGCONT)
    await_true(lambda: not _links_of(board))
    assert link_status(board) is None


def _links_of(board: Board) -> list[psutil.Process]:
    """Those that nobody who started them will bury: what forks one leads the session that it is in."""
    return [process for process in links() if board.name in words_of(process) and _is_forked(process)]


def _is_forked(process: psutil.Process) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return os.getsid(process.pid) != process.pid
    return False


def test_tethered_link_dies_with_its_starter(ready: Board, tracker: Tracker, say: Say):
    board = start(ready, tracker.address, say)
    stop_link(board)
    script = (
        "import time; from ofa_tvm.boards.link_control import *; from ofa_tvm.boards.registry import load_board;"
        f"start_link(load_board('{board.name}'), TrackerAddress('127.0.0.1', {tracker.address.port}), tethered=True);"
        "print('up', flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout.readline() == "up\n"
        assert link_status(board)
        starter.kill()
    await_true(lambda: link_status(board) is None)
    await_true(lambda: not [process for process in links() if board.name in words_of(process)])


def test_no_tracker_is_said_first(ready: Board, say: Say):
    with pytest.raises(TrackerUnreachableError):
        start(ready, TrackerAddress("127.0.0.1", 1), say)
    assert link_status(ready) is None


def test_board_that_was_not_set_up(ssh_board: SshBoard, board: Board, tracker: Tracker, say: Say):
    ssh_board.connect().close()
    with pytest.raises(BoardSetUpError, match=r"devices setup rasp4 --ssh root@.* --name bench --identity"):
        start(board, tracker.address, say)


def _switch_off(ssh_board: SshBoard) -> None:
    send(ssh_board.processes())
    await_true(lambda: not ssh_board.processes())


def test_board_that_is_off(ready: Board, tracker: Tracker, ssh_board: SshBoard, say: Say):
    _switch_off(ssh_board)
    with pytest.raises(BoardUnreachableError, match="refuses connections"):
        start(ready, tracker.address, say)
    with pytest.raises(BoardUnreachableError, match=r"link to bench is stopped, but its RPC server may run on"):
        stop(ready, say)


def test_link_to_a_board_with_another_host_key(ready: Board, tracker: Tracker, ssh_board: SshBoard, state: Path):
    board = ready.model_copy(update={"port": free_port()})
    save_board(board)
    (state / "known_hosts").unlink()
    with pytest.raises(HostKeyError, match="unknown"):
        start_link(board, tracker.address)
    assert link_status(board) is None


def test_link_whose_state_was_lost_is_ended_before_another_starts(started: Board, tracker: Tracker):
    first = psutil.Process(link_status(started).pid)
    link_file(started.name, "json").write_text("damaged")
    start_link(started, tracker.address)
    await_true(lambda: not lives(first))
    await_true(lambda: _serves(tracker))


def test_link_that_somebody_else_starts_is_not_started_again(ready: Board, tracker: Tracker):
    board = ready.model_copy(update={"port": free_port()})
    save_board(board)
    link_file(board.name, "lock").parent.mkdir()
    with link_file(board.name, "lock").open("a") as lock:
        assert try_lock(lock.fileno())
        with pytest.raises(DeviceError, match="has a link already"):
            start_link(board, tracker.address)


def test_tracker_of_another_host_is_for_the_lan(ready: Board, say: Say, ssh_board: SshBoard):
    tracker = Tracker(host="0.0.0.0")
    try:
        with pytest.raises(TrackerUnreachableError, match="--lan"):
            start(ready, TrackerAddress(ssh_board.host_address, tracker.address.port), say)
    finally:
        tracker.kill()


def test_server_that_cannot_start_says_why_and_leaves_nothing(
    ready: Board, tracker: Tracker, ssh_board: SshBoard, say: Say, monkeypatch: pytest.MonkeyPatch
):
    """Long before the limit, in its own words, not those of its supervisor."""
    monkeypatch.setattr(lifecycle, "server_command", lambda *_: ["sh", "-c", "echo the real reason >&2; exit 3"])
    before = {process.pid for process in ssh_board.processes()}
    with pytest.raises(BoardSetUpError, match="ends at once, every time: the real reason"):
        start(ready, tracker.address, say)
    await_true(lambda: {process.pid for process in ssh_board.processes()} <= before)
    assert not list(ssh_board.home.rglob("run/*")) + list(ssh_board.home.rglob("links/*"))
    assert not _links_of(ready)
    assert link_status(ready) is None


def test_failed_start_leaves_alone_what_ran_before(
    started: Board, tracker: Tracker, ssh_board: SshBoard, say: Say, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lifecycle, "SEEN_LIMIT_S", 0.0)
    monkeypatch.setattr(lifecycle, "seen_at", lambda *_: False)
    with pytest.raises(BoardSetUpError, match="not seen at tracker"):
        start(started, tracker.address, say)
    assert _servers(ssh_board, started)
    assert link_status(started).state == "up"


def test_stop_amid_a_pause_of_the_supervisor_leaves_nothing(
    connection: SshConnection, board: Board, ssh_board: SshBoard
):
    folder = ssh_board.home / "x"
    folder.mkdir()
    (folder / "supervise.sh").write_bytes((shipped_folder("rpc") / "provisioning" / "supervise.sh").read_bytes())
    service = ShellService(connection, board.model_copy(update={"folder": str(folder)}))
    service.start(["sh", "-c", "exit 3"])
    await_true(lambda: service.status().failures >= 3)
    service.stop()
    await_true(lambda: not ssh_board.processes("sleep") + ssh_board.processes("supervise.sh"), 3)  # less than the pause


@pytest.mark.parametrize("program", ["setsid", "mkfifo"])
def test_board_without_a_program_that_starting_takes(
    connection: SshConnection, board: Board, ssh_board: SshBoard, program: str
):
    few = ssh_board.home / "bin"
    few.mkdir()
    for name in {"sed", "cut", "sleep", "mkdir", "rm", "setsid", "mkfifo"} - {program}:
        (few / name).symlink_to(shutil.which(name))
    board = board.model_copy(update={"folder": str(ssh_board.home / "x")})
    service = ShellService(connection, board)
    monkeyed = connection.run
    connection.run = lambda command, limit_s: monkeyed(f"PATH={few}; {command}", limit_s)
    with pytest.raises(BoardSetUpError, match=f"no program {program}; util-linux"):
        service.start(["true"])


def test_two_hosts_use_a_board_side_by_side(
    started: Board, tracker: Tracker, ssh_board: SshBoard, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each has its server, its link and its runtime, although both call the board the same."""
    await_true(lambda: len(ssh_board.sessions()) == 1)  # what set the board up has closed its own
    first = ssh_board.sessions()
    with monkeypatch.context() as other_host:
        other_host.setenv("OFA_TVM_STATE", str(tmp_path / "other host"))
        theirs = start(_set_up(ssh_board, _fresh(started), say, "python"), tracker.address, say)
        assert tracker.free() == 2
        await_true(lambda: len(ssh_board.sessions()) == 2)
        assert _servers(ssh_board, started)
        assert Path(started.folder).is_dir()
        stop(theirs, say)
    await_true(lambda: tracker.free() == 1)
    await_true(lambda: ssh_board.sessions() == first)
    assert link_status(started).state == "up"


def _fresh(board: Board) -> Board:
    return board.model_copy(update={"port": 0, "tracker_port": 0, "folder": ""})


def test_link_to_another_machine_ends_and_its_reason_is_kept(started: Board, ssh_board: SshBoard):
    process = psutil.Process(link_status(started).pid)
    for name in ("host", "host.pub"):
        (ssh_board.folder / name).unlink()
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh_board.folder / "host"], check=True)
    send(ssh_board.processes("sshd"))
    ssh_board.start()
    await_true(lambda: not lives(process))
    assert link_status(started) is None
    (status,) = take_inventory(TrackerAddress("127.0.0.1", 1)).boards
    assert status.state == "link ended"
    assert "has changed" in status.reason


def test_reason_of_the_last_try_is_told(started: Board, ssh_board: SshBoard):
    send(ssh_board.processes("sshd"))
    await_true(lambda: (link := link_status(started)) and "refuses connections" in link.reason)


def test_link_is_known_although_the_clock_was_set(started: Board, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: 1.0)
    assert link_status(started).state == "up"


def test_removed_board_leaves_nothing_there_and_here(
    started: Board, tracker: Tracker, ssh_board: SshBoard, say: Say, state: Path
):
    before = {process.pid for process in ssh_board.sessions()}
    remove(started, say)
    await_true(lambda: not _servers(ssh_board, started) and not before & {each.pid for each in ssh_board.sessions()})
    assert not list(ssh_board.home.rglob("ofa_tvm/*"))
    assert "".join(path.read_text() for path in state.rglob("*") if path.is_file()) == ""
    assert not _links_of(started)


def test_removed_board_leaves_what_others_use(
    started: Board, tracker: Tracker, ssh_board: SshBoard, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as other_host:
        other_host.setenv("OFA_TVM_STATE", str(tmp_path / "other host"))
        theirs = _set_up(ssh_board, _fresh(started), say)
        assert theirs.folder == started.folder
        remove(theirs, say)
    assert (Path(started.folder) / "complete").exists()
    await_true(lambda: _serves(tracker))


def test_board_that_is_off_is_removed_only_if_it_may_stay_as_it_is(
    ready: Board, ssh_board: SshBoard, say: Say, state: Path
):
    _switch_off(ssh_board)
    with pytest.raises(BoardUnreachableError, match="devices remove bench --forget"):
        remove(ready, say)
    assert load_board(ready.name) == ready
    steps: list[str] = []
    remove(ready, steps.append, forget=True)
    assert "what is on bench stays there" in steps[0]
    assert not list((state / "boards").iterdir())


def test_board_that_forwards_no_ports(ready: Board, tracker: Tracker, ssh_board: SshBoard, say: Say):
    send(ssh_board.processes("sshd"))
    with (ssh_board.folder / "sshd_config").open("a") as config:
        config.write("AllowTcpForwarding no\n")
    ssh_board.start()
    with pytest.raises(BoardSetUpError, match="AllowTcpForwarding yes"):
        start(ready, tracker.address, say)


def test_lan_listens_on_the_network_with_a_warning_and_no_link(
    ready: Board, ssh_board: SshBoard, say: Say, tmp_path: Path
):
    tracker = Tracker(host="0.0.0.0")
    steps: list[str] = []
    try:
        board = start(ready.model_copy(update={"lan": True}), tracker.address, steps.append)
        assert any("without a password" in step for step in steps)
        assert link_status(board) is None
        assert _ask(tracker)["server"] == "native"
        stop(board, say)
    finally:
        tracker.kill()
