from __future__ import annotations

import pytest

from ofa_tvm.compiler.tuning_uses import kernel_uses
from ofa_tvm.space.mobilenet_v3 import all_workloads, workloads
from ofa_tvm.space.search_space import SearchSpace

SPACE = SearchSpace(0.5, 10, (32, 48))


def test_every_kernel_counts_as_often_as_subnets_call_it() -> None:
    uses = kernel_uses(SPACE, [32])
    assert set(uses) == set(all_workloads(SPACE, 32))
    assert min(uses.values()) > 0
    (first,) = {workload for workload in uses if workload.kind == "conv"}
    assert uses[first] == pytest.approx(1.0)  # every subnet calls it once
    assert 20 < sum(uses.values()) < len(workloads(SPACE, SPACE.largest(32)))
    assert kernel_uses(SPACE, [32]) == uses


def test_resolutions_count_alike() -> None:
    both, one = kernel_uses(SPACE, [32, 48]), kernel_uses(SPACE, [48])
    alone = next(workload for workload in one if workload.height == 48)
    assert both[alone] == pytest.approx(one[alone] / 2)
    shared = next(workload for workload in one if workload.height == 1 and workload.out_channels == 10)
    assert both[shared] == pytest.approx(1.0)
