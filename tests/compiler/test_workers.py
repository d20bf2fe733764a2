from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys

import psutil
import pytest

from ofa_tvm.compiler import workers
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.compiler.workers import map_in_workers
from ofa_tvm.errors import CompileError
from ofa_tvm.space.workload import Workload

from ..processes import PATIENCE_S, await_true, below, lives

SLEEPERS = """
import os, time
from ofa_tvm.compiler import workers
from ofa_tvm.compiler.workers import map_in_workers
workers.usable_cpus = lambda: 2

def sleep(item):
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(1000)

map_in_workers(sleep, [1, 2], str)
"""


@pytest.fixture(autouse=True)
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "usable_cpus", lambda: 2)


@pytest.fixture(autouse=True)
def nothing_left():
    before = below()
    yield
    assert below() - before == set()


def test_results_are_in_order() -> None:
    here = os.getpid()
    results = map_in_workers(lambda item: (item * item, os.getpid()), range(50), str)
    assert [square for square, _ in results] == [item * item for item in range(50)]
    pids = {pid for _, pid in results}
    assert len(pids) <= 2
    assert here not in pids


def test_workers_see_what_their_parent_had_loaded() -> None:
    inherited = {"anything": object()}
    assert map_in_workers(lambda key: key in inherited, ["anything", "else"], str) == [True, False]


@pytest.mark.parametrize("items", [[], [7]])
def test_what_is_not_worth_a_fork_happens_here(items: list[int]) -> None:
    assert map_in_workers(lambda _: os.getpid(), items, str) == [os.getpid()] * len(items)


def test_one_cpu_forks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "usable_cpus", lambda: 1)
    assert map_in_workers(lambda _: os.getpid(), [1, 2, 3], str) == [os.getpid()] * 3


@pytest.mark.parametrize("cpus", [1, 2])
def test_what_may_kill_gets_a_worker_though_it_is_alone(monkeypatch: pytest.MonkeyPatch, cpus: int) -> None:
    monkeypatch.setattr(workers, "usable_cpus", lambda: cpus)
    (pid,) = map_in_workers(lambda _: os.getpid(), [7], str, may_kill=True)
    assert pid != os.getpid()
    assert map_in_workers(lambda _: os.getpid(), [], str, may_kill=True) == []
    with pytest.raises(CompileError, match=r"built [12] died"):
        map_in_workers(lambda _: os.kill(os.getpid(), signal.SIGKILL), [1, 2], str, may_kill=True)


def test_a_worker_forks_none() -> None:
    def nested(_item: int) -> bool:
        return map_in_workers(lambda _: os.getpid(), [1, 2], str) == [os.getpid()] * 2

    assert map_in_workers(nested, [1, 2], str) == [True, True]


def test_an_error_comes_through_with_its_origin() -> None:
    def fail(item: int) -> int:
        if item == 3:
            raise CompileError(f"no code for {item}")
        return item

    with pytest.raises(CompileError) as caught:
        map_in_workers(fail, range(10), str)
    assert str(caught.value) == "no code for 3"
    assert "in fail" in caught.value.__notes__[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_is_an_error_that_names_the_item(number: signal.Signals) -> None:
    def die(item: int) -> int:
        faulthandler.disable()
        if item == 2:
            os.kill(os.getpid(), number)
        return item

    with pytest.raises(CompileError, match=f"built kernel 2 died \\({number.name}\\)"):
        map_in_workers(die, range(4), lambda item: f"kernel {item}")


def test_a_worker_that_leaves_is_an_error() -> None:
    with pytest.raises(CompileError, match="exit code 3"):
        map_in_workers(lambda _: os._exit(3), [1, 2], str)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_never_outlive_their_parent(number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", SLEEPERS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    with parent:
        try:
            workers = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
            if number == signal.SIGINT:
                os.killpg(parent.pid, number)  # as a terminal does
            else:
                parent.send_signal(number)
            assert parent.wait(PATIENCE_S) == -number
        finally:
            parent.kill()
    await_true(lambda: not any(map(lives, workers)))


def test_kernels_built_at_once_are_those_built_one_by_one(
    host, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    workloads = [
        Workload("conv", 3, 16, 16, 16, 3, 2, "h_swish"),
        Workload("pointwise", 24, 40, 5, 5, residual=True),
        Workload("depthwise", 24, 24, 9, 9, 5, 2, "relu"),
        Workload("pool", 40, 40, 5, 5),
        Workload("scale", 40, 40, 5, 5),
    ]

    def default(workload: Workload) -> Parameters:
        return TEMPLATES[workload.kind].default(workload, machine)

    at_once = KernelObjects(host, machine).get(workloads, default)
    monkeypatch.setattr(workers, "usable_cpus", lambda: 1)
    one_by_one = KernelObjects(host, machine).get(workloads, default)
    assert at_once == one_by_one
    assert list(at_once) == [workload.key for workload in workloads]


def test_a_kernel_that_cannot_be_built_is_named(machine: Machine, host) -> None:
    impossible = Workload("pool", 16, 16, 4, 4, activation="relu")
    with pytest.raises(CompileError, match="pool_16x16_4x4"):
        KernelObjects(host, machine).build([(impossible, Parameters()), (Workload("pool", 16, 16, 4, 4), Parameters())])
