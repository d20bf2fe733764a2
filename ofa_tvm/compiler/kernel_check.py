"""Every kind of kernel in float64 numpy, on packed layouts: whether a device computes what it should."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ofa_tvm.compiler.layout import blocks
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.space.workload import Activation, Workload

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

REFERENCE = Workload("pointwise", 64, 64, 16, 16, activation="relu")
"""Measured before and after other jobs to see the device drift: some tens of microseconds on a large core."""


def reference_inputs(workload: Workload, machine: Machine, seed: int = 0) -> tuple[Float32Array, ...]:
    """Inputs of a kernel in its packed layouts and in its arguments' order, uniform in [-1, 1].

    The input channels that pad the last block are filled like all others: no kernel may let them leak into the outputs'
    logical channels. Weights and biases of output channels that pad it are zero, as in a network.
    """
    generator = np.random.default_rng(seed)
    template = TEMPLATES[workload.kind]
    shapes = list(template.argument_shapes(workload, machine).items())[: -template.outputs(workload)]
    arrays = {name: generator.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes}
    last = workload.out_channels - machine.lanes * (blocks(workload.out_channels, machine.lanes) - 1)
    for name in {"weight", "bias"} & arrays.keys():
        arrays[name][-1, ..., last:] = 0
    return tuple(arrays.values())


def reference_outputs(workload: Workload, machine: Machine, inputs: Sequence[Float32Array]) -> tuple[Float32Array, ...]:
    """What a kernel gives for `inputs`: its output and, if it is ``pooled``, the means of that; float64 inside.

    Channels that pad the last block are as the kernels compute them: from weights and biases of their own, which are
    zero in a network.
    """
    names = TEMPLATES[workload.kind].argument_shapes(workload, machine)
    arrays = {name: array.astype(np.float64) for name, array in zip(names, inputs, strict=False)}
    data = arrays["data"]
    if workload.kind == "pool":
        return (data.mean((1, 2), keepdims=True).astype(np.float32),)
    if workload.kind == "scale":
        return ((data * arrays["factors"]).astype(np.float32),)
    if workload.scaled:
        data = data * arrays["factors"]
    sums = _convolution(workload, data, arrays["weight"]) + arrays["bias"][:, None, None, :]
    output = _activated(sums, workload.activation) + arrays.get("residual", 0.0)
    means = (output.mean((1, 2), keepdims=True),) if workload.pooled else ()
    return tuple(array.astype(np.float32) for array in (output, *means))


def reference_output(inputs: tuple[Float32Array, ...]) -> Float32Array:
    """What the reference kernel gives for the inputs of `REFERENCE`."""
    machine = Machine(lanes=inputs[0].shape[-1], vector_registers=16, multiply_adds_per_cycle=1)
    return reference_outputs(REFERENCE, machine, inputs)[0]


def _convolution(workload: Workload, data: Float64Array, weight: Float64Array) -> Float64Array:
    """The packed sums ``(OC / v, OH, OW, v)`` of a convolution on its data as the kernel reads them."""
    if workload.kind == "depthwise":
        taps = _taps(workload, data)
        return np.asarray(sum(image * weight[:, None, None, y, x] for y, x, image in taps), dtype=np.float64)
    if workload.kind == "pointwise":  # packed as the rows of a matrix: the channels that pad the last block not read
        data = np.moveaxis(data, 3, 1).reshape(-1, *data.shape[1:3], 1)[: workload.in_channels]
        weight = weight[:, : workload.in_channels, None, None]
    else:
        data = data[0, ..., None]
    sums = sum(
        np.einsum("chw,ocl->ohwl", image[..., 0], weight[:, :, y, x], optimize=True)
        for y, x, image in _taps(workload, data)
    )
    return np.asarray(sums, dtype=np.float64)


def _taps(workload: Workload, data: Float64Array) -> Iterator[tuple[int, int, Float64Array]]:
    """Row and column of each tap, and the image ``(blocks, OH, OW, lanes)`` that it sees."""
    k, s = workload.kernel_size, workload.stride
    padded = np.pad(data, ((0, 0), (k // 2, k // 2), (k // 2, k // 2), (0, 0)))
    rows, columns = workload.output_height, workload.output_width
    for y in range(k):
        for x in range(k):
            yield y, x, padded[:, y : y + s * (rows - 1) + 1 : s, x : x + s * (columns - 1) + 1 : s]


def _activated(x: Float64Array, activation: Activation) -> Float64Array:
    sixths = np.clip(x + 3, 0, 6) / 6
    match activation:
        case "none":
            return x
        case "relu":
            return np.maximum(x, 0)
        case "relu6":
            return np.clip(x, 0, 6)
        case "h_sigmoid":
            return np.asarray(sixths)
        case "h_swish":
            return np.asarray(x * sixths)
