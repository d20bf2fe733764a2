"""One TVM RPC session: libraries uploaded once, arguments made once, calls with a time limit."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import tvm
from tvm import rpc
from tvm.runtime.vm import VirtualMachine

from ofa_tvm.measurement.deadline import shut_connections, within
from ofa_tvm.measurement.device import Float32Array
from ofa_tvm.measurement.job import Job, KernelJob, SubnetJob
from ofa_tvm.measurement.tracker import SessionOffer
from ofa_tvm.targets import MeasurementProtocol

Result = TypeVar("Result")

CONNECT_LIMIT_S = 15.0
MAX_RUNS_PER_SAMPLE = 1_000_000
ARGUMENT_CACHE_ELEMENTS = 16 << 20
FILL_FUNCTION = "tvm.contrib.random.uniform"


class RpcSession:
    """A session on the device that an offer of the tracker names.

    Raises
    ------
    TimeoutError
        From any method: no answer in time. The session is of no use afterwards.
    Exception
        From any method: whatever TVM raises for a broken connection or a failure on the device.
    """

    def __init__(self, offer: SessionOffer) -> None:
        self._offer = offer
        connect = functools.partial(rpc.connect, offer.host, offer.port, offer.match_key)
        self._remote: Any = within(CONNECT_LIMIT_S, connect, self.close)
        self._cpu: Any = self._remote.cpu(0)
        self._modules: dict[Path, Any] = {}
        self._machines: dict[Path, Any] = {}
        self._arguments = within(CONNECT_LIMIT_S, lambda: ArgumentCache(self._remote), self.close)

    def close(self) -> None:
        """Cut the connection, also under a call that waits; the server ends the session's process."""
        shut_connections(self._offer.host, self._offer.port)

    def time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        """Samples in ms: a first estimate warms up and says how many runs make a sample."""
        return self._call(protocol.timeout_s, lambda: self._time(job, protocol))

    def run(self, job: SubnetJob, inputs: Float32Array, timeout_s: float) -> Float32Array:
        """Output of the subnet."""

        def execute() -> Float32Array:
            output = self._machine(job.library)["main"](tvm.runtime.tensor(inputs, self._cpu))
            return np.asarray(first_tensor(output).numpy(), dtype=np.float32)

        return self._call(timeout_s, execute)

    def _call(self, timeout_s: float, call: Callable[[], Result]) -> Result:
        return within(timeout_s, call, self.close)

    def _time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        if isinstance(job, KernelJob):
            module, function, arguments = self._module(job.library), job.function, self._arguments.get(job.shapes)
        else:
            machine = self._machine(job.library)
            machine.set_input("main", self._arguments.get((job.input_shape, ()))[0])
            module, function, arguments = machine.module, "invoke_stateful", ["main"]
        evaluate = functools.partial(module.time_evaluator, function, self._cpu)
        estimate_ms = evaluate(number=protocol.warmup_runs, repeat=1)(*arguments).mean * 1e3
        evaluator = evaluate(
            number=runs_per_sample(estimate_ms, protocol.min_repeat_ms),
            repeat=protocol.repeats,
            cooldown_interval_ms=round(protocol.cooldown_ms),
        )
        return tuple(float(seconds) * 1e3 for seconds in evaluator(*arguments).results)

    def _module(self, library: Path) -> Any:
        if library not in self._modules:
            name = f"{len(self._modules)}-{library.name}"  # libraries of several folders may have one name
            self._remote.upload(bytearray(library.read_bytes()), name)
            self._modules[library] = self._remote.load_module(name)
        return self._modules[library]

    def _machine(self, library: Path) -> Any:
        if library not in self._machines:
            self._machines[library] = VirtualMachine(self._module(library), self._cpu)
        return self._machines[library]


class ArgumentCache:
    """Float32 tensors on the device, uniform in [-1, 1], made once for each shape and filled over there.

    An output never serves as an input later, so that values do not grow from job to job.
    """

    def __init__(self, session: Any) -> None:
        self._cpu = session.cpu(0)
        self._fill = session.get_function(FILL_FUNCTION)
        self._tensors: dict[tuple[str, tuple[int, ...]], Any] = {}
        self._elements = 0

    def get(self, shapes: tuple[tuple[int, ...], ...]) -> list[Any]:
        """One tensor a shape, all different; the last is an output."""
        if self._elements > ARGUMENT_CACHE_ELEMENTS:
            self._tensors.clear()
            self._elements = 0
        roles = [f"input {index}" for index in range(len(shapes) - 1)] + ["output"]
        return [self._tensor(role, shape) for role, shape in zip(roles, shapes, strict=True)]

    def _tensor(self, role: str, shape: tuple[int, ...]) -> Any:
        if (role, shape) not in self._tensors:
            tensor = tvm.runtime.empty(shape, "float32", self._cpu)
            self._fill(-1.0, 1.0, tensor)
            self._tensors[role, shape] = tensor
            self._elements += math.prod(shape)
        return self._tensors[role, shape]


def runs_per_sample(estimate_ms: float, min_repeat_ms: float) -> int:
    """Runs that together last `min_repeat_ms`."""
    return min(MAX_RUNS_PER_SAMPLE, max(1, math.ceil(min_repeat_ms / max(estimate_ms, 1e-6))))


def first_tensor(output: Any) -> Any:
    """The output itself, or the only element of a tuple of one."""
    return output[0] if isinstance(output, (tuple, list, tvm.ir.Array)) else output
