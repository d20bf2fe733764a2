"""What every device must do; a new kind of device inherits these tests and says its target."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ofa_tvm.errors import DeviceUnavailableError, MeasurementError
from ofa_tvm.measurement import rpc_caches
from ofa_tvm.measurement.device import Device
from ofa_tvm.measurement.farm import Farm
from ofa_tvm.measurement.job import KernelJob, SubnetJob
from ofa_tvm.measurement.local_farm import local_farm
from ofa_tvm.measurement.protocol import Measurement
from ofa_tvm.measurement.sources import DeviceSource, LocalSource, NullSource
from ofa_tvm.targets import Target

Kernels = Callable[[str], KernelJob]
Connect = Callable[[], Device]


@pytest.fixture(scope="class")
def target(request: pytest.FixtureRequest, quick_target: Callable[..., Target]) -> Target:
    """The target that the class of tests names."""
    return quick_target(request.cls.target_name)


@pytest.fixture(scope="class")
def source(target: Target) -> Iterator[DeviceSource]:
    if target.device.kind == "null":
        yield NullSource(target)
        return
    with local_farm(target) as farm:
        yield LocalSource(target, farm, f"{target.name}: this host")


@pytest.fixture
def connect(source: DeviceSource) -> Iterator[Connect]:
    """A connection to the only device; the one before has to be closed."""
    devices: list[Device] = []

    def connect() -> Device:
        offer = source.offer()
        assert offer is not None
        devices.append(offer.connect())
        return devices[-1]

    yield connect
    for device in devices:
        device.close()


@pytest.fixture
def device(connect: Connect) -> Device:
    return connect()


@pytest.fixture
def farm(source: DeviceSource) -> Iterator[Farm]:
    farm = Farm(source, print)
    yield farm
    farm.close()


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

    def test_kernel_computes_what_numpy_does(self, device: Device, kernel_job: Kernels) -> None:
        job = kernel_job("triple")
        tensor = np.random.default_rng(2).standard_normal(job.shapes[0]).astype(np.float32)
        (output,) = device.run_kernel(job, [tensor])
        np.testing.assert_allclose(output, 3 * tensor, rtol=1e-6)

    def test_kernels_inputs_of_wrong_shape_are_refused(self, device: Device, kernel_job: Kernels) -> None:
        for inputs in ([], [np.zeros((1, 2, 3), np.float32)]):
            with pytest.raises(MeasurementError, match="kernel triple"):
                device.run_kernel(kernel_job("triple"), inputs)

    def test_versions_are_named_as_the_devices(self, device: Device) -> None:
        assert all(name.startswith("device ") for name in device.versions)

    def test_farm_measures_kernels_and_subnets(
        self, farm: Farm, target: Target, kernel_job: Kernels, subnet_job: SubnetJob
    ) -> None:
        jobs = [kernel_job("double"), subnet_job, kernel_job("triple")]
        outcomes = dict(farm.measure_many(jobs, kernel_job("double"), target.measurement))
        assert sorted(outcomes) == [0, 1, 2]
        for outcome in outcomes.values():
            assert isinstance(outcome, Measurement)
            assert outcome.min_ms <= outcome.median_ms
            assert (outcome.device, outcome.emulated) == (farm.name, farm.emulated)


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
        self, connect: Connect, target: Target, kernel_job: Kernels
    ) -> None:
        device = connect()
        with pytest.raises(MeasurementError, match="no_such_kernel") as caught:
            device.time(kernel_job("no_such_kernel"), target.measurement)
        assert "\n" not in str(caught.value)
        assert not device.is_open
        assert connect().time(kernel_job("double"), target.measurement)

    def test_closed_device_takes_no_job(self, device: Device, target: Target, kernel_job: Kernels) -> None:
        device.close()
        with pytest.raises(DeviceUnavailableError, match="closed"):
            device.time(kernel_job("double"), target.measurement)

    def test_tells_about_itself(self, device: Device) -> None:
        assert device.info is not None
        assert device.info.server == "python"
        assert device.info.cores == len(os.sched_getaffinity(0))
        assert device.versions["device apache-tvm"]

    def test_kernel_checks_its_arguments(self, device: Device, target: Target, kernel_job: Kernels) -> None:
        job = replace(kernel_job("double"), shapes=((1, 2, 3), (1, 2, 3)))
        with pytest.raises(MeasurementError, match="double"):
            device.time(job, target.measurement)

    def test_library_written_anew_is_loaded_anew(
        self, connect: Connect, target: Target, kernel_job: Kernels, subnet_job: SubnetJob, tmp_path: Path
    ) -> None:
        job = replace(kernel_job("double"), library=tmp_path / "changing.so")
        shutil.copy(subnet_job.library, job.library)
        with pytest.raises(MeasurementError, match="double"):
            connect().time(job, target.measurement)
        device = connect()
        shutil.copy(kernel_job("triple").library, job.library)
        for function in ("double", "triple"):
            assert device.time(replace(job, function=function), target.measurement)

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
