"""What came of a candidate: built and measured, or failed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.compiler.tuning import TuningReport
from ofa_tvm.errors import DeviceError, StageError
from ofa_tvm.evolution.front import Candidate
from ofa_tvm.lowering.lower import LoweredSubnet
from ofa_tvm.measurement.protocol import Measurement
from ofa_tvm.training.records import AccuracyRecord


@dataclass(frozen=True, slots=True)
class Attempt:
    """A candidate as it was built and measured.

    Attributes
    ----------
    comparable_ms
        Median latency as on the slowest of the target's devices, which is what is predicted.
    bound_ms
        What the latency is surely within on each of them: this with the drift added.
    lowered
        The subnet as ONNX and Relax, with the sample input and output.
    library
        The shared library that was measured.
    """

    candidate: Candidate
    accuracy: AccuracyRecord
    tuning: TuningReport
    measurement: Measurement
    comparable_ms: float
    bound_ms: float
    lowered: LoweredSubnet
    library: Path

    def meets(self, budget_ms: float) -> bool:
        """Whether it was measured to meet a latency budget."""
        return self.bound_ms <= budget_ms

    @property
    def over_predicted(self) -> float:
        """Latency as measured, relative to the prediction."""
        return self.bound_ms / self.candidate.predicted_latency_ms


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A candidate that could not be built or measured, and why."""

    candidate: Candidate
    error: StageError | DeviceError


AnyAttempt = Attempt | FailedAttempt
