"""The train command, in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from ofa_tvm.interruption import INTERRUPTED
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.metadata import find_supernet

from .processes import await_true

SMALL = ("--scale", "0.002", "--width", "0.25", "--resolutions", "32:36", "--name", "small")
STEPS = 19
BASE_STEPS = 8


@pytest.fixture
def start():
    """Starts the command; whatever of it still runs at the end is killed."""
    processes = []

    def start(*arguments):
        command = [sys.executable, "-m", "ofa_tvm.train", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        )
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(path, process):
    await_true(lambda: path.exists() or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1]


def test_interrupted_then_resumed(start, tmp_path):
    out = tmp_path / "run"
    first = start(*SMALL, "--out", out)
    wait_for(out / "state.safetensors", first)
    first.send_signal(signal.SIGINT)
    stdout, stderr = first.communicate()
    assert first.returncode == 130, stderr
    assert stdout == ""
    assert stderr.splitlines()[-1] == INTERRUPTED
    assert stderr.count("interrupted") == 1
    assert "Traceback" not in stderr
    assert {path.name for path in out.iterdir()} <= {"state.safetensors", "teacher.safetensors", "log.jsonl"}

    second = start(*SMALL, "--out", out, "--json")
    stdout, stderr = second.communicate()
    assert second.returncode == 0, stderr
    done = next(line for line in stderr.splitlines() if line.startswith("training: "))
    assert BASE_STEPS <= int(done.removeprefix("training: ").split("/")[0]) < STEPS
    assert f"training: {STEPS}/{STEPS}" in stderr

    result = json.loads(stdout)
    folder = find_supernet(result["supernet"])
    assert folder.metadata.name == "small"
    assert folder.metadata.weights_sha256 == result["weights_sha256"]
    assert folder.metadata.space.resolutions == (32, 36)
    assert sum(phase.steps for phase in folder.metadata.training.phases) == STEPS
    assert "--scale 0.002" in folder.metadata.training.command
    load_supernet(folder)


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(start, tmp_path):
    process = start(*SMALL, "--out", tmp_path / "run", "--dry-run")
    stdout, stderr = process.communicate()
    assert process.returncode == 0
    assert f"base: {BASE_STEPS} steps" in stderr
    assert stdout == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--resolutions", "64:32"), "the first must be positive and not above the last"),
        (("--resolutions", "large"), "give the first and the last, as in 32:64"),
        (("--resolutions", "30:64"), "resolution 30"),
        (("--scale", "0"), "0 is not a positive number"),
        (("--name", "../../x"), "--name '../../x' is no name"),
        (("--widht", "1"), "--width"),
    ],
)
def test_a_wrong_option_is_one_line(start, tmp_path, arguments, message):
    process = start("--out", tmp_path / "run", *arguments)
    _, stderr = process.communicate()
    assert process.returncode == 2
    assert message in stderr
    assert len(stderr.splitlines()) == 1
