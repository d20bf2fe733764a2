"""From a latency budget to a bundle: the numbered steps of deploy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ofa_tvm.bundle.files import check_files
from ofa_tvm.bundle.manifest import (
    AccuracyRecord,
    Contents,
    InputRecord,
    LatencyRecord,
    MeasuredLatency,
    OutputRecord,
    SupernetRecord,
)
from ofa_tvm.bundle.verify import verify
from ofa_tvm.bundle.write import target_record, write_bundle
from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.library import CompiledSubnet, compile_subnet
from ofa_tvm.compiler.schedules import Schedules
from ofa_tvm.compiler.tuning import TuningReport, tune
from ofa_tvm.errors import InfeasibleBudgetError
from ofa_tvm.evolution.front import Candidate, ParetoFront
from ofa_tvm.lowering.check import TOLERANCE, check_outputs
from ofa_tvm.lowering.lower import LoweredSubnet, check_import, lower
from ofa_tvm.lowering.onnx_export import INPUT_NAME, OUTPUT_NAME
from ofa_tvm.measurement.job import SubnetJob
from ofa_tvm.measurement.protocol import Measurement, measure
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.supernet.metadata import SupernetMetadata
from ofa_tvm.training.characters import normalise
from ofa_tvm.training.evaluation import Evaluator

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A candidate as it was built and measured."""

    candidate: Candidate
    accuracy: float
    accuracy_images: int
    tuning: TuningReport
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Deployment:
    """What was deployed, and what was tried before it and missed the budget."""

    chosen: Attempt
    missed: tuple[Attempt, ...]


class Deployer:
    """Builds, measures and bundles the subnets of a Pareto front, best first, until one meets the budget.

    Parameters
    ----------
    tune_minutes
        Time limit of tuning a candidate's kernels; 0 for not at all.
    max_attempts
        Candidates built before giving up.
    """

    def __init__(
        self,
        metadata: SupernetMetadata,
        evaluator: Evaluator,
        bench: KernelBench,
        tune_minutes: float,
        max_attempts: int,
        say: Say,
    ) -> None:
        self._metadata = metadata
        self._evaluator = evaluator
        self._bench = bench
        self._tune_minutes = tune_minutes
        self._max_attempts = max_attempts
        self._say = say

    def deploy(self, front: ParetoFront, budget_ms: float, directory: Path, overwrite: bool) -> Deployment:
        """Write the bundle of the most accurate candidate that is measured to meet the budget.

        Raises
        ------
        InfeasibleBudgetError
            No candidate is predicted, or none measured to meet it.
        NumericalMismatchError
            A stage computes something else than the one before it.
        CompileError, MeasurementError, DeviceError, OutputError
            As the stages raise them.
        """
        missed: list[Attempt] = []
        limit_ms = budget_ms
        for candidate in front.best_under(budget_ms, self._bench.target.name):
            # Measured over predicted of the last miss tells how far to walk down the front.
            if candidate.predicted_latency_ms > limit_ms:
                continue
            if len(missed) == self._max_attempts:
                break
            library = self._bench.folder / f"library_{len(missed)}.so"
            attempt, lowered = self._build(candidate, library)
            if attempt.measurement.median_ms <= budget_ms:
                self._write(attempt, budget_ms, lowered, library, directory, overwrite)
                return Deployment(attempt, tuple(missed))
            missed.append(attempt)
            ratio = attempt.measurement.median_ms / candidate.predicted_latency_ms
            limit_ms = min(limit_ms, budget_ms / ratio)
            self._say(f"measured {attempt.measurement.median_ms:.4g} ms, over {budget_ms:g} ms: next on the front")
        fastest = min(missed, key=lambda attempt: attempt.measurement.median_ms)
        raise InfeasibleBudgetError(
            f"no subnet was measured to meet {budget_ms:g} ms on {self._bench.target.name}: the fastest of the "
            f"{len(missed)} tried took {fastest.measurement.median_ms:.4g} ms ({fastest.candidate.architecture}), predicted at "
            f"{fastest.candidate.predicted_latency_ms:.4g} ms; raise --latency, or profile again"
        )

    def _build(self, candidate: Candidate, library: Path) -> tuple[Attempt, LoweredSubnet]:
        """1. extract and calibrate  2. accuracy  3. lower  4. tune  5. compile  6. compare and measure."""
        architecture = candidate.architecture
        self._say(
            f"candidate {architecture}: predicted {candidate.predicted_latency_ms:.4g} ms, "
            f"{candidate.predicted_accuracy:.1%}"
        )
        # 1. Extract and calibrate
        subnet = self._evaluator.calibrated(architecture)
        # 2. Accuracy
        accuracy = self._evaluator.accuracy(architecture, subnet)
        # 3. Lower, comparing PyTorch with ONNX Runtime, and that with the imported Relax module
        images = self._evaluator.held_out(architecture.resolution).images[:1]
        lowered = lower(subnet.to(memory_format=torch.contiguous_format), normalise(images).numpy())  # type: ignore[call-overload]
        check_import(lowered)
        # 4. Tune
        kernels = workloads(self._metadata.space, architecture)
        tuning = tune(self._bench, kernels, self._tune_minutes)
        if tuning.measured:
            self._say(
                f"kernels: {tuning.measured} of {tuning.candidates} candidates measured, "
                f"sum {tuning.before_ms:.4g} -> {tuning.after_ms:.4g} ms"
            )
        # 5. Compile
        compiled = self._compile(lowered)
        compiled.export(library)
        # 6. Compare on the device, and measure
        job = SubnetJob(library, lowered.sample_input.shape, compiled.workloads)
        output = self._bench.device.run(job, lowered.sample_input)
        error = check_outputs("library on the device", lowered.sample_output, output)
        measurement = measure(self._bench.device, job, self._bench.reference, self._bench.target.measurement)
        self._say(
            f"measured {measurement.median_ms:.4g} ms, spread {measurement.spread:.1%}, drift {measurement.drift:.1%}, "
            f"accuracy {accuracy.accuracy:.1%}, relative error {error:.1e}"
        )
        return Attempt(candidate, accuracy.accuracy, accuracy.images, tuning, measurement), lowered

    def _compile(self, lowered: LoweredSubnet) -> CompiledSubnet:
        bench = self._bench
        toolchain = bench.toolchain
        schedules = Schedules(bench.store, bench.target.name, toolchain.machine)
        return compile_subnet(
            lowered.model, toolchain.tvm_target, toolchain.machine, schedules, toolchain.cross_compiler, bench.objects
        )

    def _write(
        self,
        attempt: Attempt,
        budget_ms: float,
        lowered: LoweredSubnet,
        library: Path,
        directory: Path,
        overwrite: bool,
    ) -> None:
        """7. The bundle, verified where its library can run on this host."""
        target = self._bench.target
        sample_image = library.with_name("sample_image.png")
        held_out = self._evaluator.held_out(attempt.candidate.architecture.resolution)
        Image.fromarray(np.ascontiguousarray(held_out.images[0].permute(1, 2, 0).numpy())).save(sample_image)
        write_bundle(
            directory,
            self._contents(attempt, budget_ms, lowered),
            library,
            lowered.sample_input,
            lowered.sample_output,
            sample_image,
            overwrite=overwrite,
            check=verify if target.tvm_target == "host" else check_files,
        )

    def _contents(self, attempt: Attempt, budget_ms: float, lowered: LoweredSubnet) -> Contents:
        metadata, measurement, target = self._metadata, attempt.measurement, self._bench.target
        resolution = attempt.candidate.architecture.resolution
        return Contents(
            target=target_record(target.name, self._bench.toolchain.tvm_target, target.emulated),
            architecture=attempt.candidate.architecture.to_dict(),
            search_space=metadata.search_space,
            supernet=SupernetRecord(name=metadata.name, weights_sha256=metadata.weights_sha256),
            input=InputRecord(
                name=INPUT_NAME, shape=(1, 3, resolution, resolution), mean=metadata.mean, std=metadata.std
            ),
            output=OutputRecord(name=OUTPUT_NAME, shape=(1, lowered.sample_output.shape[1])),
            class_names=metadata.class_names,
            latency=LatencyRecord(
                budget_ms=budget_ms,
                predicted_ms=attempt.candidate.predicted_latency_ms,
                measured=MeasuredLatency(
                    median_ms=measurement.median_ms,
                    spread=measurement.spread,
                    drift=measurement.drift,
                    samples_ms=measurement.samples_ms,
                    device=measurement.device,
                    emulated=measurement.emulated,
                ),
            ),
            accuracy=AccuracyRecord(
                predicted=min(1.0, max(0.0, attempt.candidate.predicted_accuracy)),
                measured=attempt.accuracy,
                images=attempt.accuracy_images,
            ),
            tolerance=TOLERANCE,
        )
