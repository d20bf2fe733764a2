"""Features of the latency predictor: what a subnet's kernels cost by themselves, and its shape."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.predictors.kernel_table import KINDS, KernelTable
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.mobilenet_v3 import all_workloads, workloads
from ofa_tvm.space.search_space import NUM_STAGES, SearchSpace
from ofa_tvm.space.workload import Workload

FEATURE_NAMES: tuple[str, ...] = (
    "kernel_sum_ms",
    "kernels",
    *(f"share_{kind}" for kind in KINDS),
    "macs",
    "traffic_bytes",
    "macs_per_byte",
    "mean_kernel_ms",
    "resolution",
    *(f"depth_{stage}" for stage in range(NUM_STAGES)),
)
KERNEL_SUM, KERNELS = FEATURE_NAMES.index("kernel_sum_ms"), FEATURE_NAMES.index("kernels")


class LatencyFeatures:
    """Turns architectures of one space into features, by way of one device's kernel latencies.

    What a kernel contributes is looked up once for every kernel of the space, so that the features
    of the hundred architectures of a search's generation take a few milliseconds.
    """

    def __init__(self, space: SearchSpace, table: KernelTable) -> None:
        self._space = space
        kernels = list(dict.fromkeys(k for size in space.resolutions for k in all_workloads(space, size)))
        self._row = {kernel: row for row, kernel in enumerate(kernels)}
        self._contributions = np.array([_contribution(table, kernel) for kernel in kernels])
        self.coverage = table.coverage(kernels)

    def matrix(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Features, shape (architectures, len(FEATURE_NAMES)).

        Raises
        ------
        InvalidArchitectureError
            An architecture lies outside the space.
        """
        if not architectures:
            return np.empty((0, len(FEATURE_NAMES)))
        totals = self._totals(architectures)
        by_kind, kernels, macs, traffic = np.split(totals, [len(KINDS), len(KINDS) + 1, len(KINDS) + 2], axis=1)
        kernel_sum = by_kind.sum(axis=1, keepdims=True)
        shape = np.array([(a.resolution, *a.depths) for a in architectures], dtype=np.float64)
        return np.hstack(
            [
                kernel_sum,
                kernels,
                by_kind / kernel_sum,
                macs,
                traffic,
                macs / traffic,
                kernel_sum / kernels,
                shape,
            ]
        )

    def _totals(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Sums over the kernels of each architecture, shape (architectures, kinds + 3)."""
        rows: list[int] = []
        starts = []
        for architecture in architectures:
            self._space.check(architecture)
            starts.append(len(rows))
            rows += [self._row[kernel] for kernel in workloads(self._space, architecture)]
        return np.add.reduceat(self._contributions[rows], starts, axis=0)


def _contribution(table: KernelTable, kernel: Workload) -> list[float]:
    """Latency in the column of the kernel's kind, then 1, multiply-accumulates and bytes."""
    latency_ms = table.latency_ms(kernel)
    return [latency_ms * (kernel.kind == kind) for kind in KINDS] + [1.0, kernel.macs, kernel.traffic_bytes]
