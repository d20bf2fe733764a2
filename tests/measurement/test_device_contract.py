"""What every device must do; a new kind of device inherits these tests and says its target."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ofa_tvm.errors import MeasurementError
from ofa_tvm.measurement import rpc_caches
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.devices import open_device
from ofa_tvm.measurement.job import KernelJob, SubnetJob
from ofa_tvm.measurement.protocol import Measurement, measure, measure_many
from ofa_tvm.targets import Target

Kernels = Callable[[str], KernelJob]


@pytest.fixture(scope="class")
def target(request: pytest.FixtureRequest, quick_target: Callable[..., Target]) -> Target:
    """The target that the class of tests names."""
    return quick_target(request.cls.target_name)


@pytest.fixture(scope="class")
def device(target: Target) -> Iterator[Device]:
    with open_device(target) as device:
        yield device


class DeviceContract:
    """The contract."""

    target_name: str

    def test_has_a_name(self, device: Device, target: Target) -> None:
        assert target.name in device.name

    def test_kernel_gives_the_samples_asked_for(self, device: Device, target: Target, kernel_job: Kernels) -> None:
        samples = device.time(kernel_job("double"), target.measurement)
        assert len(samples) == target.measurement.repeats
        assert all(0 < sample < 1000 for sample in samples)

    def test_subnet_gives_the_samples_asked_for(self, device: Device, target: Target, subnet_job: SubnetJob) -> None:
        samples = device.time(subnet_job, target.measurement)
        assert len(samples) == target.measurement.repeats
        assert all(0 < sample < 1000 for sample in samples)

    def test_subnet_computes_what_numpy_does(
        self, device: Device, subnet_job: SubnetJob, subnet_weights: np.ndarray
    ) -> None:
        image = np.random.default_rng(2).standard_normal(subnet_job.input_shape).astype(np.float32)
        np.testing.assert_allclose(
            device.run(subnet_job, image), image.mean(axis=(2, 3)) @ subnet_weights, rtol=1e-4, atol=1e-6
        )

    def test_wrong_input_shape_is_refused(self, device: Device, subnet_job: SubnetJob) -> None:
        with pytest.raises(MeasurementError, match="subnet"):
            device.run(subnet_job, np.zeros((1, 2, 3, 4), np.float32))

    def test_protocol_measures_kernels_and_subnets(
        self, device: Device, target: Target, kernel_job: Kernels, subnet_job: SubnetJob
    ) -> None:
        jobs = [kernel_job("double"), subnet_job, kernel_job("triple")]
        outcomes = list(measure_many(device, jobs, kernel_job("double"), target.measurement))
        assert len(outcomes) == 3
        for outcome in outcomes:
            assert isinstance(outcome, Measurement)
            assert outcome.min_ms <= outcome.median_ms
            assert (outcome.device, outcome.emulated) == (device.name, device.emulated)


class TestNull(DeviceContract):
    target_name = "null"

    def test_needs_no_library_to_time(self, device: Device, target: Target, kernel_job: Kernels) -> None:
        job = kernel_job("not compiled at all")
        assert len(set(device.time(job, target.measurement))) == 1

    def test_says_that_it_is_a_cost_model(self, device: Device) -> None:
        assert "cost model" in device.name
        assert device.emulated


class TestLocal(DeviceContract):
    target_name = "local"

    def test_unknown_function_is_an_error_and_the_next_job_works(
        self, device: Device, target: Target, kernel_job: Kernels
    ) -> None:
        with pytest.raises(MeasurementError, match="no_such_kernel") as caught:
            measure(device, kernel_job("no_such_kernel"), kernel_job("double"), target.measurement)
        assert "\n" not in str(caught.value)
        assert device.time(kernel_job("double"), target.measurement)

    def test_kernel_checks_its_arguments(self, device: Device, target: Target, kernel_job: Kernels) -> None:
        job = replace(kernel_job("double"), shapes=((1, 2, 3), (1, 2, 3)))
        with pytest.raises(MeasurementError, match="double"):
            device.time(job, target.measurement)

    def test_library_written_anew_is_loaded_anew(
        self, device: Device, target: Target, kernel_job: Kernels, subnet_job: SubnetJob, tmp_path: Path
    ) -> None:
        job = replace(kernel_job("double"), library=tmp_path / "changing.so")
        shutil.copy(subnet_job.library, job.library)
        with pytest.raises(MeasurementError, match="double"):
            device.time(job, target.measurement)
        shutil.copy(kernel_job("double").library, job.library)
        assert device.time(job, target.measurement)

    def test_libraries_that_are_too_large_together_go_and_come_back(
        self,
        device: Device,
        target: Target,
        kernel_job: Kernels,
        subnet_job: SubnetJob,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(rpc_caches, "LIBRARY_CACHE_BYTES", 1)
        for job in (kernel_job("double"), subnet_job, kernel_job("triple"), subnet_job):
            assert device.time(job, target.measurement)
