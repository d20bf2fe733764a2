from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from tvm import relax

from ofa_tvm.compiler.general_search import builder
from ofa_tvm.compiler.general_search.apply import apply
from ofa_tvm.compiler.general_search.database import RECORDS, TuningDatabase
from ofa_tvm.compiler.general_search.search import search_leftovers
from ofa_tvm.compiler.general_search.subnet import search_subnet
from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.errors import DeviceUnavailableError
from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.lowering.outputs import onnx_logits
from ofa_tvm.lowering.relax_import import import_onnx
from ofa_tvm.measurement.farm import Farm

from .conftest import run

FUNCTIONS = 3
FAILED_S = 1e9
CRASH = """
int __tvm_ffi_candidate_1(void *self, const void *arguments, int count, void *result) {
    return *(volatile int *)0;
}
"""


def run_secs(folder: Path) -> list[float]:
    return [float(record.run_secs[0]) for record in TuningDatabase(folder).records.get_all_tuning_records()]


@pytest.fixture
def crashing_code(tmp_path: Path) -> bytes:
    """Object code of a ``candidate_1`` that kills the process which calls it."""
    source, code = tmp_path / "crash.c", tmp_path / "crash.o"
    source.write_text(CRASH)
    subprocess.run(["gcc", "-c", "-fPIC", "-O1", "-o", code, source], check=True, timeout=60)
    return code.read_bytes()


@pytest.mark.slow
def test_what_was_found_is_compiled_and_found_again(
    bench: KernelBench,
    mod: tvm.IRModule,
    model: onnx.ModelProto,
    image: np.ndarray,
    crashing_code: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    object_code = builder._object_code
    monkeypatch.setattr(
        builder, "_object_code", lambda c: crashing_code if c.symbol == "candidate_1" else object_code(c)
    )
    folder, lines = bench.searched, []
    report = search_leftovers(import_onnx(model), bench, trials=3, say=lines.append)
    assert (report.functions, report.known, report.trials) == (FUNCTIONS, 0, 3 * FUNCTIONS)
    assert len(report.latencies_ms) == len(lines) == FUNCTIONS
    assert sum(seconds > FAILED_S for seconds in run_secs(folder)) == FUNCTIONS  # one crashed of each
    assert len(run_secs(folder)) == 3 * FUNCTIONS
    again = search_leftovers(import_onnx(model), bench, trials=3)
    assert (again.known, again.trials, again.latencies_ms) == (FUNCTIONS, 0, report.latencies_ms)
    target = bench.toolchain.tvm_target
    check_outputs("found", onnx_logits(model, image), run(apply(mod, target, folder), target, image))
    assert "prepacked" in str(apply(mod, target, folder))
    assert "prepacked" not in str(apply(mod, target, tmp_path / "nowhere"))


@pytest.mark.slow
def test_a_whole_subnet_is_searched_for_so_long(
    bench: KernelBench, model: onnx.ModelProto, image: np.ndarray, tmp_path: Path
) -> None:
    library, report = search_subnet(model, bench, tmp_path, minutes=0.06)
    assert report.trials > 0
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(library)), tvm.cpu())
    output = machine["main"](tvm.runtime.tensor(image)).numpy()
    check_outputs("subnet", onnx_logits(model, image), output)


def test_no_time_is_no_trial(bench: KernelBench, model: onnx.ModelProto) -> None:
    report = search_leftovers(import_onnx(model), bench, trials=4, minutes=-1)
    assert (report.trials, report.latencies_ms) == (0, {})
    assert not TuningDatabase(bench.searched).has_ended(tvm.IRModule(), 0)
    assert (bench.searched / RECORDS).read_text() == ""


@pytest.mark.parametrize("error", [DeviceUnavailableError("gone"), KeyboardInterrupt()])
def test_what_ends_a_search_comes_out_as_it_is(
    bench: KernelBench,
    model: onnx.ModelProto,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    monkeypatch.setattr(Farm, "measure_many", fail)
    with pytest.raises(type(error)) as caught:
        search_leftovers(import_onnx(model), bench, trials=4)
    assert caught.value is error
