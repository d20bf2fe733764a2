from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tvm

from ofa_tvm.compiler.cold_weights import MAX_COPIES, Rotations
from ofa_tvm.compiler.kernel_check import reference_inputs, reference_outputs
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.linking import HOST_COMPILER, link_library
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import load_target

L2_BYTES = 1 << 20
HEAVY = Workload("pointwise", 240, 64, 2, 2, activation="relu", residual=True)


@pytest.fixture
def rotations(host: tvm.target.Target, machine: Machine) -> Rotations:
    return Rotations(host, machine, L2_BYTES)


def test_the_copies_do_not_fit_the_cache_together(rotations: Rotations, machine: Machine) -> None:
    rotation = rotations.of(HEAVY)
    assert rotation is not None
    weight = 4 * np.prod(TEMPLATES["pointwise"].argument_shapes(HEAVY, machine)["weight"])
    assert rotation.copies * weight >= 2 * L2_BYTES > (rotation.copies - 1) * weight


@pytest.mark.parametrize(
    "workload",
    [
        Workload("pool", 64, 64, 7, 7),  # has none
        Workload("pointwise", 16, 16, 112, 112),  # next to nothing beside the activations
        Workload("pointwise", 1280, 1000, 1, 1),  # more than twice the cache alone
    ],
)
def test_kernels_whose_weights_make_no_difference_are_timed_themselves(
    rotations: Rotations, workload: Workload
) -> None:
    assert rotations.of(workload) is None
    assert rotations.objects([workload]) == {}


def test_small_weights_are_not_copied_without_end(rotations: Rotations) -> None:
    small = rotations.of(Workload("pointwise", 16, 16, 1, 1))
    assert small is not None
    assert small.copies == MAX_COPIES


def test_it_calls_the_kernel_with_one_copy_after_the_other(
    rotations: Rotations, host: tvm.target.Target, machine: Machine, tmp_path: Path
) -> None:
    """The output is that of the last copy, and all others were read: one that is no number leaves its trace."""
    rotation = rotations.of(HEAVY)
    assert rotation is not None
    default = TEMPLATES["pointwise"].default(HEAVY, machine)
    objects = KernelObjects(host, machine).get([HEAVY], lambda _workload: default)
    link_library(tmp_path / "kernels.so", objects | rotations.objects([HEAVY]), HOST_COMPILER)
    rotate = tvm.runtime.load_module(str(tmp_path / "kernels.so"))[rotation.function]
    data, weight, *others = reference_inputs(HEAVY, machine)
    (expected,) = reference_outputs(HEAVY, machine, [data, weight, *others])
    weights = np.zeros((rotation.copies, *weight.shape), np.float32)
    weights[-1] = weight
    output = tvm.runtime.tensor(np.full_like(expected, np.nan))
    rotate(*map(tvm.runtime.tensor, (data, weights, *others)), output)
    np.testing.assert_allclose(output.numpy(), expected, atol=1e-4)
    weights[-1], weights[-2] = 0, weight
    rotate(*map(tvm.runtime.tensor, (data, weights, *others)), output)
    assert np.abs(output.numpy() - expected).max() > 0.1


def test_the_target_says_how_large_the_cache_is() -> None:
    local = load_target("local")
    small, large = (local.model_copy(update={"cpu": local.cpu.model_copy(update={"l2_kib": n})}) for n in (512, 2048))
    toolchain = Toolchain.of(local)
    assert Rotations.on(small, toolchain).of(HEAVY) != Rotations.on(large, toolchain).of(HEAVY)
    null = load_target("null")
    assert Rotations.on(null, Toolchain.of(null)).of(replace(HEAVY, height=1, width=1)) is None
