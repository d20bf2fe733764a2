"""Kernels timed alone: ours, and ONNX Runtime's of the same layer, in turns with the machine's peak."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tvm
from layers import blocked_run, layer, layer_output, unpacked
from libraries import tuned_kernels
from peak import Peak
from system_worker import sample_ms

from ofa_tvm.compiler.identity import identity_of
from ofa_tvm.compiler.kernel_check import reference_inputs
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.linking import link_library
from ofa_tvm.compiler.schedules import Schedules
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.measurement.records import RecordStore
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import Target

_SAMPLE_MS = 1.0
_ROUGH_SAMPLES = 5


class KernelTimer:
    """One library of kernels on this host; a context that deletes it."""

    def __init__(self, target: Target, records: Path, kernels: list[Workload]) -> None:
        toolchain = Toolchain.of(target)
        store = RecordStore(records, identity_of(target, toolchain))
        self._machine = toolchain.machine
        self._kernels = kernels
        self._schedules = Schedules(store, toolchain.machine)
        self._tuned = tuned_kernels(store)
        self._folder = tempfile.TemporaryDirectory(prefix="ofa_tvm.")
        objects = KernelObjects(toolchain.tvm_target, toolchain.machine).get(kernels, self._schedules)
        library = Path(self._folder.name) / "kernels.so"
        link_library(library, objects, toolchain.cross_compiler)
        self._module = tvm.runtime.load_module(str(library))
        self._peak = Peak(1)

    def __enter__(self) -> KernelTimer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def rough_ms(self) -> dict[Workload, float]:
        """Of every kernel, to find the heaviest."""
        found = {}
        for workload in self._kernels:
            take = self._sampler(workload, self._arguments(workload))
            found[workload] = statistics.median(take() for _ in range(_ROUGH_SAMPLES))
        return found

    def compared(self, workload: Workload, repeats: int) -> dict[str, Any]:
        """Medians of one kernel and of ONNX Runtime's on the same operands, as plain JSON values.

        Raises
        ------
        NumericalMismatchError
            They compute different things.
        """
        arguments = self._arguments(workload)
        shapes = TEMPLATES[workload.kind].argument_shapes(workload, self._machine)
        operands = dict(zip(shapes, reference_inputs(workload, self._machine), strict=False))
        model = layer(workload, operands)
        self._module[workload.key](*arguments)
        output = arguments[len(operands)].numpy()
        check_outputs(workload.key, layer_output(workload, model, operands), unpacked(workload, output))
        theirs = blocked_run(model)
        runs = max(1, math.ceil(_SAMPLE_MS / sample_ms(theirs, 3)))
        takes = {
            "ms": self._sampler(workload, arguments),
            "onnxruntime_ms": lambda: sample_ms(theirs, runs),
            "peak_gflops": self._peak.sample_gflops,
        }
        samples: dict[str, list[float]] = {name: [] for name in takes}
        for _ in range(repeats):
            for name, take in takes.items():
                samples[name].append(take())
        medians = {name: statistics.median(taken) for name, taken in samples.items()}
        return {
            **medians,
            "peak_gflops": max(samples["peak_gflops"]),
            "gflops": 2 * workload.macs / medians["ms"] / 1e6,
            "onnxruntime_gflops": 2 * workload.macs / medians["onnxruntime_ms"] / 1e6,
            "ratio": medians["onnxruntime_ms"] / medians["ms"],
            "parameters": "tuned" if workload in self._tuned else "modelled",
        }

    def _arguments(self, workload: Workload) -> list[tvm.runtime.Tensor]:
        shapes = list(TEMPLATES[workload.kind].argument_shapes(workload, self._machine).values())
        inputs = reference_inputs(workload, self._machine)
        outputs = [np.zeros(shape, np.float32) for shape in shapes[len(inputs) :]]
        return [tvm.runtime.tensor(array) for array in (*inputs, *outputs)]

    def _sampler(self, workload: Workload, arguments: list[tvm.runtime.Tensor]) -> Callable[[], float]:
        evaluator = self._module.time_evaluator(workload.key, tvm.cpu(), number=10, repeat=1, min_repeat_ms=1)
        return lambda: float(evaluator(*arguments).results[0] * 1e3)
