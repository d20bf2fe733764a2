"""MetaSchedule's runner: candidates timed on the target's devices."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms
from typing_extensions import override

from ofa_tvm.compiler.general_search.builder import Artifact
from ofa_tvm.compiler.kernel_check import REFERENCE
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.job import KernelJob
from ofa_tvm.measurement.protocol import Measurement, MeasurementFailure, Outcome
from ofa_tvm.measurement.speeds import Speeds
from ofa_tvm.targets import MeasurementProtocol

REPEATS = 5
"""Samples a candidate: thousands are compared, and the cost model that learns from them averages over many."""


@dataclass(frozen=True, slots=True)
class CandidateJob(KernelJob):
    """A candidate of MetaSchedule's; what it computes is no workload of ours, so the field says nothing."""

    @property
    @override
    def label(self) -> str:
        return self.function


@derived_object
class Timed(ms.runner.PyRunnerFuture):  # type: ignore[misc]
    """A result that is already there."""

    def __init__(self, result: ms.runner.RunnerResult) -> None:
        super().__init__()
        self._result = result

    def done(self) -> bool:
        """It is."""
        return True

    def result(self) -> ms.runner.RunnerResult:
        """The latency in seconds, or why there is none."""
        return self._result


@derived_object
class FarmRunner(ms.runner.PyRunner):  # type: ignore[misc]
    """Runs a batch of candidates at a time, on all devices.

    Parameters
    ----------
    reference
        The kernel that shows a device drift.
    """

    def __init__(self, farm: Farm, reference: KernelJob, protocol: MeasurementProtocol) -> None:
        super().__init__()
        self._farm = farm
        self._reference = reference
        self._protocol = protocol.model_copy(update={"repeats": min(REPEATS, protocol.repeats)})
        self._speeds = Speeds()
        self.error: BaseException | None = None

    def run(self, runner_inputs: list[ms.runner.RunnerInput]) -> list[ms.runner.RunnerFuture]:
        """One result a candidate: one that crashes or hangs is a result with an error."""
        jobs = [candidate_job(str(given.artifact_path), list(given.args_info)) for given in runner_inputs]
        outcomes: dict[int, Outcome] = {}
        try:
            with contextlib.closing(self._farm.measure_many(jobs, self._reference, self._protocol)) as measured:
                outcomes.update(measured)
        except BaseException as error:  # to be raised as it is: through TVM it would be another
            self.error = error
            raise
        for outcome in outcomes.values():
            if isinstance(outcome, Measurement):
                self._speeds.learn(outcome)
        return [Timed(_result(outcomes[index], self._speeds)) for index in range(len(jobs))]


def candidate_job(artifact_path: str, args_info: list[ms.arg_info.TensorInfo]) -> CandidateJob:
    """What a device is to run for one candidate; its arguments are float32 tensors."""
    artifact = Artifact.parse(artifact_path)
    shapes = tuple(tuple(int(size) for size in info.shape) for info in args_info)
    return CandidateJob(artifact.library, artifact.symbol, shapes, REFERENCE)


def _result(outcome: Outcome, speeds: Speeds) -> ms.runner.RunnerResult:
    """The median stands for all samples: the database ranks by their mean, which one interruption spoils."""
    if isinstance(outcome, MeasurementFailure):
        return ms.runner.RunnerResult(None, outcome.error)
    return ms.runner.RunnerResult([speeds.comparable_ms(outcome) / 1e3], None)
