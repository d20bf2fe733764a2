"""Interrupted at any moment: exit code 130, one line, whole files, nothing left; and the same command goes on."""

from __future__ import annotations

import json
import shutil
import signal
import time

import pytest

PROFILE = ("--target", "null", "--runs", "runs", "--subnets", 12)


def whole_records(folder):
    """The file's whole lines, each of them a record."""
    path = folder / "runs/null/records.jsonl"
    whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return [json.loads(line) for line in whole]


@pytest.mark.slow
def test_an_interrupted_profile_goes_on_and_loses_nothing(commands, supernet, null_runs, records):
    """Interrupted at several moments, then killed at some: in the end as if it had never been."""
    kept = 0
    moments = {
        signal.SIGINT: [("profile scratch", 0.3), ("kernels: 0", 0.1), ("subnets: 0", 0.0)],
        signal.SIGKILL: [("kernels: ", 0.05), ("subnets: 0", 0.0)],
    }
    for number in moments:
        for line, delay_s in moments[number]:
            run = commands.start("profile", *PROFILE, "--supernet", supernet)
            run.wait_for(line)
            time.sleep(delay_s)
            run.process.send_signal(number)
            run.finish()
            if run.code == 130:
                run.fails(130, "the same command can be run again")
            elif run.code != 0:
                assert run.code == -signal.SIGKILL
            measured = len(whole_records(commands.folder))
            assert measured >= kept
            kept = measured
    commands.succeed("profile", *PROFILE, "--supernet", supernet)
    found, expected = records(commands.folder / "runs"), records(null_runs)
    assert sorted(map(json.dumps, found)) == sorted(map(json.dumps, expected))
    for name in ("booster.json", "metadata.json"):
        learnt = f"null/scratch/latency_predictor/{name}"
        assert (commands.folder / "runs" / learnt).read_bytes() == (null_runs / learnt).read_bytes()


DEPLOY_MOMENTS = [
    ("deploy scratch", 0.0, signal.SIGINT),
    ("search: 0", 0.1, signal.SIGTERM),
    ("deploy scratch", 0.7, signal.SIGINT),
    ("candidate r", 0.5, signal.SIGTERM),
    ("candidate r", 3.0, signal.SIGINT),
    ("tuning:", 0.2, signal.SIGTERM),
    ("measured 0", 0.02, signal.SIGTERM),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "delay_s", "number"), DEPLOY_MOMENTS, ids=[f"{line}-{delay_s}" for line, delay_s, _ in DEPLOY_MOMENTS]
)
def test_an_interrupted_deploy_leaves_a_whole_bundle_or_none(
    commands, supernet, null_runs, interrupt, line, delay_s, number
):
    runs = shutil.copytree(null_runs, commands.folder / "runs")
    arguments = ("--runs", runs, "--latency", 1000, "--tune-minutes", 0, "--out", "out/bundle")
    interrupt(commands.start("deploy", "--target", "null", "--supernet", supernet, *arguments), line, number, delay_s)
