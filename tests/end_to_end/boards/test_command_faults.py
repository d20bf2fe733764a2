"""Whatever breaks in what is measured, in the command that measures, or in one device of many: as for boards."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tvm_ffi

from ofa_tvm.errors import NumericalMismatchError
from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.measurement.devices import open_farm
from ofa_tvm.measurement.job import KernelJob
from ofa_tvm.measurement.protocol import Measurement, MeasurementFailure
from ofa_tvm.profiling.space_profiler import kernels_to_profile
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import load_target

from ...processes import listening, send
from .conftest import assert_left_in_peace

TARGET = "rasp4-emulated"
REPOSITORY = Path(__file__).parents[3]
KILLS = 20
FOUR = """\
description: Four RPC servers on this host
tvm_target: host
device: {kind: rpc, key: four}
measurement: {warmup_runs: 1, repeats: 5, min_repeat_ms: 10, cooldown_ms: 0, max_drift: 1000, timeout_s: 20}
"""
KERNELS = """
#include <dlpack/dlpack.h>
#include <tvm/ffi/c_api.h>
static DLTensor *tensor(const TVMFFIAny *argument) {
    return argument->type_index == kTVMFFITensor ? (DLTensor *)((char *)argument->v_obj + sizeof(TVMFFIObject))
                                                 : (DLTensor *)argument->v_ptr;
}
static int multiply(const TVMFFIAny *arguments, float factor) {
    DLTensor *from = tensor(arguments), *to = tensor(arguments + 1);
    for (int64_t i = 0; i < from->shape[0]; i++) ((float *)to->data)[i] = factor * ((float *)from->data)[i];
    return 0;
}
int __tvm_ffi_double(void *self, const TVMFFIAny *arguments, int count, TVMFFIAny *result) {
    return multiply(arguments, 2);
}
int __tvm_ffi_wrong(void *self, const TVMFFIAny *arguments, int count, TVMFFIAny *result) {
    return multiply(arguments, 2.001f);
}
int __tvm_ffi_crash(void *self, const TVMFFIAny *arguments, int count, TVMFFIAny *result) {
    return *(volatile int *)0;
}
int __tvm_ffi_hang(void *self, const TVMFFIAny *arguments, int count, TVMFFIAny *result) {
    for (volatile int forever = 1; forever;) {}
    return 0;
}
"""

pytestmark = pytest.mark.slow


def test_kernels_that_crash_hang_or_compute_wrong_numbers(site, tmp_path):
    path = tmp_path / "kernels.so"
    (tmp_path / "kernels.c").write_text(KERNELS)
    compiler = ["aarch64-linux-gnu-gcc", "-shared", "-fPIC", "-O1", "-isystem", tvm_ffi.libinfo.find_include_path()]
    subprocess.run([*compiler, "-o", path, tmp_path / "kernels.c"], check=True)

    def job(function):
        return KernelJob(path, function, ((64,), (64,)), Workload("scale", 1, 1, 8, 8))

    target = load_target(TARGET)
    protocol = target.measurement.model_copy(update={"timeout_s": 6.0})
    target = target.model_copy(update={"measurement": protocol})
    numbers = np.arange(64, dtype=np.float32)
    with open_farm(target, str(site.tracker)) as farm:
        jobs = [job(function) for function in ("double", "crash", "double", "hang", "double")]
        outcomes = dict(farm.measure_many(jobs, job("double"), protocol))
        assert [type(outcomes[index]) for index in (0, 2, 4)] == 3 * [Measurement]
        assert isinstance(outcomes[1], MeasurementFailure)
        assert "SIGSEGV" in outcomes[1].error
        assert isinstance(outcomes[3], MeasurementFailure)
        assert "no answer within 6 s" in outcomes[3].error
        assert check_outputs("double", 2 * numbers, *farm.run_kernel(job("double"), [numbers])) < 1e-6
        with pytest.raises(NumericalMismatchError):
            check_outputs("double", 2 * numbers, *farm.run_kernel(job("wrong"), [numbers]))
    assert_left_in_peace(site)


def test_a_command_killed_at_random_moments_measures_everything_once(
    site, unfinished, all_there, read, keys, eventually
):
    runs = unfinished(100)
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    for _ in range(KILLS):
        before = keys(read(runs))
        run = site.profile(runs)
        time.sleep(generator.uniform(0, 5))
        run.process.kill()
        run.finish()
        after = keys(read(runs))
        assert after[: len(before)] == before
        eventually(lambda run=run: not run.processes())
    eventually(lambda: site.free() == 1)
    run = site.profile(runs).finish()
    assert run.code == 0, run.stderr
    run.leaves_nothing()
    all_there(runs)
    assert_left_in_peace(site)


def test_of_four_devices_one_dies_and_one_is_slow(plain_site, space, read, keys, eventually):
    (plain_site.folder / "four.yaml").write_text(FOUR)
    line = [sys.executable, REPOSITORY / "rpc/server.py", "--tracker", plain_site.tracker, "--key", "four"]
    servers = []
    for number in range(1, 5):  # one after the other, so that the last one gets its name from its address
        servers.append(plain_site.spawn(line))
        eventually(lambda number=number: plain_site.free("four") == number)
    ((_, slow_port),) = listening(psutil.Process(servers[3].pid))
    slow_at = f"127.0.0.1:{slow_port}"
    with slowed(servers[3]):
        run = plain_site.profile(plain_site.folder / "runs", target="four.yaml")
        eventually(lambda: len(read(plain_site.folder / "runs", "four")) > 20)
        servers[1].kill()
        run.finish()
    assert run.code == 0, run.stderr
    run.leaves_nothing()
    records = read(plain_site.folder / "runs", "four")
    to_measure = len(kernels_to_profile(space, (24,))) + 10
    assert len(set(keys(records))) == len(records) == run.result["kernels"] + run.result["subnets"] == to_measure
    assert all(record["outcome"]["median_ms"] > 0 for record in records)
    slower = dict(re.findall(r"unequal devices: .* ms on (.*), (\d+)% more than", run.stderr))
    # Whichever came first bears no address.
    came_first = slow_at not in run.result["device"]
    named = [name for name in slower if name.endswith(f" at {slow_at}") or (came_first and " at " not in name)]
    assert named, f"{slow_at} is not among {slower}: {run.stderr}"
    assert int(slower[named[0]]) >= 20


@contextlib.contextmanager
def slowed(server):
    """Let a server's sessions run for a small part of the time, to be noticed where all devices are slow at times."""
    ended = threading.Event()

    def throttle():
        sessions = []
        while not ended.is_set():
            send(sessions, signal.SIGSTOP)
            sessions = psutil.Process(server.pid).children()  # which takes longer than they run
            send(sessions, signal.SIGSTOP)
            ended.wait(0.009)
            send(sessions, signal.SIGCONT)
            ended.wait(0.003)

    thread = threading.Thread(target=throttle)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
