from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ofa_tvm.compiler import kernel_bench, kernel_libraries
from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.kernel_check import reference_outputs
from ofa_tvm.compiler.kernel_libraries import KernelLibraries
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.open_bench import open_bench
from ofa_tvm.compiler.schedules import Schedules
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.errors import (
    CompileError,
    DeviceUnavailableError,
    MeasurementError,
    NumericalMismatchError,
    OutputError,
)
from ofa_tvm.files import output_errors
from ofa_tvm.measurement.device import Float32Array
from ofa_tvm.measurement.null_device import kernel_ms
from ofa_tvm.measurement.records import KernelRecord, read_records
from ofa_tvm.measurement.task_queue import CHUNK_JOBS
from ofa_tvm.measurement.turn import turn
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import load_target

from ..processes import PATIENCE_S

MakeBench = Callable[[Callable[[Workload, int], float]], KernelBench]

WORKLOADS = [Workload("pointwise", 16 * n, 16, 4, 4) for n in range(1, 21)]


def one_ms(_workload: Workload, _number: int) -> float:
    return 1.0


def defaults(bench: KernelBench, workloads: list[Workload] = WORKLOADS) -> dict[Workload, Parameters]:
    return {w: TEMPLATES[w.kind].default(w, bench.toolchain.machine) for w in workloads}


def kernel_records(path: Path) -> list[KernelRecord]:
    return [record for record in read_records(path) if isinstance(record, KernelRecord)]


def recorded(bench: KernelBench) -> Counter[Workload]:
    """Records in the file by workload."""
    return Counter(record.workload for record in kernel_records(bench.store.path))


def test_every_kernel_is_recorded_as_measured(tmp_path: Path) -> None:
    with open_bench(load_target("null"), tmp_path / "records.jsonl") as bench:
        kernels = defaults(bench)
        bench.measure(kernels)
    records = kernel_records(tmp_path / "records.jsonl")
    assert [record.workload for record in records] == WORKLOADS
    for record in records:
        assert record.measurement.median_ms == pytest.approx(kernel_ms(record.workload))
        assert record.parameters == kernels[record.workload].to_dict()


def test_a_measured_kernel_is_not_measured_again(make_bench: MakeBench) -> None:
    bench = make_bench(one_ms)
    bench.measure(defaults(bench, WORKLOADS[:5]))
    again = make_bench(one_ms)
    again.measure(defaults(again))
    assert again.timed == Counter(WORKLOADS[5:])
    assert recorded(again) == Counter(WORKLOADS)


def test_benches_for_the_same_records_take_turns(tmp_path: Path) -> None:
    records, lines = tmp_path / "records.jsonl", []
    waits, entered = threading.Event(), threading.Event()

    def say(line: str) -> None:
        lines.append(line)
        waits.set()

    def second() -> None:
        with open_bench(load_target("null"), records, say=say) as bench:
            entered.set()
            bench.measure(defaults(bench, WORKLOADS[:3]))

    with open_bench(load_target("null"), records, say=lines.append) as bench:
        with open_bench(load_target("null"), tmp_path / "another" / "records.jsonl", say=lines.append):
            assert not lines
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(PATIENCE_S)
        bench.measure(defaults(bench, WORKLOADS[:3]))
        assert not entered.is_set()
    thread.join(PATIENCE_S)
    assert entered.is_set()
    assert lines == [f"waiting for another command that measures for {records}"]
    assert recorded(bench) == Counter(WORKLOADS[:3])  # the second saw what the first had measured


def test_a_turn_ends_with_the_process(tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    source = f"""
import time
from pathlib import Path
from ofa_tvm.measurement.turn import turn
with turn(Path({str(records)!r}), print):
    print("has it", flush=True)
    time.sleep(1000)
"""
    command = [sys.executable, "-c", source]
    lines: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "has it\n"
        holder.kill()
        with turn(records, lines.append):
            assert len(lines) <= 1


@pytest.mark.parametrize(("device", "said"), [("null: another CPU", True), ("null: another CPU at host:9090", True),
                                               ("board at host:9090", False)])  # fmt: skip
def test_latencies_of_another_machine_are_named(tmp_path: Path, device: str, said: bool) -> None:
    records, lines = tmp_path / "records.jsonl", []
    with open_bench(load_target("null"), records, say=lines.append) as bench:
        bench.measure(defaults(bench, WORKLOADS[:2]))
    with open_bench(load_target("null"), records, say=lines.append):
        assert not lines
    records.write_text(records.read_text().replace("null: roofline cost model, nothing was measured", device))
    with open_bench(load_target("null"), records, say=lines.append):
        assert [("has latencies of another CPU," in line, "--runs" in line) for line in lines] == [(True, True)] * said


def test_other_parameters_are_another_kernel(make_bench: MakeBench) -> None:
    bench = make_bench(one_ms)
    for size in (1, 2):
        bench.measure({WORKLOADS[0]: Parameters(tile_pixels=size)})
    assert recorded(bench) == {WORKLOADS[0]: 2}
    assert not bench.measured(WORKLOADS[0], Parameters(tile_pixels=4))


def test_nothing_that_was_measured_is_lost_at_the_deadline(make_bench: MakeBench) -> None:
    def until_then(_workload: Workload, _number: int) -> float:
        time.sleep(max(0.0, deadline_s - time.monotonic()))
        return 1.0

    bench = make_bench(until_then)
    deadline_s = time.monotonic() + 2.0
    counts: list[int] = []
    bench.measure(defaults(bench), counts.append, deadline_s)
    assert recorded(bench) == bench.timed == Counter(WORKLOADS[:CHUNK_JOBS])
    assert sum(counts) == CHUNK_JOBS
    bench.measure(defaults(bench))
    assert recorded(bench) == Counter(WORKLOADS)


def test_time_that_building_used_up_is_up(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    deadline_s = time.monotonic() + 0.2

    def compile_slowly(*_kernels: object) -> dict[Workload, object]:
        time.sleep(0.2)
        return {}

    monkeypatch.setattr(KernelLibraries, "compile", compile_slowly)
    bench = make_bench(one_ms)
    bench.measure(defaults(bench), deadline_s=deadline_s)
    assert not bench.timed


def test_a_kernel_that_failed_twice_is_a_record_and_is_not_tried_again(make_bench: MakeBench) -> None:
    def fail(workload: Workload, _number: int) -> float:
        if workload == WORKLOADS[1]:
            raise MeasurementError("illegal instruction")
        return 1.0

    bench = make_bench(fail)
    bench.measure(defaults(bench, WORKLOADS[:3]))
    bench.measure(defaults(bench, WORKLOADS[:3]))
    outcomes = {record.workload: record for record in bench.store.of_type(KernelRecord)}
    assert outcomes[WORKLOADS[1]].error == "illegal instruction (on scripted); then illegal instruction (on scripted)"
    assert outcomes[WORKLOADS[1]].measurement is None
    assert outcomes[WORKLOADS[2]].measurement.median_ms == 1.0
    assert bench.timed[WORKLOADS[1]] == 2


def test_an_interrupt_loses_nothing_that_was_measured(make_bench: MakeBench) -> None:
    def interrupt(_count: int) -> None:
        raise KeyboardInterrupt

    bench = make_bench(one_ms)
    with pytest.raises(KeyboardInterrupt):
        bench.measure(defaults(bench), interrupt)
    assert recorded(bench) == Counter(WORKLOADS[:CHUNK_JOBS])


def test_a_device_that_computes_wrong_numbers_gets_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*problem: Any) -> tuple[Float32Array, ...]:
        return tuple(1.001 * output for output in reference_outputs(*problem))

    monkeypatch.setattr(kernel_bench, "reference_outputs", wrong)
    with open_bench(load_target("local"), tmp_path / "records.jsonl") as bench:
        with pytest.raises(NumericalMismatchError, match=r"reference kernel on local.*relative error"):
            bench.measure(defaults(bench, WORKLOADS[:3]))
        assert not recorded(bench)
    monkeypatch.undo()
    with open_bench(load_target("local"), tmp_path / "records.jsonl") as bench:
        bench.measure(defaults(bench, WORKLOADS[:3]))
        assert recorded(bench) == Counter(WORKLOADS[:3])


FAULTS = {
    "crash": "return *(volatile int *)0;",
    "hang": "for (volatile int forever = 1; forever;) {} return 0;",
    "lazy": "return 0;",
}


def faulty_kernel(folder: Path, workload: Workload, fault: str) -> bytes:
    """Object code of a kernel with one of `FAULTS`."""
    signature = "(void *self, const void *arguments, int count, void *result)"
    source, code = folder / f"{fault}.c", folder / f"{fault}.o"
    source.write_text(f"int __tvm_ffi_{workload.key}{signature} {{ {FAULTS[fault]} }}")
    subprocess.run(["gcc", "-c", "-fPIC", "-O1", "-o", code, source], check=True)
    return code.read_bytes()


def test_crash_hang_and_wrong_numbers_are_records_and_not_the_end(tmp_path: Path) -> None:
    target = load_target("local")
    quick = target.measurement.model_copy(
        update={"repeats": 3, "min_repeat_ms": 0.1, "timeout_s": 6.0, "max_drift": 1e6}
    )
    with open_bench(target.model_copy(update={"measurement": quick}), tmp_path / "records.jsonl") as bench:
        kernels = defaults(bench, WORKLOADS[:5])
        for workload, fault in zip(WORKLOADS, FAULTS, strict=False):
            bench.objects._objects[workload, kernels[workload]] = faulty_kernel(tmp_path, workload, fault)
        bench.screen(kernels)
        bench.measure(kernels)
    outcomes = {(r.workload, r.screening): r for r in kernel_records(tmp_path / "records.jsonl")}
    for screening in (True, False):
        assert "SIGSEGV" in outcomes[WORKLOADS[0], screening].error
        assert "no answer within 6 s" in outcomes[WORKLOADS[1], screening].error
        assert all(outcomes[workload, screening].measurement for workload in WORKLOADS[3:5])
    assert outcomes[WORKLOADS[2], True].measurement  # fast, for it does nothing
    assert "not finite" in outcomes[WORKLOADS[2], False].error  # the output is as it was: not numbers
    schedules = Schedules(bench.store, bench.toolchain.machine)
    assert set(schedules.latencies_ms) == set(WORKLOADS[3:5])


def test_a_kernel_that_cannot_be_built_is_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = KernelObjects.build

    def refuse(objects: KernelObjects, kernels: Iterable[tuple[Workload, Parameters]], may_kill: bool = False) -> None:
        wanted = list(kernels)
        if any(workload == WORKLOADS[1] for workload, _ in wanted):
            raise CompileError("TVM cannot build it")
        build(objects, wanted, may_kill)

    with open_bench(load_target("local"), tmp_path / "records.jsonl") as bench:
        monkeypatch.setattr(KernelObjects, "build", refuse)
        bench.measure(defaults(bench, WORKLOADS[:3]))
    assert recorded(bench) == Counter(WORKLOADS[:3])
    failed = [record for record in bench.store.of_type(KernelRecord) if record.measurement is None]
    assert [(record.workload, record.error) for record in failed] == [(WORKLOADS[1], "TVM cannot build it")]


@pytest.mark.parametrize("cpus", [{0}, {0, 1}])
def test_a_kernel_that_kills_the_compiler_is_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: set[int]
) -> None:
    compile_kernel, here = KernelObjects._compile, os.getpid()

    def die(objects: KernelObjects, kernel: tuple[Workload, Parameters]) -> bytes:
        if kernel[0] == WORKLOADS[1]:
            assert os.getpid() != here, "it would have killed the command"
            os.kill(os.getpid(), signal.SIGKILL)
        return compile_kernel(objects, kernel)

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cpus)
    with open_bench(load_target("local"), tmp_path / "records.jsonl") as bench:
        monkeypatch.setattr(KernelObjects, "_compile", die)
        bench.screen(defaults(bench, WORKLOADS[:3]))
    outcomes = {record.workload: record.error for record in bench.store.of_type(KernelRecord)}
    assert "SIGKILL" in str(outcomes[WORKLOADS[1]])
    assert (outcomes[WORKLOADS[0]], outcomes[WORKLOADS[2]]) == (None, None)


def test_a_library_that_does_not_work_is_no_fault_of_its_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a board whose disk has room for the reference kernel, and not for thirty others."""
    with open_bench(load_target("local"), tmp_path / "records.jsonl") as bench:
        with monkeypatch.context() as patch:
            patch.setattr(kernel_libraries, "link_library", lambda path, *_rest: path.write_bytes(b"half a library"))
            with pytest.raises(MeasurementError, match=r"no library of 3 kernels works on local: .*disk") as caught:
                bench.screen(defaults(bench, WORKLOADS[:3]))
            assert "\n" not in str(caught.value)
        assert not recorded(bench)
        bench.screen(defaults(bench, WORKLOADS[:3]))
        assert recorded(bench) == Counter(WORKLOADS[:3])


def test_a_kernel_that_fails_alone_in_its_library_is_a_record(tmp_path: Path) -> None:
    with open_bench(load_target("local"), tmp_path / "records.jsonl") as bench:
        kernels = defaults(bench, WORKLOADS[:1])
        bench.objects._objects[WORKLOADS[0], kernels[WORKLOADS[0]]] = faulty_kernel(tmp_path, WORKLOADS[0], "crash")
        bench.screen(kernels)
        (record,) = bench.store.of_type(KernelRecord)
    assert "SIGSEGV" in str(record.error)


def test_libraries_go_when_they_were_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_bench(load_target("local"), tmp_path / "records.jsonl") as bench:
        bench.screen(defaults(bench, WORKLOADS[:3]))
        bench.measure(defaults(bench, WORKLOADS[:3]))
        assert list(bench.folder.iterdir()) == [bench.reference.library]

        def refuse(path: Path, *_rest: object) -> None:
            with output_errors(path):
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(kernel_libraries, "link_library", refuse)
        with pytest.raises(OutputError, match=r"No space left on device; .*TMPDIR"):
            bench.screen(defaults(bench, WORKLOADS[:3]))


def test_weights_that_matter_are_cold_and_a_sample_is_one_run(tmp_path: Path) -> None:
    heavy, light = Workload("pointwise", 512, 512, 1, 1), Workload("pointwise", 16, 16, 64, 64)
    with open_bench(load_target("local"), tmp_path / "records.jsonl") as bench:
        assert bench.rotations.of(light) is None
        rotation = bench.rotations.of(heavy)
        assert rotation.copies * 512 * 512 * 4 >= 2 << 20
        bench.measure(defaults(bench, [heavy, light]))
        cold, hot = bench.store.of_type(KernelRecord)
        assert (cold.workload, cold.cold_weights, hot.workload, hot.cold_weights) == (heavy, True, light, False)
        assert bench.measured(heavy, defaults(bench, [heavy])[heavy])
    assert 0 < cold.measurement.median_ms < 5  # all copies together would take about as long as `copies` runs


def test_a_lost_device_keeps_the_chunks_before(make_bench: MakeBench) -> None:
    def lose(workload: Workload, _number: int) -> float:
        if workload == WORKLOADS[-1]:
            raise DeviceUnavailableError("gone")
        return 1.0

    bench = make_bench(lose)
    with pytest.raises(DeviceUnavailableError):
        bench.measure(defaults(bench))
    assert recorded(bench) == Counter(WORKLOADS[:CHUNK_JOBS])
    again = make_bench(one_ms)
    again.measure(defaults(again))
    assert recorded(again) == Counter(WORKLOADS)


def test_a_torn_record_is_measured_again(make_bench: MakeBench) -> None:
    bench = make_bench(one_ms)
    bench.measure(defaults(bench, WORKLOADS[:3]))
    content = bench.store.path.read_bytes()
    bench.store.path.write_bytes(content[:-40])
    again = make_bench(one_ms)
    again.measure(defaults(again, WORKLOADS[:3]))
    assert again.timed == Counter(WORKLOADS[2:3])
    assert recorded(again) == Counter(WORKLOADS[:3])
