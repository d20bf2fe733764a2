"""The reference kernel against numpy: whether a device computes what it should."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.space.workload import Workload

Float32Array = npt.NDArray[np.float32]

REFERENCE = Workload("pointwise", 64, 64, 16, 16, activation="relu")
"""Measured before and after other jobs to see the device drift: some tens of microseconds on a large core."""


def reference_inputs(machine: Machine, seed: int = 0) -> tuple[Float32Array, ...]:
    """Data, weight and bias of the reference kernel in its packed layouts, uniform in [-1, 1]."""
    generator = np.random.default_rng(seed)
    *inputs, _output = TEMPLATES[REFERENCE.kind].argument_shapes(REFERENCE, machine).values()
    return tuple(generator.uniform(-1, 1, shape).astype(np.float32) for shape in inputs)


def reference_output(inputs: tuple[Float32Array, ...]) -> Float32Array:
    """What the reference kernel gives for `reference_inputs`: a matrix product, a bias and relu, in float64 inside."""
    data, weight, bias = (array.astype(np.float64) for array in inputs)
    channels = np.moveaxis(data, 3, 1).reshape(-1, *data.shape[1:3])  # (C / v, H, W, v) as (C, H, W)
    sums = np.einsum("chw,ocl->ohwl", channels, weight) + bias[:, None, None, :]
    return np.asarray(np.maximum(sums, 0), dtype=np.float32)
