"""Which parameters each kernel is compiled with, by the records of one target."""

from __future__ import annotations

import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable

from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.recorded import parameters_of
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.measurement.records import KernelRecord, RecordStore
from ofa_tvm.measurement.speeds import Speeds
from ofa_tvm.space.workload import Workload


class Schedules:
    """The best measured parameters of each kernel, else the first of its template's that have not failed.

    By the records as they are now. A kernel's candidates are compared only as far as they were measured alike: by the
    target's whole protocol, and with cold weights or without as the last of them.

    Attributes
    ----------
    latencies_ms
        Median latency of each measured kernel with its best parameters, as on the slowest device (`Speeds`).
    """

    def __init__(self, store: RecordStore, machine: Machine) -> None:
        self._machine = machine
        self._best: dict[Workload, Parameters] = {}
        self._speeds = Speeds(record.measurement for record in store)
        self._failed: defaultdict[Workload, set[Parameters]] = defaultdict(set)
        self.latencies_ms: dict[Workload, float] = {}
        whole = [record for record in store.of_type(KernelRecord) if not record.screening]
        cold = {record.workload: record.cold_weights for record in whole}
        for record in store.latest_kernels():
            if record.screening and record.measurement is not None:
                continue
            if record.cold_weights == cold.get(record.workload, record.cold_weights):
                self._learn(record)

    def _learn(self, record: KernelRecord) -> None:
        workload, measurement, parameters = record.workload, record.measurement, parameters_of(record)
        if parameters is None:
            return
        if measurement is None:
            self._failed[workload].add(parameters)
        elif (latency_ms := self._speeds.comparable_ms(measurement)) < self.latencies_ms.get(workload, float("inf")):
            self.latencies_ms[workload] = latency_ms
            self._best[workload] = parameters

    def __call__(self, workload: Workload) -> Parameters:
        """The parameters to compile a kernel with."""
        if workload in self._best:
            return self._best[workload]
        default = _modelled(workload, self._machine)
        failed = self._failed.get(workload, ())
        if default not in failed:
            return default
        offered = TEMPLATES[workload.kind].candidates(workload, self._machine)
        return next((parameters for parameters in offered if parameters not in failed), default)

    def digest(self, workloads: Iterable[Workload]) -> str:
        """Identity of the kernels a subnet is compiled from: another one once tuning finds better parameters."""
        content = [[workload.key, self(workload).to_dict()] for workload in sorted(set(workloads))]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=1 << 14)
def _modelled(workload: Workload, machine: Machine) -> Parameters:
    """The template's default; the cost model ranks hundreds of candidates for it."""
    return TEMPLATES[workload.kind].default(workload, machine)
