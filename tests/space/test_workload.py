from __future__ import annotations

import pytest

from ofa_tvm.errors import InvalidArchitectureError
from ofa_tvm.space.workload import Workload


def test_macs_and_bytes_by_hand():
    conv = Workload("conv", 3, 16, 32, 32, 3, 2)
    assert (conv.output_height, conv.output_width) == (16, 16)
    assert conv.macs == 16 * 16 * 16 * 3 * 9
    assert conv.traffic_bytes == 4 * (3 * 32 * 32 + 16 * (27 + 1) + 16 * 16 * 16)
    depthwise = Workload("depthwise", 8, 8, 11, 11, 5, 2)
    assert depthwise.output_height == 6
    assert depthwise.macs == 8 * 36 * 25
    pool = Workload("pool", 8, 8, 4, 4)
    assert (pool.output_height, pool.output_width, pool.macs) == (1, 1, 8 * 16)
    assert pool.traffic_bytes == 4 * (8 * 16 + 8)


def test_a_residual_is_read_too():
    plain, residual = (Workload("pointwise", 8, 8, 4, 4, residual=r) for r in (False, True))
    assert residual.traffic_bytes - plain.traffic_bytes == 4 * 8 * 16
    assert residual.key != plain.key


@pytest.mark.parametrize(("kind", "name"), [("pointwise", "scaled"), ("depthwise", "pooled")])
def test_what_is_taken_in_reads_or_writes_a_vector_more(kind, name):
    plain, more = (Workload(kind, 8, 8, 4, 4, **{name: value}) for value in (False, True))
    assert more.traffic_bytes - plain.traffic_bytes == 4 * 8
    assert more.macs == plain.macs
    assert more.key == f"{plain.key}_{name}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "dense"},
        {"activation": "gelu"},
        {"in_channels": 0},
        {"kernel_size": 4},
        {"stride": 0},
        {"kind": "depthwise", "out_channels": 16},
        {"kind": "depthwise", "scaled": True},
        {"pooled": True},
    ],
)
def test_workloads_that_are_none(wrong):
    right = {"kind": "pointwise", "in_channels": 8, "out_channels": 8, "height": 4, "width": 4}
    Workload(**right)
    with pytest.raises(InvalidArchitectureError):
        Workload(**(right | wrong))
