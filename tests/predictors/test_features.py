from __future__ import annotations

import numpy as np
import pytest

from ofa_tvm.errors import InvalidArchitectureError
from ofa_tvm.predictors.features import FEATURE_NAMES, LatencyFeatures
from ofa_tvm.predictors.kernel_table import KernelTable
from ofa_tvm.space.mobilenet_v3 import workloads


@pytest.fixture
def features(space, kernel_latencies_ms):
    return LatencyFeatures(space, KernelTable(kernel_latencies_ms))


def test_sums_over_the_workloads(space, draw, kernel_latencies_ms, features):
    architectures = draw(20, 0)
    matrix = features.matrix(architectures)
    assert matrix.shape == (20, len(FEATURE_NAMES))
    for row, architecture in zip(matrix, architectures, strict=True):
        named = dict(zip(FEATURE_NAMES, row, strict=True))
        kernels = workloads(space, architecture)
        total_ms = sum(kernel_latencies_ms[kernel] for kernel in kernels)
        depthwise_ms = sum(kernel_latencies_ms[kernel] for kernel in kernels if kernel.kind == "depthwise")
        assert named["kernel_sum_ms"] == pytest.approx(total_ms)
        assert named["share_depthwise"] == pytest.approx(depthwise_ms / total_ms)
        assert named["kernels"] == len(kernels)
        assert named["macs"] == sum(kernel.macs for kernel in kernels)
        assert named["traffic_bytes"] == sum(kernel.traffic_bytes for kernel in kernels)
        assert named["resolution"] == architecture.resolution
        assert tuple(named[f"depth_{stage}"] for stage in range(5)) == architecture.depths


def test_a_row_does_not_depend_on_its_neighbours(draw, features):
    architectures = draw(7, 0)
    together = features.matrix(architectures)
    np.testing.assert_allclose(together, np.vstack([features.matrix([a]) for a in architectures]), rtol=1e-12)


def test_coverage_counts_each_kernel_once(space, kernel_latencies_ms):
    assert LatencyFeatures(space, KernelTable(kernel_latencies_ms)).coverage == 1.0
    some = dict(list(kernel_latencies_ms.items())[:50])
    expected = len(some) / len(kernel_latencies_ms)
    assert LatencyFeatures(space, KernelTable(some)).coverage == pytest.approx(expected)


def test_foreign_architectures_are_refused(space, features):
    with pytest.raises(InvalidArchitectureError, match="resolution 36"):
        features.matrix([space.smallest(36)])
