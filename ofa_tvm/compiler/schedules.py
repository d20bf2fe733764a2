"""Which parameters each kernel is compiled with, by the records of one target."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable

from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.recorded import parameters_of
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.measurement.records import RecordStore
from ofa_tvm.space.workload import Workload


class Schedules:
    """The best measured parameters of each kernel, else its template's default; as the records are now.

    A kernel's candidates are compared only as far as they were measured alike: by the target's whole protocol, and
    if any of them had cold weights, among those.

    Attributes
    ----------
    latencies_ms
        Median latency of each measured kernel with its best parameters.
    """

    def __init__(self, store: RecordStore, target: str, machine: Machine) -> None:
        self._machine = machine
        self._best: dict[Workload, Parameters] = {}
        self.latencies_ms: dict[Workload, float] = {}
        records = [record for record in store.latest_kernels(target) if not record.screening]
        cold = {record.workload for record in records if record.cold_weights}
        for record in records:
            measurement, parameters = record.measurement, parameters_of(record)
            if measurement is None or parameters is None or record.cold_weights != (record.workload in cold):
                continue
            if measurement.median_ms < self.latencies_ms.get(record.workload, float("inf")):
                self.latencies_ms[record.workload] = measurement.median_ms
                self._best[record.workload] = parameters

    def __call__(self, workload: Workload) -> Parameters:
        """The parameters to compile a kernel with."""
        return self._best.get(workload) or _modelled(workload, self._machine)

    def digest(self, workloads: Iterable[Workload]) -> str:
        """Identity of the kernels a subnet is compiled from: another one once tuning finds better parameters."""
        content = [[workload.key, self(workload).to_dict()] for workload in sorted(set(workloads))]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=1 << 14)
def _modelled(workload: Workload, machine: Machine) -> Parameters:
    """The template's default; the cost model ranks hundreds of candidates for it."""
    return TEMPLATES[workload.kind].default(workload, machine)
