"""Tuning a space as a user does it: to the end, in pieces, on two devices, for spaces without a supernet."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ofa_tvm.measurement.turn import turn

REPOSITORY = Path(__file__).parents[2]


def options(supernet, target="null", resolutions="24"):
    return "--target", target, "--supernet", supernet, "--resolutions", resolutions, "--runs", "runs"


def test_a_tuned_space_has_nothing_left_to_do(commands, supernet, records):
    run = commands.succeed("tune", *options(supernet), "--json")
    status = run.result["all"]
    assert status["kernels"] == status["complete"] > 30
    assert (status["open"], status["failed"], status["covered"]) == (0, 0, 1.0)
    assert run.result["reference"]["kernels"] == run.result["reference"]["kernels_known"]
    assert sum(kind["kernels"] for kind in run.result["kinds"].values()) == status["kernels"]
    before = records(commands.folder / "runs")
    assert {record["screening"] for record in before} == {True, False}
    again = commands.succeed("tune", *options(supernet), "--json")
    assert again.result == run.result
    assert records(commands.folder / "runs") == before
    looked = commands.succeed("tune", *options(supernet), "--status", "--json")
    assert looked.result == run.result
    assert looked.stderr == ""


def test_the_next_resolution_needs_fewer_candidates(commands, supernet):
    first = commands.succeed("tune", *options(supernet), "--json").result["all"]
    both = commands.succeed("tune", *options(supernet, resolutions="24,32"), "--json").result
    assert both["all"]["complete"] == both["all"]["kernels"] > first["kernels"]
    added = both["all"]["kernels"] - first["kernels"]
    assert (both["all"]["known"] - first["known"]) / added < first["known"] / first["kernels"]
    thorough = commands.succeed("tune", *options(supernet, resolutions="24,32"), "--exhaustive", "--json").result
    assert thorough["all"]["known"] > both["all"]["known"]


def test_the_status_is_a_table_and_needs_no_device(commands, supernet):
    run = commands.succeed("tune", *options(supernet, target="rasp4", resolutions="24,32"), "--status")
    assert "Kernels of scratch on rasp4; the largest subnet at 32 px" in run.stdout
    for row in ("all", "depthwise", "pointwise", "24 px", "32 px"):
        assert re.search(rf"│ {row}\s+│", run.stdout)
    assert not (commands.folder / "runs").exists()


def test_a_space_by_name_needs_no_supernet(commands):
    space = ("--target", "null", "--space", "mobilenet_v3_w1.2", "--resolutions", "128", "--runs", "runs")
    run = commands.succeed("tune", *space, "--candidates", 2, "--minutes", 0.15, "--json")
    assert run.result["space"] == "mobilenet_v3_w1.2"
    assert run.result["all"]["known"] > 0


def test_a_dry_run_and_a_mistake_write_nothing(commands, supernet):
    run = commands.succeed("tune", *options(supernet), "--dry-run")
    assert re.fullmatch(r"tune scratch on null: \d+ kernels of 1 resolutions, until all are searched\n", run.stderr)
    space = ("--target", "null", "--space", "mobilenet_v3_w1.1")
    commands.run("tune", *space).fails(2, "no search space 'mobilenet_v3_w1.1', did you mean 'mobilenet_v3_w1.")
    commands.run("tune", *space, "--supernet", supernet).fails(2, "leave one of them out")
    commands.run("tune", "--target", "null", "--supernet", supernet, "--resolutions", 25).fails(2, "24, 32")
    commands.run("tune", *options(supernet), "--minutes", -1).fails(2, "-1 is not a positive number")
    assert not (commands.folder / "runs").exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_interrupted_it_goes_on_where_it_stopped(commands, supernet, records, number):
    run = commands.start("tune", *options(supernet))
    run.wait_for("kernels: 0/")
    run.process.send_signal(number)
    run.finish()
    assert run.code in (0, 130, -signal.SIGKILL)
    kept = records(commands.folder / "runs") if (commands.folder / "runs").exists() else []
    result = commands.succeed("tune", *options(supernet), "--json").result
    assert result["all"]["complete"] == result["all"]["kernels"]
    found = records(commands.folder / "runs")
    assert found[: len(kept)] == kept
    tried = [json.dumps([r["workload"], r["parameters"], r["screening"]]) for r in found]
    assert len(tried) == len(set(tried))  # nothing was measured twice


def test_to_wait_for_another_command_takes_no_time_of_tuning(commands, supernet):
    with turn(commands.folder / "runs/null/records.jsonl", print):
        run = commands.start("tune", *options(supernet), "--minutes", 0.1, "--json")
        run.wait_for("waiting for another command that measures for runs/null/records.jsonl")
        time.sleep(7)
    assert run.finish().result["all"]["known"] > 0


@pytest.mark.slow
def test_two_devices_share_the_work(commands, supernet, records):
    target = (REPOSITORY / "targets/local.yaml").read_text().replace("max_drift: 0.1", "max_drift: 1000")
    assert "1000" in target  # beside other tests' work a device drifts, and would be set aside
    (commands.folder / "steady.yaml").write_text(target)
    with started([REPOSITORY / "scripts/start_rpc_tracker.sh", "--port", "0"]) as tracker:
        address = re.search(r"127\.0\.0\.1:\d+", tracker.stderr.readline())[0]
        line = [sys.executable, REPOSITORY / "rpc/server.py", "--tracker", address, "--key", "local"]
        with started(line) as first, started(line) as second:
            for server in (first, second):
                assert "registered at" in server.stderr.readline()
            space = (*options(supernet, target="steady.yaml"), "--candidates", 3, "--minutes", 4, "--json")
            run = commands.succeed("tune", *space, "--tracker", address)
    assert run.result["all"]["complete"] > 0
    assert run.result["all"]["failed"] == 0
    measured = records(commands.folder / "runs")
    assert len({record["outcome"]["device"] for record in measured}) == 2
    assert {record["cold_weights"] for record in measured} == {True, False}


@contextlib.contextmanager
def started(line):
    with subprocess.Popen(list(map(str, line)), stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()
