"""Who measures on this computer, and who waits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ofa_tvm.boards.check import check_devices
from ofa_tvm.measurement.turn import host_lock, turn_on_this_host
from ofa_tvm.targets import load_target

from ..processes import PATIENCE_S

WAITING = "waiting for another command that measures on this computer"
HOLDER = """
import sys
from ofa_tvm.measurement.turn import turn_on_this_host
with turn_on_this_host(print):
    print("has it", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFA_TVM_STATE", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[str]]:
    """Another process that has the turn, until its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "has it\n"
        yield process
        process.kill()


def test_another_command_is_waited_for_and_named(holder: subprocess.Popen[str]):
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        holder.stdin.close()

    with turn_on_this_host(say):
        assert holder.wait(PATIENCE_S) == 0
    assert said == [WAITING]


def test_a_look_at_this_computers_device_waits_for_what_is_measured_here(holder: subprocess.Popen[str]):
    said: list[str] = []

    def say(line: str) -> None:
        assert holder.poll() is None
        said.append(line)
        holder.stdin.close()

    (report,) = check_devices(load_target("local"), None, say)
    assert said == [WAITING]
    assert report.name.startswith("local")


def test_one_process_takes_its_turn_once():
    said: list[str] = []
    with turn_on_this_host(said.append):
        with turn_on_this_host(said.append):
            pass
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout.readline() == f"{WAITING}\n"
            other.kill()
    assert not said


def test_without_a_place_for_the_lock_a_command_goes_on(state: Path):
    state.write_text("a file is in the way")
    said: list[str] = []
    with turn_on_this_host(said.append):
        assert len(said) == 1
    assert str(host_lock()) in said[0]
