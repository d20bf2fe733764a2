"""Whatever breaks while boards measure: what was finished is kept, the run goes on, and nothing is measured twice."""

from __future__ import annotations

import json
import signal

import psutil
import pytest

from ofa_tvm.boards.emulation.state import processes_of

from ...processes import send
from .conftest import assert_left_in_peace, named

TARGET = "rasp4-emulated"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def abandoned(make_site, profiled, cut, kill_board, read, eventually):
    """A run whose only board was killed: it waits for another one for a minute, in which the other tests run."""
    with make_site("abandoned") as site:
        site.succeed("devices", "emulate", "rasp4")
        run = site.profile(runs := cut(site.folder / "runs", 100))
        before = len(read(runs))
        eventually(lambda: len(read(runs)) > before)
        kill_board(site.board(f"{TARGET}-1"))
        yield site, run, before
        run.process.kill()  # if no test has waited for its end
        run.process.communicate()


@pytest.fixture
def under_way(unfinished, read, eventually):
    """Start a profile that has so much left to do, and wait until it has measured something."""

    def start(site, missing=40):
        runs = unfinished(missing)
        before = len(read(runs))
        run = site.profile(runs)
        eventually(lambda: len(read(runs)) > before or run.process.poll() is not None)
        assert run.process.poll() is None, run.finish().stderr
        return run, runs

    return start


@pytest.fixture
def goes_on(site, all_there):
    """The run ends as if nothing had happened, and the board is free and clean again."""

    def check(run, runs):
        run.finish()
        assert run.code == 0, run.stderr
        run.leaves_nothing()
        all_there(runs)
        assert_left_in_peace(site)

    return check


def test_a_server_killed_amid_a_measurement_is_started_again(site, under_way, goes_on, eventually):
    run, runs = under_way(site)
    board = site.board(f"{TARGET}-1")
    eventually(lambda: len(named(board, "rpc-server --")) == 2)  # one of them the session
    send(named(board, "rpc-server --"))
    goes_on(run, runs)


def test_a_cut_ssh_connection_is_made_again(site, under_way, goes_on):
    run, runs = under_way(site)
    listener, *sessions = sorted(named(site.board(f"{TARGET}-1"), "sshd"), key=psutil.Process.create_time)
    assert sessions
    send(sessions)
    goes_on(run, runs)
    assert listener.is_running()


def test_a_tracker_killed_and_started_again_has_the_board_back(site, under_way, goes_on):
    run, runs = under_way(site)
    site.tracker_process.kill()
    site.tracker_process.wait()
    site.start_tracker()
    send(named(site.board(f"{TARGET}-1"), "rpc-server --"))  # the new tracker is needed to go on
    goes_on(run, runs)


def test_a_frozen_board_is_waited_for(site, under_way, goes_on, eventually):
    run, runs = under_way(site)
    state = site.state / "links" / f"{TARGET}-1.json"
    frozen = processes_of(site.board(f"{TARGET}-1").folder)
    send(frozen, signal.SIGSTOP)
    try:
        eventually(lambda: json.loads(state.read_text())["state"] == "reconnecting")
        assert run.process.poll() is None
    finally:
        send(frozen, signal.SIGCONT)
    goes_on(run, runs)


def test_a_board_killed_beside_another_loses_nothing(own_site, under_way, all_there, kill_board):
    own_site.succeed("devices", "emulate", "rasp4", "--count", 2)
    run, runs = under_way(own_site, 100)
    kill_board(own_site.board(f"{TARGET}-2"))
    run.finish()
    assert run.code == 0, run.stderr
    run.leaves_nothing()
    all_there(runs)
    boards = own_site.succeed("devices", "list", "--json").result["boards"]
    assert {board["name"]: board["state"] for board in boards} == {f"{TARGET}-1": "link up", f"{TARGET}-2": "gone"}
    own_site.succeed("devices", "stop", TARGET)
    own_site.leaves_nothing()


def test_without_any_board_a_run_ends_and_goes_on_with_the_next_one(abandoned, all_there, read):
    site, run, before = abandoned
    runs = site.folder / "runs"
    run.finish().fails(
        3, f"no device '{TARGET}'", f"python -m ofa_tvm.devices emulate {TARGET.removesuffix('-emulated')}"
    )
    kept = len(read(runs))
    assert kept > before
    site.succeed("devices", "emulate", "rasp4")
    again = site.profile(runs).finish()
    assert again.code == 0, again.stderr
    all_there(runs)
    site.succeed("devices", "stop", TARGET)
    site.leaves_nothing()
