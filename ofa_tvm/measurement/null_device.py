"""The null device: no hardware; latencies by a roofline, the same on every machine and at every call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm.runtime.vm import VirtualMachine
from typing_extensions import override

from ofa_tvm.errors import MeasurementError
from ofa_tvm.measurement.device import Device, check_shapes
from ofa_tvm.measurement.job import Float32Array, Job, KernelJob, SubnetJob
from ofa_tvm.measurement.rpc_session import first_tensor, one_line
from ofa_tvm.space.workload import Kind, Workload
from ofa_tvm.targets import MeasurementProtocol, Target

# A small invented core, of the order of a Cortex-A72. Depthwise convolutions reuse less, so they peak lower.
PEAK_MACS_PER_MS: dict[Kind, float] = {
    "conv": 5e6,
    "pointwise": 6e6,
    "depthwise": 3e6,
    "pool": 2e6,
    "scale": 2e6,
}
BANDWIDTH_BYTES_PER_MS = 4e6
KERNEL_OVERHEAD_MS = 0.002
SUBNET_OVERHEAD_MS = 0.02


class NullDevice(Device):
    """Computes latencies from workloads; runs subnets in this process, so that their outputs are real."""

    def __init__(self, target: Target) -> None:
        self._target = target

    @property
    @override
    def name(self) -> str:
        return f"{self._target.name}: roofline cost model, nothing was measured"

    @property
    @override
    def emulated(self) -> bool:
        return True

    @override
    def time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        latency_ms = (
            kernel_ms(job.workload)
            if isinstance(job, KernelJob)
            else SUBNET_OVERHEAD_MS + sum(kernel_ms(workload) for workload in job.workloads)
        )
        return (latency_ms,) * protocol.repeats

    @override
    def run(self, job: SubnetJob, inputs: Float32Array) -> Float32Array:
        check_shapes(job, [inputs])

        def execute(module: Any) -> Any:
            return [first_tensor(VirtualMachine(module, tvm.cpu())["main"](tvm.runtime.tensor(inputs, tvm.cpu())))]

        return self._execute(job, execute)[0]

    @override
    def run_kernel(self, job: KernelJob, inputs: Sequence[Float32Array]) -> tuple[Float32Array, ...]:
        check_shapes(job, inputs)

        def execute(module: Any) -> Any:
            outputs = [tvm.runtime.empty(shape, "float32") for shape in job.shapes[-job.outputs :]]
            module[job.function](*map(tvm.runtime.tensor, inputs), *outputs)
            return outputs

        return self._execute(job, execute)

    def _execute(self, job: Job, action: Callable[[Any], Sequence[Any]]) -> tuple[Float32Array, ...]:
        try:
            outputs = action(tvm.runtime.load_module(str(job.library)))
            return tuple(np.asarray(output.numpy(), dtype=np.float32) for output in outputs)
        except Exception as error:  # TVM raises builtin types of all kinds
            raise MeasurementError(f"{job.label} failed on {self.name}: {one_line(error)}") from error


def kernel_ms(workload: Workload) -> float:
    """Roofline: limited by arithmetic or by memory, plus the cost of a call."""
    compute_ms = workload.macs / PEAK_MACS_PER_MS[workload.kind]
    memory_ms = workload.traffic_bytes / BANDWIDTH_BYTES_PER_MS
    return max(compute_ms, memory_ms) + KERNEL_OVERHEAD_MS
