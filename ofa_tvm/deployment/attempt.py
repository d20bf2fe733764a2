"""One candidate of the search, built and measured: the numbered steps from architecture to library."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.library import CompiledSubnet, compile_subnet
from ofa_tvm.compiler.schedules import Schedules
from ofa_tvm.compiler.tuning import TuningReport, tune
from ofa_tvm.errors import NumericalMismatchError
from ofa_tvm.evolution.front import Candidate
from ofa_tvm.lowering.check import check_outputs, relative_error
from ofa_tvm.lowering.lower import LoweredSubnet, check_import, lower
from ofa_tvm.lowering.outputs import onnx_classifier
from ofa_tvm.measurement.farm import Ran
from ofa_tvm.measurement.job import SubnetJob
from ofa_tvm.measurement.protocol import Measurement
from ofa_tvm.reporting import Say
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.training.evaluation import Evaluator
from ofa_tvm.training.records import AccuracyRecord


@dataclass(frozen=True, slots=True)
class Attempt:
    """A candidate as it was built and measured.

    Attributes
    ----------
    lowered
        The subnet as ONNX, with the sample input and output.
    library
        The shared library that was measured.
    """

    candidate: Candidate
    accuracy: AccuracyRecord
    tuning: TuningReport
    measurement: Measurement
    lowered: LoweredSubnet
    library: Path

    @property
    def measured_over_predicted(self) -> float:
        """Latency as measured, relative to the prediction."""
        return self.measurement.median_ms / self.candidate.predicted_latency_ms


class CandidateBuilder:
    """Builds and measures candidates, on whichever device is free.

    Parameters
    ----------
    tune_minutes
        Time limit of tuning a candidate: its kernels first, in what is left operators that have no kernel template; 0
        for not at all.
    say
        Told, a line at a time, what is being done.
    """

    def __init__(self, evaluator: Evaluator, bench: KernelBench, tune_minutes: float, say: Say) -> None:
        self._evaluator = evaluator
        self._bench = bench
        self._tune_minutes = tune_minutes
        self._say = say
        self._built = 0

    def build(self, candidate: Candidate) -> Attempt:
        """From a candidate's architecture to its measured latency.

        Raises
        ------
        NumericalMismatchError
            A step computes something else than the one before it.
        CompileError, MeasurementError, DeviceError, OutputError
            As the steps raise them.
        """
        architecture, bench = candidate.architecture, self._bench
        self._say(
            f"candidate {architecture}: predicted {candidate.predicted_latency_ms:.4g} ms "
            f"and {candidate.predicted_accuracy:.1%}"
        )
        # 1. Extract the subnet, and calibrate its BN statistics.
        subnet = self._evaluator.calibrated(architecture)
        # 2. Lower it: PyTorch and ONNX give the same output.
        lowered = lower(subnet, self._evaluator.sample(architecture.resolution).contiguous().numpy())
        # 3. Measure the accuracy of what was exported.
        accuracy = self._evaluator.accuracy(architecture, onnx_classifier(lowered.model))
        # 4. Tune its kernels.
        deadline_s = time.monotonic() + 60 * self._tune_minutes
        tuning = tune(bench, workloads(self._evaluator.space, architecture), self._tune_minutes)
        self._say(_told(tuning, self._tune_minutes))
        # 5. Compile it. Each library gets a name of its own: a loader gives back an old one of the same name.
        self._built += 1
        job = self._compile(lowered, bench.folder / f"library_{self._built}.so", deadline_s)
        # 6. Run it on a device: the same output again; then measure it, if there are several perhaps on another.
        ran = self._run(job, lowered)
        error = relative_error(lowered.sample_output, ran.output)
        measurement = bench.farm.measure(job, bench.reference, bench.target.measurement)
        self._say(
            f"measured {measurement.median_ms:.4g} ms (spread {measurement.spread:.1%}, drift {measurement.drift:.1%}) "
            f"and {accuracy.accuracy:.1%}; relative error {error:.1e}"
            + (
                ""
                if ran.device == measurement.device
                else f"; measured on {measurement.device}, checked on {ran.device}"
            )
        )
        return Attempt(candidate, accuracy, tuning, measurement, lowered, job.library)

    def _run(self, job: SubnetJob, lowered: LoweredSubnet) -> Ran:
        """The library's output on a device, which is PyTorch's."""
        check = partial(check_outputs, "library", lowered.sample_output)
        try:
            return self._bench.farm.run(job, lowered.sample_input, check)
        except NumericalMismatchError:
            check_import(lowered)  # takes seconds, so it is only asked whether the import or a kernel is at fault
            raise

    def _compile(self, lowered: LoweredSubnet, library: Path, deadline_s: float) -> SubnetJob:
        """Write the library; operators that no template computes are searched for before."""
        compiled = self._compiled(lowered)
        if compiled.leftovers and self._tune_minutes and self._searched(lowered, compiled.leftovers, deadline_s):
            compiled = self._compiled(lowered)
        compiled.export(library)
        return SubnetJob(library, lowered.sample_input.shape, compiled.workloads)

    def _searched(self, lowered: LoweredSubnet, leftovers: Iterable[str], deadline_s: float) -> bool:
        """Search for schedules of operators, if there is time left."""
        minutes = (deadline_s - time.monotonic()) / 60
        what = f"no kernel template for {', '.join(sorted(set(leftovers)))}"
        if minutes <= 0:
            self._say(f"{what}: compiled by default, for tuning the kernels took all the time")
            return False
        from ofa_tvm.compiler.general_search.search import search_leftovers  # brings MetaSchedule

        self._say(f"{what}: searched by MetaSchedule")
        search_leftovers(lowered.model, self._bench, minutes=minutes, say=self._say)
        return True

    def _compiled(self, lowered: LoweredSubnet) -> CompiledSubnet:
        bench, toolchain = self._bench, self._bench.toolchain
        return compile_subnet(
            lowered.model,
            toolchain.tvm_target,
            toolchain.machine,
            Schedules(bench.store, toolchain.machine),
            toolchain.cross_compiler,
            bench.objects,
            bench.searched,
        )


def _told(tuning: TuningReport, minutes: float) -> str:
    """What to say of tuning."""
    known = f"{tuning.measured} of {tuning.candidates} kernel candidates known"
    if not minutes and tuning.measured < tuning.candidates:
        return f"tuning: off; {known}"
    change = f"sum of the kernels {tuning.before_ms:.4g} ms as modelled, {tuning.after_ms:.4g} ms as tuned"
    return f"tuning: {known}; {change}"
