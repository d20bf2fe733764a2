"""The main job on this host's CPU, through a tracker and an RPC server on loopback."""

from __future__ import annotations

import contextlib
import json
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..processes import PATIENCE_S, await_true, listening

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def options(supernet, runs):
    return "--target", "local", "--supernet", supernet, "--runs", runs


@pytest.fixture(scope="session")
def profiled(supernet, new_commands):
    """The ``--runs`` folder and the result of a profile on local, and where its processes listened meanwhile."""
    commands = new_commands("local")
    run = commands.start("profile", *options(supernet, "runs"), "--resolutions", 24, "--subnets", 10, "--json")
    addresses = set()
    while run.process.poll() is None:
        addresses |= {address for process in run.processes() for address, _ in listening(process)}
        time.sleep(0.2)
    run.finish()
    assert run.code == 0, run.stderr
    run.leaves_nothing()
    return commands.folder / "runs", run.result, addresses


def test_a_profile_measures_through_rpc_on_loopback_alone(profiled, records):
    runs, result, addresses = profiled
    assert addresses == {"127.0.0.1"}
    assert (result["target"], result["emulated"], result["kernels_failed"]) == ("local", False, 0)
    assert 0 < result["fastest_ms"] <= result["slowest_ms"]
    measured = records(runs)
    assert len(measured) == result["kernels"] + result["subnets"]
    assert all(record["outcome"]["median_ms"] > 0 and not record["outcome"]["emulated"] for record in measured)


def test_each_budget_is_met_by_measurement(commands, supernet, profiled):
    """A generous one is met by the largest subnet; a tight one, with the smallest to fall back to, by a fast one."""
    runs = shutil.copytree(profiled[0], commands.folder / "runs")
    search = commands.succeed("search", *options(supernet, runs), "--json").result
    fastest_ms = search["front"][0]["predicted_latency_ms"]
    slowest_ms = search["front"][-1]["predicted_latency_ms"]
    # Latencies measured on a busy host vary, so that even the tight budget leaves room.
    results = []
    for name, budget_ms in (("generous", 50 * slowest_ms), ("tight", 4 * fastest_ms)):
        arguments = ("--latency", budget_ms, "--tune-minutes", 0, "--max-attempts", 2, "--out", name, "--json")
        result = commands.succeed("deploy", *options(supernet, runs), *arguments).result
        assert result["measured_ms"] <= budget_ms
        manifest = json.loads((commands.folder / name / "manifest.json").read_text())
        assert manifest["latency"]["measured"]["median_ms"] == result["measured_ms"]
        assert commands.succeed("bundle", "verify", name, "--json").result["emulated"] is False
        assert commands.succeed("bundle", "run", name, f"{name}/sample_image.png").stdout
        results.append(result)
    assert results[0]["architecture"] == search["front"][-1]["architecture"]


def test_a_tracker_that_was_started_is_used(commands, supernet, profiled):
    """By ``--tracker`` and by OFA_TVM_TRACKER: the command takes the device there and starts none of its own."""
    runs = shutil.copytree(profiled[0], commands.folder / "runs")
    with started([REPOSITORY / "scripts/start_rpc_tracker.sh", "--port", "0"]) as tracker:
        address = re.search(r"127\.0\.0\.1:\d+", tracker.stderr.readline())[0]
        server_line = [sys.executable, REPOSITORY / "rpc/server.py", "--tracker", address, "--key", "local"]
        with started(server_line) as server:
            assert "registered at" in server.stderr.readline()
            profile = ("profile", *options(supernet, runs), "--resolutions", 24, "--subnets", 10, "--json")
            by_option = commands.succeed(*profile, "--tracker", address)
            by_variable = commands.succeed(*profile, OFA_TVM_TRACKER=address)
            for run in (by_option, by_variable):
                assert run.result["device"].startswith(f"local {platform.node()}")
            assert server.poll() is None
        tracker.send_signal(signal.SIGINT)
        assert tracker.wait(PATIENCE_S) == 0
        assert "RPC tracker stopped" in tracker.stderr.read()
    commands.run(*profile, "--tracker", address).fails(3, f"no RPC tracker answers at {address}")


@contextlib.contextmanager
def started(line):
    process = subprocess.Popen(list(map(str, line)), stderr=subprocess.PIPE, text=True)
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("line", "delay_s", "number"),
    [
        ("candidate r", 3.0, signal.SIGTERM),
        ("tuning:", 0.5, signal.SIGINT),
        ("measured 0", 0.05, signal.SIGTERM),
    ],
)
def test_an_interrupted_deploy_stops_its_tracker_and_server(
    commands, supernet, profiled, interrupt, line, delay_s, number
):
    runs = shutil.copytree(profiled[0], commands.folder / "runs")
    arguments = ("--latency", 1000, "--tune-minutes", 0, "--out", "out/bundle")
    interrupt(commands.start("deploy", *options(supernet, runs), *arguments), line, number, delay_s)


def test_a_command_that_is_killed_leaves_no_server_behind(commands, supernet):
    run = commands.start("profile", *options(supernet, "runs"), "--resolutions", 24, "--subnets", 10)
    run.wait_for("kernels: ")
    await_true(lambda: len(run.processes()) >= 3)
    run.process.kill()
    run.finish()
    await_true(lambda: not run.processes())
