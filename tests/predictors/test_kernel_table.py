from __future__ import annotations

import numpy as np
import pytest

from ofa_tvm.errors import InvalidRecordError, UsageError
from ofa_tvm.predictors.kernel_table import KernelTable
from ofa_tvm.space.mobilenet_v3 import all_workloads
from ofa_tvm.space.workload import Workload


def cost_ms(kernel: Workload) -> float:
    fixed, per_mac = {"depthwise": (0.002, 4e-8)}.get(kernel.kind, (0.001, 2e-8))
    return fixed + per_mac * kernel.macs + 1e-7 * kernel.traffic_bytes


def test_measured_kernels_keep_their_latency():
    kernel = Workload("pointwise", 8, 16, 4, 4)
    assert KernelTable({kernel: 0.5}).latency_ms(kernel) == 0.5


def test_estimates_recover_the_costs_of_each_kind(space):
    kernels = all_workloads(space, 48)
    table = KernelTable({kernel: cost_ms(kernel) for kernel in kernels[::2]})
    for kernel in kernels[1::2]:
        if kernel.kind in ("pointwise", "depthwise"):
            assert table.latency_ms(kernel) == pytest.approx(cost_ms(kernel), rel=1e-6)


def test_estimates_are_positive_at_other_resolutions(space):
    rng = np.random.default_rng(0)
    table = KernelTable({k: cost_ms(k) * float(np.exp(rng.normal(0, 0.5))) for k in all_workloads(space, 32)})
    assert all(table.latency_ms(kernel) > 0 for kernel in all_workloads(space, 64))


def test_a_kind_never_measured_is_estimated_from_the_others():
    table = KernelTable({Workload("pointwise", 8, 16 * n, 8, 8): 0.01 * n for n in (1, 2, 4)})
    assert 0 < table.latency_ms(Workload("depthwise", 16, 16, 8, 8, 3)) < 1


def test_coverage(space):
    kernels = all_workloads(space, 32)
    table = KernelTable(dict.fromkeys(kernels[: len(kernels) // 4], 1.0))
    assert table.coverage(kernels) == pytest.approx(0.25, abs=0.01)


def test_no_measurements_say_what_to_do():
    with pytest.raises(UsageError, match="profile"):
        KernelTable({})


@pytest.mark.parametrize("latency_ms", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_latencies_are_refused(latency_ms):
    with pytest.raises(InvalidRecordError, match="pointwise_8x16"):
        KernelTable({Workload("pointwise", 8, 16, 4, 4): latency_ms})
