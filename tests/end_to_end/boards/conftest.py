"""Emulated boards at a tracker of their own, and the commands that find them there, as a user types them."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from ofa_tvm.boards.emulation.arm64 import enable_arm64
from ofa_tvm.boards.emulation.board import EmulatedBoard, find_boards
from ofa_tvm.boards.emulation.network import Cable
from ofa_tvm.boards.emulation.requirements import require_host
from ofa_tvm.boards.emulation.rootfs import base_root
from ofa_tvm.boards.emulation.state import processes_of
from ofa_tvm.errors import EmulationError, TrackerUnreachableError
from ofa_tvm.measurement.tracker import TrackerAddress, summarize

from ...processes import await_true, free_port, send, words_of

REPOSITORY = Path(__file__).parents[3]
LIMIT_S = 180.0
TARGET = "rasp4-emulated"
BECOMES_DEVICES = ("emulate", "setup", "start")
"""Subcommands of devices that leave something running on purpose."""


class Site:
    """A tracker started by the script, a state folder, and whatever the commands start for both."""

    def __init__(self, commands: Any) -> None:
        self.commands = commands
        self.folder: Path = commands.folder
        self.state = self.folder / "state"
        self.tracker = TrackerAddress("127.0.0.1", free_port())
        self.environment = {"OFA_TVM_STATE": str(self.state), "OFA_TVM_TRACKER": str(self.tracker)}
        self._cables: set[Cable] = set()
        self._spawned: list[subprocess.Popen[bytes]] = []
        self.start_tracker()

    def start_tracker(self) -> None:
        line = [REPOSITORY / "scripts/start_rpc_tracker.sh", "--port", str(self.tracker.port)]
        self.tracker_process = self.spawn(line)
        await_true(lambda: self.summary() is not None, LIMIT_S)

    def spawn(self, line: list[object]) -> subprocess.Popen[bytes]:
        """A process that lives until the site is closed."""
        environment = {**os.environ, **self.environment}
        self._spawned.append(subprocess.Popen(list(map(str, line)), stderr=subprocess.DEVNULL, env=environment))
        return self._spawned[-1]

    def summary(self) -> Any:
        with contextlib.suppress(TrackerUnreachableError):
            return summarize(self.tracker)
        return None

    def free(self, key: str = TARGET) -> int:
        """Devices that another run could have now."""
        summary = self.summary()
        return summary.free.get(key, 0) if summary else 0

    def start(self, verb: str, *options: object, **environment: str) -> Any:
        return self.commands.start(verb, *options, **{**self.environment, **environment})

    def run(self, verb: str, *options: object, **environment: str) -> Any:
        return self.start(verb, *options, **environment).finish()

    def succeed(self, verb: str, *options: object, **environment: str) -> Any:
        run = self.run(verb, *options, **environment)
        assert run.code == 0, run.stderr
        assert "Traceback" not in run.stderr
        if verb != "devices" or options[0] not in BECOMES_DEVICES:
            run.leaves_nothing()
        self.boards()
        return run

    def profile(self, runs: Path, *options: object, target: str = TARGET, **environment: str) -> Any:
        """Start the smallest profile of the scratch supernet."""
        small = ("--supernet", self.commands.supernet, "--resolutions", 24, "--subnets", 10, "--json")
        return self.start("profile", "--target", target, "--runs", runs, *small, *options, **environment)

    def boards(self) -> list[EmulatedBoard]:
        """Those that run, by name; their cables are remembered, to see that they go, too."""
        boards = find_boards(self.state / "emulated")
        self._cables |= {cable for board in boards if (cable := Cable.of(board.address))}
        return boards

    def board(self, name: str) -> EmulatedBoard:
        (board,) = [board for board in self.boards() if board.name == name]
        return board

    def processes(self) -> list[psutil.Process]:
        """All but those spawned by the test: of commands, links and boards."""
        spawned = {process.pid for process in self._spawned}
        return [p for p in psutil.process_iter() if p.pid not in spawned and self._is_ours(p)]

    def _is_ours(self, process: psutil.Process) -> bool:
        """By its environment, or because it sees the boards' disks, which no process does that is not on one."""
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if process.environ().get("OFA_TVM_STATE") == str(self.state):
                return True
            return f"{self.state}/" in Path(f"/proc/{process.pid}/mountinfo").read_text()
        except (psutil.Error, OSError):
            return False

    def leaves_nothing(self) -> None:
        """No process, no board's disk, no cable, no file but logs, locks and this host's name; soon so after a kill."""
        with contextlib.suppress(AssertionError):
            await_true(lambda: not self.processes() and not self._cables_left(), 60)
        assert self.processes() == []
        assert self._cables_left() == []
        files = [path for path in self.state.rglob("*") if path.is_file() and path.suffix not in (".log", ".lock")]
        kept = {self.state / "host"}
        kept |= {path for path in files if path.name == "known_hosts" and not path.read_text().strip()}
        assert [path for path in files if path not in kept] == []

    def _cables_left(self) -> list[str]:
        def index(cable: Cable) -> str:
            with contextlib.suppress(OSError):
                return Path("/sys/class/net", cable.interface, "ifindex").read_text()
            return ""

        return [cable.interface for cable in self._cables if index(cable) == cable.index]

    def close(self) -> None:
        """Kill whatever is left."""
        send(self.processes())
        for spawned in self._spawned:
            spawned.kill()
            spawned.wait(LIMIT_S)
        await_true(lambda: not self.processes(), LIMIT_S)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """Wait until a condition holds; fail if it does not within the limit."""
    return functools.partial(await_true, limit_s=LIMIT_S)


@pytest.fixture(scope="session")
def emulation() -> None:
    """These tests need what emulated boards need; its system is built here unless it is in the user's cache."""
    try:
        require_host()
        if not shutil.which("aarch64-linux-gnu-g++"):
            raise EmulationError("aarch64-linux-gnu-g++ is missing; apt-get install g++-aarch64-linux-gnu")
    except EmulationError as error:
        if os.environ.get("OFA_TVM_REQUIRE_EMULATION") == "1":
            pytest.fail(f"OFA_TVM_REQUIRE_EMULATION=1, but {error}")
        pytest.skip(str(error))
    enable_arm64(print)
    base_root(print)


@pytest.fixture(scope="session")
def site(emulation: None, new_commands: Callable[[str], Any]) -> Iterator[Site]:
    """A tracker with one emulated board, for all tests that leave it as it was."""
    site = Site(new_commands("site"))
    try:
        site.emulated = site.succeed("devices", "emulate", "rasp4", "--json").result
        yield site
        site.succeed("devices", "stop", TARGET)
        site.leaves_nothing()
    finally:
        site.close()


@pytest.fixture
def plain_site(commands: Any) -> Iterator[Site]:
    """A tracker without boards, for one test."""
    with contextlib.closing(Site(commands)) as site:
        yield site


@pytest.fixture
def own_site(emulation: None, plain_site: Site) -> Site:
    """The same where boards can be emulated."""
    return plain_site


@pytest.fixture(scope="session")
def make_site(
    emulation: None, new_commands: Callable[[str], Any]
) -> Callable[[str], contextlib.AbstractContextManager[Site]]:
    """A tracker without boards, for as long as its context lasts."""
    return lambda name: contextlib.closing(Site(new_commands(name)))


@dataclass(frozen=True)
class Profiled:
    """A finished profile on an emulated board, which other workers use, too: its runs are to be copied.

    Attributes
    ----------
    listening
        Where sockets listened meanwhile, here and on the board.
    address
        The board's.
    """

    runs: Path
    result: dict[str, Any]
    listening: tuple[set[str], set[str]]
    address: str


@pytest.fixture(scope="session")
def profiled(emulation: None, supernet: Path, shared: Callable[..., Path], request: pytest.FixtureRequest) -> Profiled:
    """Made on the site of the worker that needs it first."""

    def fill(folder: Path) -> None:
        site = request.getfixturevalue("site")
        run = site.profile(folder / "runs")
        here, there = watch(site, run)
        run.finish()
        assert run.code == 0, run.stderr
        run.leaves_nothing()
        address = site.board(f"{TARGET}-1").address
        seen = {"result": run.result, "here": [*here], "there": [*there], "address": address}
        (folder / "seen.json").write_text(json.dumps(seen))

    folder = shared("profiled on a board", fill)
    seen = json.loads((folder / "seen.json").read_text())
    return Profiled(folder / "runs", seen["result"], (set(seen["here"]), set(seen["there"])), seen["address"])


@pytest.fixture(scope="session")
def cut(profiled: Profiled) -> Callable[[Path, int], Path]:
    """Copy its ``--runs`` folder, without so many of the last measurements."""

    def copy(to: Path, missing: int) -> Path:
        path = records_file(shutil.copytree(profiled.runs, to))
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:-missing]))
        return to

    return copy


@pytest.fixture
def unfinished(cut: Callable[[Path, int], Path], tmp_path: Path) -> Callable[[int], Path]:
    """The same, for one test."""
    return lambda missing: cut(tmp_path / "unfinished", missing)


@pytest.fixture(scope="session")
def all_there(profiled: Profiled) -> Callable[[Path], list[dict[str, Any]]]:
    """The records of a profile like the first one; each of its measurements must be there exactly once."""

    def check(runs: Path) -> list[dict[str, Any]]:
        records = read_records(runs)
        keys = sorted(map(key_of, records))
        assert keys == sorted(map(key_of, read_records(profiled.runs)))
        assert len(set(keys)) == len(keys)
        assert all(record["outcome"].get("median_ms") for record in records), "a measurement failed"
        return records

    return check


@pytest.fixture(scope="session")
def watch_listening() -> Callable[[Site, Any], tuple[set[str], set[str]]]:
    return watch


def watch(site: Site, run: Any) -> tuple[set[str], set[str]]:
    """Until a command ends: where its processes, links and tracker listen here, and who listens on the boards."""
    here, there = set(), set()
    while run.process.poll() is None:
        for process in [*site.processes(), psutil.Process(site.tracker_process.pid)]:
            here |= listening_here(process)
        for board in site.boards():
            there |= listening_there(board)
        time.sleep(0.25)
    return here, there


def listening_here(process: psutil.Process) -> set[str]:
    """Addresses, for a process in this host's network."""
    with contextlib.suppress(psutil.Error, OSError):
        if Path(f"/proc/{process.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            bound = process.net_connections("inet")
            return {socket.laddr.ip for socket in bound if socket.status in ("LISTEN", "NONE") and not socket.raddr}
    return set()


def listening_there(board: EmulatedBoard) -> set[str]:
    """``ADDRESS:PORT`` of whatever listens in the network of a board, but not on its loopback."""
    ss = ["nsenter", "--net", "--target", str(board.pid), "ss", "--no-header", "--listening", "--numeric"]
    listing = subprocess.run([*ss, "--tcp", "--udp"], capture_output=True, text=True)
    local = {line.split()[4] for line in listing.stdout.splitlines()}
    return {address for address in local if not address.startswith(("127.", "[::1]"))}


def records_file(runs: Path, target: str = TARGET) -> Path:
    return runs / target / "records.jsonl"


def read_records(runs: Path, target: str = TARGET) -> list[dict[str, Any]]:
    """The whole lines of a records file; none if there is no file."""
    path = records_file(runs, target)
    whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return [json.loads(line) for line in whole]


def key_of(record: dict[str, Any]) -> str:
    """What was measured."""
    return json.dumps({name: value for name, value in record.items() if name != "outcome"}, sort_keys=True)


@pytest.fixture(scope="session")
def read() -> Callable[..., list[dict[str, Any]]]:
    """The records below a ``--runs`` folder."""
    return read_records


@pytest.fixture(scope="session")
def keys() -> Callable[[list[dict[str, Any]]], list[str]]:
    """What was measured, by records."""
    return lambda records: [key_of(record) for record in records]


@pytest.fixture(scope="session")
def kill_board() -> Callable[[EmulatedBoard], None]:
    """Kill a board as a cut of its power would: all at once, and no word about it anywhere."""

    def kill(board: EmulatedBoard) -> None:
        processes = processes_of(board.folder)
        assert processes
        send(processes)
        psutil.wait_procs(processes, LIMIT_S)

    return kill


def assert_left_in_peace(site: Site) -> None:
    """One RPC server without a session, and no file of one."""
    board = site.board(f"{TARGET}-1")
    files = board.folder / "upper/tmp"
    with contextlib.suppress(AssertionError):  # to say below what it is that is left
        await_true(
            lambda: site.free() == 1 and len(named(board, "rpc-server --")) == 1 and not [*files.glob("*")], LIMIT_S
        )
    assert site.free() == 1
    assert len(left := [words_of(process) for process in named(board, "rpc-server --")]) == 1, left
    assert [path.name for path in files.glob("*")] == []


def named(board: EmulatedBoard, text: str) -> list[psutil.Process]:
    """Processes on the board by a part of their command line."""
    found = []
    for process in processes_of(board.folder)[1:]:
        words = words_of(process)
        if text in " ".join(words) and "sh" not in [Path(word).name for word in words]:
            found.append(process)
    return found
