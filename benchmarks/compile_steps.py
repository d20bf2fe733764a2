"""The steps from architecture to library, timed in a process of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.named import named_space

P = ParamSpec("P")
R = TypeVar("R")

IMPORTS = "start the process, import torch and TVM"
EXTRACT, RUN, EXPORT, CHECK = "extract the subnet", "run it in PyTorch", "export it to ONNX", "check with ONNX Runtime"
IMPORT, PASSES, KERNELS = "import into Relax", "passes", "kernels' object code"
PROGRAM, REST, LINK = "program that calls the kernels", "all else", "link the library"
STEPS = (EXTRACT, RUN, EXPORT, CHECK, IMPORT, PASSES, PROGRAM, KERNELS, LINK, REST)


class Clock:
    """Milliseconds by step."""

    def __init__(self) -> None:
        self.steps_ms: dict[str, float] = {}

    def timed(self, step: str, function: Callable[P, R]) -> Callable[P, R]:
        """The same function, whose time is added to a step's."""

        def call(*arguments: P.args, **options: P.kwargs) -> R:
            start_s = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                passed_ms = (time.perf_counter() - start_s) * 1e3
                self.steps_ms[step] = self.steps_ms.get(step, 0.0) + passed_ms

        return call


def build_all(
    space: str, architectures: list[Architecture], records: Path, kernels: Path, libraries: Path, started_s: float
) -> tuple[float, list[dict[str, float]]]:
    """Build subnets one after the other, for this host and one thread, as a command would.

    Parameters
    ----------
    space
        Name of the search space; weights are random.
    records
        Tuning records from which kernels get their parameters.
    kernels
        The cache of compiled kernels.
    started_s
        `time.time()` when this process was asked for.

    Returns
    -------
    tuple
        Milliseconds until everything was imported, and for each subnet milliseconds by step.
    """
    import onnxruntime  # noqa: F401
    import torch
    import tvm  # noqa: F401

    from ofa_tvm.compiler import library
    from ofa_tvm.compiler.identity import identity_of
    from ofa_tvm.compiler.kernels import KernelObjects
    from ofa_tvm.compiler.schedules import Schedules
    from ofa_tvm.compiler.toolchain import Toolchain
    from ofa_tvm.measurement.records import RecordStore
    from ofa_tvm.supernet.network import Supernet
    from ofa_tvm.supernet.threads import one_torch_thread
    from ofa_tvm.targets import load_target

    imports_ms = (time.time() - started_s) * 1e3
    torch.manual_seed(0)
    network = Supernet(named_space(space))
    target = load_target("local")
    toolchain = Toolchain.of(target)
    schedules = Schedules(RecordStore(records, identity_of(target, toolchain)), toolchain.machine)
    objects = KernelObjects(toolchain.tvm_target, toolchain.machine, kernels)
    clock = Clock()
    # What happens inside `compile_subnet` is timed from outside: this process does nothing else.
    library.to_packed_kernels = clock.timed(PASSES, library.to_packed_kernels)
    library.relax.build = clock.timed(PROGRAM, library.relax.build)
    objects.get = clock.timed(KERNELS, objects.get)  # type: ignore[method-assign]
    rows = []
    with one_torch_thread():
        for number, architecture in enumerate(architectures):
            clock.steps_ms = dict.fromkeys(STEPS, 0.0)
            start_s = time.perf_counter()
            _build(network, architecture, toolchain, schedules, objects, libraries / f"subnet_{number}.so", clock)
            clock.steps_ms[REST] = (time.perf_counter() - start_s) * 1e3 - sum(clock.steps_ms.values())
            rows.append(clock.steps_ms)
    return imports_ms, rows


def _build(
    network: Any, architecture: Architecture, toolchain: Any, schedules: Any, objects: Any, path: Path, clock: Clock
) -> None:
    """`ofa_tvm.lowering.lower.lower` step by step, `compile_subnet` and the export of the library."""
    from ofa_tvm.compiler import library
    from ofa_tvm.lowering.check import check_outputs
    from ofa_tvm.lowering.onnx_export import export_onnx
    from ofa_tvm.lowering.outputs import onnx_logits, random_image, torch_logits
    from ofa_tvm.lowering.relax_import import import_onnx

    image = random_image(architecture.resolution, seed=0)
    subnet = clock.timed(EXTRACT, network.extract)(architecture)
    expected = clock.timed(RUN, torch_logits)(subnet, image)
    model = clock.timed(EXPORT, export_onnx)(subnet, architecture.resolution)
    check_outputs("ONNX", expected, clock.timed(CHECK, onnx_logits)(model, image))
    compiled = library.compile_subnet(
        clock.timed(IMPORT, import_onnx)(model),
        toolchain.tvm_target,
        toolchain.machine,
        schedules,
        toolchain.cross_compiler,
        objects,
    )
    clock.timed(LINK, compiled.export)(path)
