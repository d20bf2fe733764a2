"""Our libraries of the subnets to compare: compiled now, or deployed before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import onnx
from subjects import Subject, write_subject
from systems.loaded import LIBRARY, MODEL

from ofa_tvm.bundle.files import load_sample
from ofa_tvm.bundle.manifest import LIBRARY as BUNDLE_LIBRARY
from ofa_tvm.bundle.manifest import SAMPLE_INPUT, Manifest
from ofa_tvm.bundle.runner import BundleRunner
from ofa_tvm.compiler.identity import identity_of
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.library import compile_subnet
from ofa_tvm.compiler.schedules import Schedules
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.errors import InvalidBundleError
from ofa_tvm.lowering.lower import lower
from ofa_tvm.lowering.relax_import import import_onnx
from ofa_tvm.measurement.records import KernelRecord, RecordStore
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Workload
from ofa_tvm.supernet.metadata import SupernetFolder
from ofa_tvm.targets import Target
from ofa_tvm.training.evaluation import Evaluator


def write_bundle_subject(bundle: Path, supernet: SupernetFolder, root: Path) -> tuple[Subject, int]:
    """A deployed library beside the subnet that was deployed, extracted and calibrated again; and its threads.

    Raises
    ------
    InvalidBundleError
        The bundle is damaged or of other weights than the supernet's.
    """
    manifest = BundleRunner(bundle).manifest  # checks the library, and that it is for this host
    _check_same(bundle, manifest, supernet)
    architecture = Architecture.from_dict(manifest.architecture)
    subnet = Evaluator(supernet).calibrated(architecture)
    lowered = lower(subnet, load_sample(bundle / SAMPLE_INPUT, manifest.input.shape))
    subject = write_subject(root, SearchSpace.from_dict(manifest.search_space), architecture, subnet, lowered)
    shutil.copyfile(bundle / BUNDLE_LIBRARY, root / LIBRARY)
    return subject, int(manifest.target.tvm_target.get("num-cores", 1))


def compile_subjects(subjects: list[Subject], target: Target, records: Path, name: str = LIBRARY) -> list[str]:
    """Write each subject's library with the best kernels among `records`; where their parameters come from."""
    toolchain = Toolchain.of(target)
    store = RecordStore(records, identity_of(target, toolchain))
    schedules = Schedules(store, toolchain.machine)
    objects = KernelObjects(toolchain.tvm_target, toolchain.machine)
    found = []
    for subject in subjects:
        compiled = compile_subnet(
            import_onnx(onnx.load(subject.folder / MODEL)),
            toolchain.tvm_target,
            toolchain.machine,
            schedules,
            toolchain.cross_compiler,
            objects,
        )
        compiled.export(subject.folder / name)
        found.append(provenance_of_kernels(store, compiled.workloads))
    return found


def provenance_of_kernels(store: RecordStore, kernels: Iterable[Workload]) -> str:
    """How many of some kernels, each counted once, are tuned."""
    distinct = set(kernels)
    tuned = len(distinct & tuned_kernels(store))
    return f"{tuned} of {len(distinct)} tuned" if tuned else "modelled"


def tuned_kernels(store: RecordStore) -> set[Workload]:
    """Those of which at least two candidates were measured."""
    candidates: dict[Workload, set[str]] = {}
    for record in store.of_type(KernelRecord):
        if record.measurement:
            candidates.setdefault(record.workload, set()).add(json.dumps(record.parameters, sort_keys=True))
    return {workload for workload, found in candidates.items() if len(found) > 1}


def _check_same(bundle: Path, manifest: Manifest, supernet: SupernetFolder) -> None:
    if manifest.supernet.weights_sha256 != supernet.metadata.weights_sha256:
        raise InvalidBundleError(
            f"{bundle} is of the weights {manifest.supernet.weights_sha256[:12]}..., supernet "
            f"{supernet.metadata.name} has {supernet.metadata.weights_sha256[:12]}...; name the right --supernet"
        )
