"""A subnet's library that says when it reached each of its kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import tvm
from cpp import compile_cpp
from tvm import tirx
from tvm.runtime.vm import VirtualMachine
from tvm.script.ir_builder import tirx as T

from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.library import compile_subnet
from ofa_tvm.compiler.linking import link_library
from ofa_tvm.compiler.packed_calls import Arguments
from ofa_tvm.compiler.schedules import Schedules
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.lowering.outputs import Array
from ofa_tvm.lowering.relax_import import import_onnx
from ofa_tvm.space.workload import Workload

_SOURCE = Path(__file__).with_name("stamps.cpp")


class StampedLibrary:
    """A subnet compiled for this host, loaded, with the time taken around each kernel.

    Attributes
    ----------
    symbols
        Of the functions that are called, in this order.
    workloads
        Of those that are kernels.

    Raises
    ------
    CompileError
        On creation: a stage of the compiler fails, or the C++ compiler.
    """

    def __init__(
        self, model: onnx.ModelProto, image: Array, toolchain: Toolchain, schedules: Schedules, folder: Path
    ) -> None:
        self.symbols: list[str] = []
        with mock.patch.object(Arguments, "call", self._stamped(Arguments.call)):
            compiled = compile_subnet(
                import_onnx(model),
                toolchain.tvm_target,
                toolchain.machine,
                schedules,
                kernels=KernelObjects(toolchain.tvm_target, toolchain.machine),
            )
        self.workloads: dict[str, Workload] = {workload.key: workload for workload in compiled.workloads}
        path = folder / "stamped.so"
        objects = {**compiled.kernels, "stamps": _stamps(folder)}
        link_library(path, objects, compiled.cross_compiler, compiled.executable)
        self._main = VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())["main"]
        self._image = tvm.runtime.tensor(image, tvm.cpu())
        self._stamps = (ctypes.c_double * (len(self.symbols) + 1)).in_dll(ctypes.CDLL(str(path)), "stamps_us")

    def run_us(self) -> Array:
        """Run once: microseconds of each function."""
        self._main(self._image)
        return np.diff(np.array(self._stamps))

    def _stamped(self, call: Callable[..., None]) -> Callable[..., None]:
        """What emits a call, and the taking of the time around it."""

        def emit(arguments: Arguments, symbol: str, count: int) -> None:
            if not self.symbols:
                _stamp(0)
            call(arguments, symbol, count)
            self.symbols.append(symbol)
            _stamp(len(self.symbols))

        return emit


def _stamp(number: int) -> None:
    T.evaluate(tirx.call_extern("int32", "stamp", number))


def _stamps(folder: Path) -> bytes:
    """Object code of what takes the time."""
    code = folder / "stamps.o"
    compile_cpp(_SOURCE, code, "-O2", "-fPIC", "-c")
    return code.read_bytes()
