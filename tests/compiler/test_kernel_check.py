from __future__ import annotations

import numpy as np
import pytest
import tvm

from ofa_tvm.compiler.kernel_check import REFERENCE, reference_inputs, reference_outputs
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import TEMPLATES, kernel_module
from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.space.workload import Workload

MACHINE = Machine(lanes=4, vector_registers=16, multiply_adds_per_cycle=1)


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_the_reference_kernel_agrees_with_numpy(host: tvm.target.Target, lanes: int) -> None:
    machine = Machine(lanes=lanes, vector_registers=16, multiply_adds_per_cycle=1)
    parameters = TEMPLATES[REFERENCE.kind].default(REFERENCE, machine)
    kernel = tvm.compile(kernel_module([("kernel", REFERENCE, parameters)], machine), host)["kernel"]
    inputs = reference_inputs(REFERENCE, machine)
    (expected,) = reference_outputs(REFERENCE, machine, inputs)
    output = tvm.runtime.tensor(np.full(expected.shape, np.nan, np.float32))
    kernel(*map(tvm.runtime.tensor, inputs), output)
    assert check_outputs("kernel", expected, output.numpy()) < 1e-5


def test_inputs_follow_from_the_seed() -> None:
    first, again, other = (reference_inputs(REFERENCE, MACHINE, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize(
    "workload",
    [
        Workload("conv", 3, 6, 5, 4, 3, 2, "h_swish", True),
        Workload("pointwise", 6, 10, 3, 4, 1, 2, "relu6", True, scaled=True),
        Workload("pointwise", 6, 5, 1, 1, activation="h_sigmoid"),
        Workload("depthwise", 6, 6, 4, 5, 5, 2, "relu", pooled=True),
        Workload("depthwise", 6, 6, 4, 3, 3, 1, "h_swish", True),
        Workload("pool", 6, 6, 3, 4),
        Workload("scale", 6, 6, 3, 4),
    ],
    ids=lambda workload: workload.key,
)
def test_each_element_written_out(workload: Workload) -> None:
    """One loop over the sum of one output element at a time, with nothing in common with the arrays' way."""
    shapes = TEMPLATES[workload.kind].argument_shapes(workload, MACHINE)
    inputs = reference_inputs(workload, MACHINE)
    outputs = reference_outputs(workload, MACHINE, inputs)
    assert [array.shape for array in (*inputs, *outputs)] == list(shapes.values())
    named = dict(zip(shapes, inputs, strict=False))
    computed = np.zeros((workload.out_channels, workload.output_height, workload.output_width))
    for channel, y, x in np.ndindex(computed.shape):
        computed[channel, y, x] = _element(workload, named, channel, y, x)
    for channel in range(workload.out_channels):
        block, lane = divmod(channel, MACHINE.lanes)
        np.testing.assert_allclose(outputs[0][block, ..., lane], computed[channel], rtol=1e-5, atol=1e-6)
        if workload.pooled:
            np.testing.assert_allclose(outputs[1][block, 0, 0, lane], computed[channel].mean(), rtol=1e-5, atol=1e-6)


def _element(workload: Workload, named: dict[str, np.ndarray], channel: int, y: int, x: int) -> float:
    block, lane = divmod(channel, MACHINE.lanes)

    def image(of: int, row: int, column: int) -> float:
        if not (0 <= row < workload.height and 0 <= column < workload.width):
            return 0.0
        if workload.kind == "conv":
            return float(named["data"][0, of, row, column])
        of_block, of_lane = divmod(of, MACHINE.lanes)
        factor = named["factors"][of_block, 0, 0, of_lane] if "factors" in named else 1.0
        return float(named["data"][of_block, row, column, of_lane] * factor)

    if workload.kind == "pool":
        pixels = [image(channel, row, column) for row in range(workload.height) for column in range(workload.width)]
        return sum(pixels) / len(pixels)
    if workload.kind == "scale":
        return image(channel, y, x)
    total, half = float(named["bias"][block, lane]), workload.kernel_size // 2
    for of in [channel] if workload.kind == "depthwise" else range(workload.in_channels):
        for row, column in np.ndindex(workload.kernel_size, workload.kernel_size):
            place = {"pointwise": (of,), "depthwise": (row, column), "conv": (of, row, column)}[workload.kind]
            seen = image(of, y * workload.stride - half + row, x * workload.stride - half + column)
            total += seen * float(named["weight"][(block, *place, lane)])
    sixths = min(max(total + 3, 0), 6) / 6
    result = {
        "none": total,
        "relu": max(total, 0),
        "relu6": min(max(total, 0), 6),
        "h_swish": total * sixths,
        "h_sigmoid": sixths,
    }[workload.activation]
    return result + (float(named["residual"][block, y, x, lane]) if workload.residual else 0.0)
