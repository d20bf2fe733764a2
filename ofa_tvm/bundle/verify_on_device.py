"""The same proof as `ofa_tvm.bundle.verify`, for a bundle that only another machine can run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ofa_tvm.bundle.files import check_files, load_sample
from ofa_tvm.bundle.manifest import LIBRARY, SAMPLE_INPUT, SAMPLE_OUTPUT
from ofa_tvm.bundle.verify import VerificationReport, check_budget, report
from ofa_tvm.lowering.check import relative_error
from ofa_tvm.measurement.devices import open_farm
from ofa_tvm.measurement.job import SubnetJob
from ofa_tvm.targets import Target


def verify_on_device(
    directory: Path, target: Target, tracker: str | None, say: Callable[[str], None]
) -> VerificationReport:
    """Verify a bundle on a device of a target, over TVM RPC: as `verify`, but the sample runs over there.

    Raises
    ------
    InvalidBundleError
        Something does not hold.
    MeasurementError, DeviceError
        The library does not run there, or there is no device.
    """
    manifest = check_files(directory)
    check_budget(directory, manifest)
    sample = load_sample(directory / SAMPLE_INPUT, manifest.input.shape)
    expected = load_sample(directory / SAMPLE_OUTPUT, manifest.output.shape)
    with open_farm(target, tracker, say) as farm:
        ran = farm.run(SubnetJob(directory / LIBRARY, manifest.input.shape, ()), sample)
    ran_on = ran.device + (" (emulated)" if ran.emulated else "")
    error = relative_error(expected, ran.output) if ran.output.shape == expected.shape else float("nan")
    return report(directory, manifest, error if np.isfinite(error) else None, ran_on)
