"""How far the tuning of a space is, and what it has gained."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ofa_tvm.compiler.tuning_search import Searches
from ofa_tvm.measurement.null_device import kernel_ms
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Workload


@dataclass(frozen=True, slots=True)
class TuningStatus:
    """Of some kernels.

    Attributes
    ----------
    kernels, complete
        How many there are, and of how many the search is over.
    known, open, failed
        Candidates with a record, those still to be screened, and those with a record of a failure.
    covered
        The share of complete kernels in the time all of them take, each counted as often as subnets use it. One of
        which every candidate fails is not covered.
    gain
        How many times as long complete kernels take with the cost model's parameters; None where none is complete.
    """

    kernels: int
    complete: int
    known: int
    open: int
    failed: int
    covered: float
    gain: float | None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LargestSubnet:
    """The largest subnet of a resolution, by what is known of its kernels.

    Attributes
    ----------
    expected_ms
        The sum of their latencies.
    kernels, kernels_known
        How many there are, and how many of them have a latency on record.
    """

    architecture: Architecture
    expected_ms: float
    kernels: int
    kernels_known: int

    def __str__(self) -> str:
        return f"the largest subnet at {self.architecture.resolution} px"

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "subnet": str(self),
            "architecture": self.architecture.to_dict(),
            "expected_ms": self.expected_ms,
            "kernels": self.kernels,
            "kernels_known": self.kernels_known,
        }


def largest_subnet(searches: Searches, space: SearchSpace, resolution: int) -> LargestSubnet:
    """What the largest subnet of a resolution should take, as known now."""
    architecture = space.largest(resolution)
    kernels = workloads(space, architecture)
    latencies_ms = expected_ms(searches, set(kernels))
    return LargestSubnet(
        architecture,
        expected_ms=sum(latencies_ms[kernel] for kernel in kernels),
        kernels=len(kernels),
        kernels_known=sum(searches.latency_ms(kernel) is not None for kernel in kernels),
    )


def tuning_status(searches: Searches, uses: Mapping[Workload, float]) -> TuningStatus:
    """The status of the kernels in `uses`, which says how often each is called."""
    complete = [workload for workload in uses if searches.is_complete(workload)]
    return TuningStatus(
        kernels=len(uses),
        complete=len(complete),
        known=sum(map(searches.tried, uses)),
        open=sum(map(searches.open, uses)),
        failed=sum(map(searches.failed, uses)),
        covered=covered(searches, uses, complete),
        gain=_gain(searches, uses, complete),
    )


def covered(searches: Searches, uses: Mapping[Workload, float], complete: Iterable[Workload]) -> float:
    """The share of the complete kernels in the time of all."""
    latencies_ms = expected_ms(searches, uses)
    done = {workload for workload in complete if searches.latency_ms(workload) is not None}
    total = sum(uses[w] * latencies_ms[w] for w in uses)
    return sum(uses[w] * latencies_ms[w] for w in uses if w in done) / total if total else 1.0


def expected_ms(searches: Searches, workloads: Iterable[Workload]) -> dict[Workload, float]:
    """Latency of each kernel as known now; where nothing is, by a roofline as its kind has compared with it."""
    wanted = list(workloads)
    found = {w: ms for w in wanted if (ms := searches.latency_ms(w)) is not None}
    ratios = {
        kind: [ms / kernel_ms(w) for w, ms in found.items() if w.kind == kind] for kind in {w.kind for w in wanted}
    }
    everything = [ratio for known in ratios.values() for ratio in known] or [1.0]
    pace = {kind: statistics.median(known or everything) for kind, known in ratios.items()}
    return {w: found.get(w) or pace[w.kind] * kernel_ms(w) for w in wanted}


def _gain(searches: Searches, uses: Mapping[Workload, float], complete: Iterable[Workload]) -> float | None:
    modelled_ms = tuned_ms = 0.0
    for workload in complete:
        before, after = searches.latency_ms(workload, searches.candidates(workload)[0]), searches.latency_ms(workload)
        if before is not None and after is not None:
            modelled_ms += uses[workload] * before
            tuned_ms += uses[workload] * after
    return modelled_ms / tuned_ms if tuned_ms else None
