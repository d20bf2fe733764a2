from __future__ import annotations

import pytest

from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.space.workload import Workload

AVX2 = Machine(lanes=8, vector_registers=16, multiply_adds_per_cycle=2)


@pytest.mark.parametrize(
    "workload",
    [
        Workload("pointwise", 24, 96, 42, 42, activation="relu"),
        Workload("pointwise", 40, 240, 21, 21, activation="relu"),
        Workload("pointwise", 80, 320, 11, 11, activation="h_swish"),
        Workload("pointwise", 112, 672, 11, 11, activation="h_swish"),
    ],
    ids=lambda workload: workload.key,
)
def test_with_few_registers_tiles_are_nearly_square(workload: Workload) -> None:
    """Twelve sums, as 2 pixels of 6 blocks have, too, which load 8 vectors a step and take 6 to 8% longer."""
    pick = TEMPLATES["pointwise"].default(workload, AVX2)
    assert pick.tile_pixels * pick.tile_blocks == 12
    assert pick.tile_pixels + pick.tile_blocks == 7


def test_blocks_of_a_dense_convolution_share_its_inputs() -> None:
    """Four pixels of two blocks fit 16 registers, though each sum of its own input would not."""
    pick = TEMPLATES["conv"].default(Workload("conv", 3, 16, 168, 168, 3, 2, "h_swish"), AVX2)
    assert (pick.tile_pixels, pick.tile_blocks) == (4, 2)
