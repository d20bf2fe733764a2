"""Subnets to compare, each as our library in this process and as ONNX."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import tvm
from tvm.runtime.vm import VirtualMachine

from ofa_tvm.bundle.files import load_sample
from ofa_tvm.bundle.manifest import LIBRARY, SAMPLE_INPUT, Manifest
from ofa_tvm.bundle.runner import BundleRunner
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.library import compile_subnet
from ofa_tvm.compiler.schedules import Schedules
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.errors import InvalidBundleError, UsageError
from ofa_tvm.lowering.lower import lower
from ofa_tvm.lowering.outputs import Array, random_image
from ofa_tvm.lowering.threads import one_torch_thread
from ofa_tvm.measurement.records import KernelRecord, RecordStore
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Workload
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.metadata import SupernetFolder
from ofa_tvm.targets import Target
from ofa_tvm.training.evaluation import Evaluator


@dataclass(frozen=True)
class Subject:
    """A subnet, ready to run both ways.

    Attributes
    ----------
    kernels
        Where the kernels' parameters come from.
    main
        Our library's function, from tensor to tensor.
    image
        float32 (1, 3, R, R).
    """

    architecture: Architecture
    macs: int
    kernels: str
    main: Callable[[Any], Any]
    model: onnx.ModelProto
    image: Array


def compiled_subjects(
    supernet: SupernetFolder, architectures: list[Architecture], target: Target, records: Path, folder: Path
) -> list[Subject]:
    """Subnets compiled with the best kernels among `records`; libraries are written to `folder`."""
    store, toolchain, network = RecordStore(records), Toolchain.of(target), load_supernet(supernet)
    schedules = Schedules(store, target.name, toolchain.machine)
    objects = KernelObjects(toolchain.tvm_target, toolchain.machine)
    subjects = []
    for number, architecture in enumerate(architectures):
        with one_torch_thread():
            lowered = lower(network.extract(architecture), random_image(architecture.resolution, seed=0))
        compiled = compile_subnet(
            lowered.model, toolchain.tvm_target, toolchain.machine, schedules, toolchain.cross_compiler, objects
        )
        library = folder / f"subnet_{number}.so"
        compiled.export(library)
        subjects.append(
            Subject(
                architecture,
                sum(workload.macs for workload in compiled.workloads),
                provenance_of_kernels(store, target.name, compiled.workloads),
                _main(library),
                lowered.model,
                lowered.sample_input,
            )
        )
    return subjects


def bundle_subject(directory: Path, supernet: SupernetFolder, threads: int) -> Subject:
    """A deployed library beside the ONNX graph of the same subnet, lowered again from its supernet.

    Raises
    ------
    InvalidBundleError
        The bundle is damaged or of other weights than the supernet's.
    UsageError
        Its library computes with another number of threads.
    """
    manifest = BundleRunner(directory).manifest  # checks the library, and that it is for this host
    _check_same(directory, manifest, supernet, threads)
    architecture = Architecture.from_dict(manifest.architecture)
    image = load_sample(directory / SAMPLE_INPUT, manifest.input.shape)
    lowered = lower(Evaluator(supernet).calibrated(architecture), image)
    space = SearchSpace.from_dict(manifest.search_space)
    macs = sum(workload.macs for workload in workloads(space, architecture))
    return Subject(architecture, macs, "as deployed", _main(directory / LIBRARY), lowered.model, image)


def provenance_of_kernels(store: RecordStore, target: str, kernels: tuple[Workload, ...]) -> str:
    """How many of a subnet's distinct kernels were tuned: two candidates measured at least."""
    measured = Counter(r.workload for r in store.of_type(KernelRecord) if r.target == target and r.measurement)
    distinct = set(kernels)
    tuned = sum(measured[workload] > 1 for workload in distinct)
    return f"{tuned} of {len(distinct)} tuned" if tuned else "modelled"


def _check_same(directory: Path, manifest: Manifest, supernet: SupernetFolder, threads: int) -> None:
    if manifest.supernet.weights_sha256 != supernet.metadata.weights_sha256:
        raise InvalidBundleError(
            f"{directory} is of the weights {manifest.supernet.weights_sha256[:12]}..., supernet "
            f"{supernet.metadata.name} has {supernet.metadata.weights_sha256[:12]}...; name the right --supernet"
        )
    compiled_for = int(manifest.target.tvm_target.get("num-cores", 1))
    if compiled_for != threads:
        raise UsageError(f"{directory} computes with {compiled_for} threads; give --threads {compiled_for}")


def _main(library: Path) -> Callable[[Any], Any]:
    main: Callable[[Any], Any] = VirtualMachine(tvm.runtime.load_module(str(library.resolve())), tvm.cpu())["main"]
    return main
