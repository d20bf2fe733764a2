"""The interface of every device that jobs can be measured on."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from ofa_tvm.measurement.job import Job, SubnetJob
from ofa_tvm.targets import MeasurementProtocol

Float32Array = npt.NDArray[np.float32]


class Device(ABC):
    """Somewhere to run jobs; a job that fails leaves the device fit for the next one."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What this is, for records: the device key and where it was reached, or which cost model."""

    @property
    @abstractmethod
    def emulated(self) -> bool:
        """Whether its latencies say nothing about real hardware."""

    @property
    def needs_library(self) -> bool:
        """Whether a job's library has to exist for `time`; a cost model reads only the workloads."""
        return True

    @abstractmethod
    def time(self, job: Job, protocol: MeasurementProtocol) -> tuple[float, ...]:
        """Samples in milliseconds, ``protocol.repeats`` of them, each the mean of several runs.

        Raises
        ------
        MeasurementError
            The job failed, crashed, or took longer than ``protocol.timeout_s``.
        DeviceError
            The device itself can't be reached any more.
        """

    @abstractmethod
    def run(self, job: SubnetJob, inputs: Float32Array) -> Float32Array:
        """Output of the subnet on the device, float32 (N, classes), for inputs of shape ``job.input_shape``.

        Raises
        ------
        MeasurementError, DeviceError
            As for `time`.
        """
