"""The devices command without boards: what is there is shown, and whatever is missing or wrong is one line."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ofa_tvm.measurement.tracker import TrackerAddress, summarize

from ..processes import await_true, listening

REPOSITORY = Path(__file__).parents[2]
NOBODY = "127.0.0.1:1"
"""Where nothing listens."""


@pytest.fixture
def start(commands):
    """Start ``devices`` with a state of its own, at a tracker that is not there unless the test names another."""

    def start(*arguments, tracker=NOBODY, verb="devices", prefix=(), **environment):
        given = {"OFA_TVM_STATE": str(commands.folder / "state"), "OFA_TVM_TRACKER": tracker, "COLUMNS": "200"}
        return commands.start(verb, *arguments, prefix=prefix, **given, **environment)

    return start


@pytest.fixture
def devices(start):
    """The same, to its end."""
    return lambda *arguments, **options: start(*arguments, **options).finish()


@pytest.fixture(scope="module")
def tracker():
    """The address of a tracker, as the script says it."""
    with started([REPOSITORY / "scripts/start_rpc_tracker.sh", "--port", 0]) as process:
        yield re.search(r"127\.0\.0\.1:\d+", process.stderr.readline())[0]


@pytest.fixture(scope="module")
def started_server(tracker):
    """A server of this host, which registers at the tracker under the key ``local``."""
    line = [sys.executable, REPOSITORY / "rpc/server.py", "--tracker", tracker, "--key", "local"]
    with started(line) as process:
        assert "registered at" in process.stderr.readline()
        yield process


@pytest.fixture
def server(tracker, started_server):
    """The same, free: the session of an earlier test may be ending."""
    await_true(lambda: summarize(TrackerAddress.parse(tracker)).free.get("local"))
    return started_server


@contextlib.contextmanager
def started(line):
    with subprocess.Popen(list(map(str, line)), stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def succeeded(run):
    assert run.code == 0, run.stderr
    run.leaves_nothing()
    return run


SUBCOMMANDS = {
    "list": ["--tracker", "--json"],
    "check": ["TARGET", "--tracker", "--json"],
    "setup": ["TARGET", "--ssh", "--identity", "--accept-host-key", "--runtime", "--systemd", "--lan", "--name"],
    "start": ["BOARD", "--tracker", "--json"],
    "stop": ["BOARD", "--json"],
    "emulate": ["TARGET", "--count", "--runtime", "--tracker", "--json"],
}


def test_help_shows_every_subcommand_and_its_options(devices):
    overview = succeeded(devices("--help")).stdout
    assert "python -m ofa_tvm.devices setup rasp4 --ssh pi@192.168.1.20" in overview
    for name, options in SUBCOMMANDS.items():
        assert re.search(rf"^ +{name} +\S", overview, re.MULTILINE)
        shown = succeeded(devices(name, "--help")).stdout
        assert f"python -m ofa_tvm.devices {name}" in shown
        assert [option for option in options if option not in shown] == []


def test_a_tracker_that_is_not_there(start):
    missing = start("list"), start("list", "--json")
    wrong = start("list", "--tracker", "nonsense"), start("list", tracker="127.0.0.1:99999")
    for run in missing:
        run.finish().fails(3, f"no RPC tracker answers at {NOBODY}", "scripts/start_rpc_tracker.sh")
    wrong[0].finish().fails(2, "'nonsense' is not HOST:PORT")
    wrong[1].finish().fails(2, "'127.0.0.1:99999' is not HOST:PORT")


def test_something_else_that_listens_is_no_tracker(devices, server):
    """Such as an RPC server, whose port is easily taken for the tracker's."""
    ((_, port),) = listening(psutil.Process(server.pid))
    devices("list", tracker=f"127.0.0.1:{port}").fails(3, f"no RPC tracker answers at 127.0.0.1:{port}")


def test_a_list_of_what_is_at_the_tracker(devices, tracker, server):
    listed = json.loads(succeeded(devices("list", "--json", tracker=tracker)).stdout)
    (key,) = listed["keys"]
    assert (key["key"], key["registered"], key["free"], key["busy"], key["waiting"]) == ("local", 1, 1, 0, 0)
    assert (listed["tracker"], listed["trouble"], listed["boards"]) == (tracker, None, [])
    table = succeeded(devices("list", "--tracker", tracker)).stdout
    assert f"Tracker {tracker}" in table
    assert re.search(r"local\W+1\W+1\W+0\W+0\W", table)


def test_a_check_of_this_host(devices, tracker, server):
    """Through a tracker and a server of the command's own, and through those that were started."""
    for given in ("", tracker):
        run = succeeded(devices("check", "local", "--json", tracker=given))
        (report,) = run.result["devices"]
        assert report["fit"], report
        assert report["emulated"] is report["info"]["emulated"] is False
        assert report["kernel_error"] < 1e-4
        assert report["info"]["server"] == "python"
    table = succeeded(devices("check", "local", tracker=tracker)).stdout
    assert "Devices of local" in table
    assert "emulated" not in table


def test_a_check_of_what_has_no_device(start, tracker, server):
    no_device = start("check", "null", tracker=tracker), start("check", "rasp5", tracker=tracker)
    not_there = start("check", "rasp4", tracker=tracker), start("check", "rasp4-emulated", tracker=tracker)
    no_device[0].finish().fails(2, "target 'null' has no device to check")
    no_device[1].finish().fails(2, "no target 'rasp5', did you mean 'rasp4'?")
    line = not_there[0].finish().fails(3, f"no device 'rasp4' at tracker {tracker}", "devices start rasp4")
    assert "local (1 of 1 free)" in line
    not_there[1].finish().fails(3, "no device 'rasp4-emulated'", "python -m ofa_tvm.devices emulate rasp4")


WRONG = [
    (("rasp4",), ["target 'rasp4' names no device.ssh", "--ssh USER@HOST"]),
    (("rasp5", "--ssh", "pi@127.0.0.1"), ["no target 'rasp5'"]),
    (("rasp4", "--ssh", "pi@"), ["'pi@' is not [USER@]HOST[:PORT]"]),
    (("rasp4", "--ssh", "pi:secret@127.0.0.1"), ["is not [USER@]HOST[:PORT]", "SSH keys"]),
    (("rasp4", "--ssh", "pi@127.0.0.1:99999"), ["is not [USER@]HOST[:PORT]"]),
    (("rasp4", "--ssh", "pi@127.0.0.1;reboot"), ["is not [USER@]HOST[:PORT]"]),
    (("rasp4", "--ssh", "pi@127.0.0.1", "--name", "../up"), ["'../up' is no name for a board", "--name"]),
    (("rasp4", "--ssh", "pi@127.0.0.1", "--runtime", "java"), ["'java'"]),
]


def test_a_setup_that_is_asked_for_wrongly(start, commands, tracker):
    runs = [start("setup", *arguments, tracker=tracker) for arguments, _ in WRONG]
    for run, (_, fragments) in zip(runs, WRONG, strict=True):
        run.finish().fails(2, *fragments)
    assert not (commands.folder / "state").exists()


def test_a_setup_of_a_board_that_is_not_there(start, commands, tracker):
    """No tracker is noticed before anything is installed; no board, whether a tracker is asked for or not."""
    where = ("--ssh", "pi@127.0.0.1:1")
    no_tracker = start("setup", "rasp4", *where)
    no_board = start("setup", "rasp4", *where, tracker=tracker), start("setup", "rasp4", *where, "--no-start", "--json")
    no_host = start("setup", "rasp4", "--ssh", "pi@no-such-host.invalid", tracker=tracker)
    no_tracker.finish().fails(3, f"no RPC tracker answers at {NOBODY}")
    for run in no_board:
        run.finish().fails(3, "127.0.0.1 refuses connections to port 1")
    no_host.finish().fails(3, "no-such-host.invalid")
    assert not list((commands.folder / "state").glob("boards/*.json"))


def test_a_board_that_nobody_set_up(start):
    for run in (start("start", "rasp4"), start("stop", "rasp4", "--json")):
        what_to_type = "setup rasp4 --ssh USER@HOST"
        run.finish().fails(2, "no board or target 'rasp4' was set up from here (boards: none)", what_to_type)


def test_what_is_known_of_a_board_is_damaged(devices, commands, tracker):
    path = commands.folder / "state/boards/bench.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"name": "bench"')
    listed = devices("list", "--json", tracker=tracker)
    assert (listed.code, listed.result["boards"]) == (0, [])
    assert "boards/bench.json is damaged" in listed.stderr
    devices("stop", "bench").fails(2, "boards/bench.json is damaged", "remove it")


def test_boards_that_cannot_be_emulated(start, tracker):
    others = {target: start("emulate", target, tracker=tracker) for target in ("null", "local")}
    counts = [start("emulate", "rasp4", "--count", count, tracker=tracker) for count in (0, 99)]
    for target, run in others.items():
        run.finish().fails(2, f"target '{target}' has no emulated variant")
    for run in counts:
        run.finish().fails(2, "'--count'")


WITHOUT_ROOT = ("unshare", "--user", "--map-user=65534")
"""As somebody else, who may still read what the tests have written."""


@pytest.fixture
def without_root():
    if subprocess.run([*WITHOUT_ROOT, sys.executable, "-c", "pass"], capture_output=True).returncode:
        pytest.skip("no user namespace can be made here")
    return WITHOUT_ROOT


def test_an_emulated_board_without_root(start, commands, supernet, tracker, without_root):
    options = ("--target", "rasp4", "--emulate", "--supernet", supernet, "--resolutions", 24, "--subnets", 10)
    runs = (
        start("emulate", "rasp4", prefix=without_root, tracker=tracker),
        start(*options, verb="profile", prefix=without_root),
    )
    for run in runs:
        run.finish().fails(3, "no emulated board here:", "root", "sudo")
    assert not list((commands.folder / "state").glob("**/*.json"))


def test_an_emulated_board_without_the_programs_it_takes(devices, tracker, tmp_path):
    """With nothing in PATH, what is missing is named at once."""
    devices("emulate", "rasp4", tracker=tracker, PATH=str(tmp_path)).fails(3, "no emulated board here:", "missing")


def test_a_run_on_an_emulated_board_that_is_asked_for_wrongly(start, supernet):
    emulated = ("--target", "rasp4", "--emulate", "--supernet", supernet)
    both = ("--tracker", "127.0.0.1:9190")
    told = start(*emulated, *both, verb="profile"), start(*emulated, *both, "--latency", 5, verb="deploy")
    null = start("--target", "null", "--emulate", "--supernet", supernet, verb="profile")
    unprofiled = start(*emulated, "--latency", 5, verb="deploy")
    for run in told:
        run.finish().fails(2, "--tracker 127.0.0.1:9190: with --emulate")
    null.finish().fails(2, "target 'null' has no emulated variant")
    unprofiled.finish().fails(2, "python -m ofa_tvm.profile --target rasp4 --emulate")
