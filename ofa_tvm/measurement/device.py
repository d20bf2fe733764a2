"""The interface of every device that jobs can be measured on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from ofa_tvm.errors import MeasurementError
from ofa_tvm.measurement.device_info import DeviceInfo
from ofa_tvm.measurement.job import Float32Array, Job, KernelJob, SubnetJob
from ofa_tvm.targets import MeasurementProtocol


class Device(ABC):
    """Somewhere to run jobs, one after the other.

    A job that fails may end the connection, as `is_open` says; then the device is connected to anew for the next job.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What this is, for records: the device key, host and CPU, or which cost model."""

    @property
    @abstractmethod
    def emulated(self) -> bool:
        """Whether its latencies say nothing about real hardware."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Of what runs on the device, as far as known, for records."""
        return {}

    @property
    def info(self) -> DeviceInfo | None:
        """What it said about itself when it was connected to, if it can tell."""
        return None

    @property
    def is_open(self) -> bool:
        """Whether it can take another job."""
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

    def warm_up(self, reference: KernelJob, protocol: MeasurementProtocol) -> None:  # noqa: B027 - not all are ever cold
        """Run the reference kernel until it is as fast as it gets: clocks rise and caches fill only under load.

        Raises
        ------
        MeasurementError, DeviceError
            As for `time`.
        """

    @abstractmethod
    def run(self, job: SubnetJob, inputs: Float32Array) -> Float32Array:
        """Output of the subnet on the device, float32 (N, classes), for inputs of shape ``job.input_shape``.

        Raises
        ------
        MeasurementError, DeviceError
            As for `time`.
        """

    @abstractmethod
    def run_kernel(self, job: KernelJob, inputs: Sequence[Float32Array]) -> tuple[Float32Array, ...]:
        """Outputs of the kernel on the device, float32 of the last of ``job.shapes``, for inputs of the others.

        Raises
        ------
        MeasurementError, DeviceError
            As for `time`.
        """

    def round_trips_ms(self, count: int) -> tuple[float, ...]:
        """What so many calls that do nothing take, in milliseconds each; empty where nothing is called.

        Raises
        ------
        MeasurementError, DeviceError
            As for `time`.
        """
        return ()

    def close(self) -> None:  # noqa: B027 - most have no connection
        """End the connection, also under a job that runs, from any thread; a closed device takes no more jobs."""


def check_shapes(job: KernelJob | SubnetJob, inputs: Sequence[Float32Array]) -> None:
    """Refuse inputs of other shapes than the job's.

    Raises
    ------
    MeasurementError
        They differ.
    """
    wanted = [job.input_shape] if isinstance(job, SubnetJob) else list(job.shapes[: -job.outputs])
    given = [array.shape for array in inputs]
    if given != wanted:
        raise MeasurementError(f"{job.label} takes inputs of shapes {wanted}, not {given}")
