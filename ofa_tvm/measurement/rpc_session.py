"""One TVM RPC session, in which every call has a time limit."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import tvm
from tvm import rpc

from ofa_tvm.measurement.deadline import is_connected, limit_receives, shut_connections, within
from ofa_tvm.measurement.device_info import INFO_FUNCTION, DeviceInfo
from ofa_tvm.measurement.job import Float32Array, Job, KernelJob, SubnetJob
from ofa_tvm.measurement.rpc_caches import ArgumentCache, LibraryCache
from ofa_tvm.measurement.tracker import SessionOffer
from ofa_tvm.targets import MeasurementProtocol

Result = TypeVar("Result")

CONNECT_LIMIT_S = 15.0
RECEIVE_MARGIN_S = 10.0
MAX_RUNS_PER_SAMPLE = 1_000_000
TOLD = "Error caught from RPC call"
"""TVM puts it before what a device says of a failure; our servers say so, too, when a session's process has died."""
CHEAP_FUNCTION = "tvm.rpc.server.workpath"
"""Any server has it: it puts a file's name behind that of a folder."""


class RpcSession:
    """A session on the device that an offer of the tracker names.

    Parameters
    ----------
    longest_call_s
        The longest time limit that a call will be given.

    Attributes
    ----------
    info
        What the device says about itself; None from a server that can't tell, such as TVM's own.

    Raises
    ------
    TimeoutError
        From any method: no answer in time. The session is of no use afterwards.
    Exception
        From any method: whatever TVM raises for a broken connection or a failure on the device.
    """

    def __init__(self, offer: SessionOffer, longest_call_s: float) -> None:
        self._offer = offer
        connect = functools.partial(rpc.connect, offer.host, offer.port, offer.match_key)
        self._remote: Any = within(CONNECT_LIMIT_S, connect, self.close)
        limit_receives(offer.host, offer.port, longest_call_s + RECEIVE_MARGIN_S)
        self._cpu: Any = self._remote.cpu(0)
        self._libraries = LibraryCache(self._remote)
        try:
            self._arguments = within(CONNECT_LIMIT_S, lambda: ArgumentCache(self._remote), self.close)
            self.info = within(CONNECT_LIMIT_S, self._ask_info, self.close)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Cut the connection, also under a call that waits; the server ends the session's process."""
        shut_connections(self._offer.host, self._offer.port)

    def was_lost(self, error: BaseException) -> bool:
        """Whether a call failed because the connection broke, without a word from the device and in time."""
        if isinstance(error, TimeoutError) or TOLD in str(error):
            return False
        return not is_connected(self._offer.host, self._offer.port)

    def time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        """Samples in ms: a first estimate warms up and says how many runs make a sample."""
        return self._call(protocol.timeout_s, lambda: self._time(job, protocol))

    def run(self, job: SubnetJob, inputs: Float32Array, timeout_s: float) -> Float32Array:
        """Output of the subnet."""

        def execute() -> Float32Array:
            output = self._libraries.machine(job.library)["main"](tvm.runtime.tensor(inputs, self._cpu))
            return np.asarray(first_tensor(output).numpy(), dtype=np.float32)

        return self._call(timeout_s, execute)

    def run_kernel(self, job: KernelJob, inputs: Sequence[Float32Array], timeout_s: float) -> tuple[Float32Array, ...]:
        """Outputs of the kernel."""

        def execute() -> tuple[Float32Array, ...]:
            # Not numbers: what a kernel leaves out must not pass because an earlier output lay there.
            nothing = [np.full(shape, np.nan, np.float32) for shape in job.shapes[-job.outputs :]]
            outputs = [tvm.runtime.tensor(array, self._cpu) for array in nothing]
            arguments = [tvm.runtime.tensor(array, self._cpu) for array in inputs]
            self._libraries.module(job.library)[job.function](*arguments, *outputs)
            return tuple(np.asarray(output.numpy(), dtype=np.float32) for output in outputs)

        return self._call(timeout_s, execute)

    def round_trips_ms(self, count: int, timeout_s: float) -> tuple[float, ...]:
        """What so many calls that do next to nothing take, one after the other."""

        def execute() -> tuple[float, ...]:
            full_path = self._remote.get_function(CHEAP_FUNCTION)
            return tuple(_time_ms(full_path) for _ in range(count))

        return self._call(timeout_s, execute)

    def _ask_info(self) -> DeviceInfo | None:
        try:
            ask = self._remote.get_function(INFO_FUNCTION)
        except Exception:  # of whatever type the server's refusal arrives as
            return None
        return DeviceInfo.parse(str(ask()))

    def _call(self, timeout_s: float, call: Callable[[], Result]) -> Result:
        return within(timeout_s, call, self.close)

    def _time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        runs = 1
        if isinstance(job, KernelJob):
            module, function, shapes = self._libraries.module(job.library), job.function, job.shapes
            if job.rotation is not None:
                function, runs = job.rotation.function, job.rotation.copies
                shapes = (shapes[0], (runs, *shapes[1]), *shapes[2:])
            arguments = self._arguments.get(shapes, job.outputs)
        else:
            machine = self._libraries.machine(job.library)
            machine.set_input("main", self._arguments.get((job.input_shape, ()))[0])
            module, function, arguments = machine.module, "invoke_stateful", ["main"]
        evaluate = functools.partial(module.time_evaluator, function, self._cpu)
        estimate_ms = evaluate(number=protocol.warmup_runs, repeat=1)(*arguments).mean * 1e3
        evaluator = evaluate(
            number=runs_per_sample(estimate_ms, protocol.min_repeat_ms),
            repeat=protocol.repeats,
            cooldown_interval_ms=round(protocol.cooldown_ms),
        )
        return tuple(float(seconds) * 1e3 / runs for seconds in evaluator(*arguments).results)


def _time_ms(function: Any) -> float:
    start_s = time.perf_counter()
    function("name")
    return (time.perf_counter() - start_s) * 1e3


def runs_per_sample(estimate_ms: float, min_repeat_ms: float) -> int:
    """Runs that together last `min_repeat_ms`."""
    return min(MAX_RUNS_PER_SAMPLE, max(1, math.ceil(min_repeat_ms / max(estimate_ms, 1e-6))))


def first_tensor(output: Any) -> Any:
    """The output itself, or the only element of a tuple of one."""
    return output[0] if isinstance(output, (tuple, list, tvm.ir.Array)) else output


def one_line(error: Exception) -> str:
    """The line of TVM's error that says what happened, without its stack traces."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("Traceback", "File ", "Stack trace", "[bt]"))]
    return told[-1] if told else type(error).__name__
