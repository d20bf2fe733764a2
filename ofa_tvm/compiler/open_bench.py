"""Opening a bench: a target's devices, its records, and whose turn it is."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from ofa_tvm.compiler.identity import identity_of
from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.measurement.device_state import warnings_before_measuring
from ofa_tvm.measurement.devices import open_farm
from ofa_tvm.measurement.foreign_records import foreign_cpus
from ofa_tvm.measurement.records import RecordStore
from ofa_tvm.measurement.turn import turn, turn_on_this_host
from ofa_tvm.targets import Target


@contextlib.contextmanager
def open_bench(
    target: Target,
    records: Path,
    tracker: str | None = None,
    say: Callable[[str], None] = lambda _line: None,
    *,
    warn_of_clocks: bool = True,
) -> Iterator[KernelBench]:
    """A bench on the target's devices, for as long as the context lasts; `say` is told what the user should know.

    Unless `warn_of_clocks` is off, that a device's clock moves or is held down is among it.

    Beside the records lie the kernels' object code, which is compiled again where it is missing, and what
    MetaSchedule's search has found.

    Raises
    ------
    InvalidTargetError, CompileError
        As `Toolchain.of`.
    InvalidRecordError
        As `RecordStore`.
    OutputError
        As `turn`: benches for the same records take turns.
    UsageError, DeviceError
        As `open_farm`.
    """
    toolchain = Toolchain.of(target)
    objects = KernelObjects(toolchain.tvm_target, toolchain.machine, records.parent / "kernels")
    identity = identity_of(target, toolchain)
    searched = records.parent / "metaschedule" / identity.digest
    with contextlib.ExitStack() as stack:
        if target.device.kind == "local":
            stack.enter_context(turn_on_this_host(say))
        stack.enter_context(turn(records, say))
        store = RecordStore(records, identity)
        if left_aside := store.left_aside():
            say(left_aside)
        farm = stack.enter_context(open_farm(target, tracker, say))
        if warn_of_clocks:
            for warning in warnings_before_measuring(farm.open_devices, target):
                say(warning)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ofa_tvm."))
        if others := foreign_cpus(store, farm.devices):
            say(
                f"{records} has latencies of {' and '.join(others)}, which are compared with those of {farm.name}; "
                "give --runs another folder to begin anew"
            )
        yield KernelBench(target, toolchain, objects, farm, store, searched, Path(folder))
