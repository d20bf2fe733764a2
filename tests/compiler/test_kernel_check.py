from __future__ import annotations

import numpy as np
import pytest
import tvm

from ofa_tvm.compiler.kernel_bench import REFERENCE
from ofa_tvm.compiler.kernel_check import reference_inputs, reference_output
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import TEMPLATES, kernel_module
from ofa_tvm.lowering.check import check_outputs


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_the_reference_kernel_agrees_with_numpy(host: tvm.target.Target, lanes: int) -> None:
    machine = Machine(lanes=lanes, vector_registers=16, multiply_adds_per_cycle=1)
    parameters = TEMPLATES[REFERENCE.kind].default(REFERENCE, machine)
    kernel = tvm.compile(kernel_module([("kernel", REFERENCE, parameters)], machine), host)["kernel"]
    inputs = reference_inputs(machine)
    expected = reference_output(inputs)
    output = tvm.runtime.tensor(np.full(expected.shape, np.nan, np.float32))
    kernel(*map(tvm.runtime.tensor, inputs), output)
    assert check_outputs("kernel", expected, output.numpy()) < 1e-5


def test_inputs_follow_from_the_seed() -> None:
    machine = Machine(lanes=8, vector_registers=16, multiply_adds_per_cycle=1)
    first, again, other = (reference_inputs(machine, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
