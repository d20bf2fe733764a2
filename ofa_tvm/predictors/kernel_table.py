"""Kernel latencies of one device: measured ones, and estimates for kernels that were not measured."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from ofa_tvm.errors import InvalidRecordError, UsageError
from ofa_tvm.space.workload import Kind, Workload

KINDS: tuple[Kind, ...] = get_args(Kind)


class KernelTable:
    """Latency of any kernel on one device, in milliseconds.

    A kernel that was not measured is estimated from the measured ones of its kind (of every kind,
    if there is none): a fixed cost, a cost a multiply-accumulate and a cost a byte, none negative,
    with the least squared relative error.

    Raises
    ------
    UsageError
        On creation, without any measured kernel.
    InvalidRecordError
        On creation, for a latency that is not positive and finite.
    """

    def __init__(self, measured_ms: Mapping[Workload, float]) -> None:
        if not measured_ms:
            raise UsageError("no kernel was measured on this device; run profile first")
        for workload, latency_ms in measured_ms.items():
            if not (math.isfinite(latency_ms) and latency_ms > 0):
                raise InvalidRecordError(f"kernel {workload.key} measured at {latency_ms} ms; measure it again")
        self.measured_ms = dict(measured_ms)
        self._costs = {kind: _fit_costs(measured_ms, kind) for kind in KINDS}

    def latency_ms(self, workload: Workload) -> float:
        """The measured latency of a kernel, or else the estimated one."""
        measured_ms = self.measured_ms.get(workload)
        return self.estimate_ms(workload) if measured_ms is None else measured_ms

    def estimate_ms(self, workload: Workload) -> float:
        """The estimated latency of a kernel, whether it was measured or not."""
        return float(_cost_drivers([workload])[0] @ self._costs[workload.kind])

    def coverage(self, workloads: Collection[Workload]) -> float:
        """Fraction of these kernels that were measured."""
        return sum(workload in self.measured_ms for workload in workloads) / len(workloads)


def _fit_costs(measured_ms: Mapping[Workload, float], kind: Kind) -> NDArray[np.float64]:
    """Milliseconds of each cost driver, shape (3,)."""
    kernels = [workload for workload in measured_ms if workload.kind == kind] or list(measured_ms)
    # Divided by the measured latency, so that small kernels count as much as large ones.
    relative = _cost_drivers(kernels) / np.array([measured_ms[kernel] for kernel in kernels])[:, None]
    # The columns differ by many powers of ten; nnls needs them alike.
    scale = np.abs(relative).max(axis=0)
    costs, _ = nnls(relative / scale, np.ones(len(kernels)))
    return np.asarray(costs / scale, dtype=np.float64)


def _cost_drivers(kernels: Iterable[Workload]) -> NDArray[np.float64]:
    """One, multiply-accumulates and bytes of each kernel, shape (kernels, 3)."""
    return np.array([(1.0, kernel.macs, kernel.traffic_bytes) for kernel in kernels], dtype=np.float64)
