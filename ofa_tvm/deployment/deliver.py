"""The bundle of a measured subnet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ofa_tvm.bundle.files import check_files
from ofa_tvm.bundle.manifest import (
    AccuracySection,
    Contents,
    InputSection,
    LatencySection,
    Manifest,
    MeasuredLatency,
    OutputSection,
    SupernetSection,
)
from ofa_tvm.bundle.verify import verify
from ofa_tvm.bundle.write import target_record, write_bundle
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.deployment.attempt import Attempt
from ofa_tvm.lowering.check import TOLERANCE
from ofa_tvm.lowering.onnx_export import INPUT_NAME, OUTPUT_NAME
from ofa_tvm.supernet.metadata import SupernetMetadata
from ofa_tvm.targets import Target


def deliver(
    attempt: Attempt,
    budget_ms: float,
    metadata: SupernetMetadata,
    target: Target,
    toolchain: Toolchain,
    directory: Path,
    overwrite: bool,
) -> Manifest:
    """Write the bundle of an attempt, verified as far as this host can.

    Raises
    ------
    OutputError, InvalidBundleError
        As `write_bundle`.
    """
    sample_image = attempt.library.with_suffix(".png")
    Image.fromarray(_pixels(attempt.lowered.sample_input[0], metadata)).save(sample_image)
    return write_bundle(
        directory,
        _contents(attempt, budget_ms, metadata, target, toolchain),
        attempt.library,
        attempt.lowered.sample_input,
        attempt.lowered.sample_output,
        sample_image,
        overwrite=overwrite,
        check=verify if target.tvm_target == "host" else check_files,
    )


def _pixels(image: NDArray[np.float32], metadata: SupernetMetadata) -> NDArray[np.uint8]:
    """The normalised image (3, R, R) as RGB pixels (R, R, 3)."""
    scaled = image.transpose(1, 2, 0) * np.array(metadata.std) + np.array(metadata.mean)
    return np.asarray(np.rint(scaled.clip(0, 1) * 255), dtype=np.uint8)


def _contents(
    attempt: Attempt, budget_ms: float, metadata: SupernetMetadata, target: Target, toolchain: Toolchain
) -> Contents:
    architecture, measurement = attempt.candidate.architecture, attempt.measurement
    return Contents(
        target=target_record(target.name, toolchain.tvm_target, target.emulated),
        architecture=architecture.to_dict(),
        search_space=metadata.search_space,
        supernet=SupernetSection(name=metadata.name, weights_sha256=metadata.weights_sha256),
        input=InputSection(
            name=INPUT_NAME,
            shape=(1, 3, architecture.resolution, architecture.resolution),
            mean=metadata.mean,
            std=metadata.std,
        ),
        output=OutputSection(name=OUTPUT_NAME, shape=(1, attempt.lowered.sample_output.shape[1])),
        class_names=metadata.class_names,
        latency=LatencySection(
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
        accuracy=AccuracySection(
            predicted=min(1.0, max(0.0, attempt.candidate.predicted_accuracy)),
            measured=attempt.accuracy.accuracy,
            images=attempt.accuracy.images,
        ),
        tolerance=TOLERANCE,
    )
