"""The search for a kernel's parameters, as far as the records have it: what to measure next, and when it is over.

First all candidates are screened with a few samples each, then the best of them are measured by the target's whole
protocol; the fastest of these is what the kernel is compiled with. The state of a search is in the records alone, so
that it goes on wherever it was left.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from ofa_tvm.compiler.cold_weights import Rotations
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.recorded import parameters_of
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.measurement.protocol import Measurement
from ofa_tvm.measurement.records import KernelRecord, RecordStore
from ofa_tvm.measurement.speeds import Speeds
from ofa_tvm.space.workload import Workload

FINALISTS = 3
"""Candidates measured by the whole protocol: screening ranks those that are nearly alike by chance."""
SEEDED = 8
"""Candidates screened of a kernel that others like it have shown the way."""
TEACHERS = 2
FARTHEST_TEACHER = 1.5
"""In `distance`: up to twice the side of the image, or twice the channels in and out at half as many pixels again."""


@dataclass(frozen=True, slots=True)
class TuningSettings:
    """How thoroughly to search.

    Attributes
    ----------
    exhaustive
        Screen all candidates, whatever other sizes have shown.
    candidates
        Screen no more of a kernel's; None for no such limit.
    """

    exhaustive: bool = False
    candidates: int | None = None


@dataclass(slots=True)
class _Known:
    """Median latencies by parameters, as on the slowest device (`Speeds`); None for what failed."""

    screened: dict[Parameters, float | None] = field(default_factory=dict)
    measured: dict[Parameters, float | None] = field(default_factory=dict)

    def __contains__(self, parameters: Parameters) -> bool:
        return parameters in self.screened or parameters in self.measured

    def ranking(self) -> list[Parameters]:
        """What works, fastest first as screened, or as measured where it was not screened."""
        latencies_ms = {**self.measured, **self.screened}
        failed = self.failures()
        working = {p: ms for p, ms in latencies_ms.items() if ms is not None and p not in failed}
        return sorted(working, key=working.__getitem__)

    def best_first(self) -> list[Parameters]:
        """The measured ones by their measurements, then the others as screened."""
        measured = {p: ms for p, ms in self.measured.items() if ms is not None}
        order = sorted(measured, key=measured.__getitem__)
        return [*order, *(p for p in self.ranking() if p not in measured)]

    def failures(self) -> set[Parameters]:
        """What failed."""
        return {p for outcomes in (self.measured, self.screened) for p, ms in outcomes.items() if ms is None}


class Searches:
    """The searches of all kernels on one target; `refresh` takes in what was recorded since.

    Parameters
    ----------
    store
        Records of the target; those of kernels count that were measured as `rotations` has it.
    """

    def __init__(self, store: RecordStore, machine: Machine, rotations: Rotations, settings: TuningSettings) -> None:
        self._store = store
        self._machine = machine
        self._rotations = rotations
        self._settings = settings
        self._speeds = Speeds()
        self._outcomes: defaultdict[Workload, dict[tuple[Parameters, bool], Measurement | None]] = defaultdict(dict)
        self._known: defaultdict[Workload, _Known] = defaultdict(_Known)
        self._candidates: dict[Workload, list[Parameters]] = {}
        self._plans: defaultdict[Workload, dict[Workload, list[Parameters]]] = defaultdict(dict)  # by kin
        self._settled: defaultdict[Workload, set[Workload]] = defaultdict(set)
        self._seen = 0
        self.refresh()

    def refresh(self) -> None:
        """Read the records that are new."""
        for record in itertools.islice(self._store, self._seen, None):
            self._speeds.learn(record.measurement)
        touched = set()
        for record in itertools.islice(self._store, self._seen, None):
            if not isinstance(record, KernelRecord):
                continue
            if record.cold_weights != (self._rotations.of(record.workload) is not None):
                continue
            parameters = parameters_of(record)
            if parameters is None:
                continue
            self._outcomes[record.workload][parameters, record.screening] = record.measurement
            touched.add(record.workload)
        self._seen = len(self._store)
        for workload in touched:
            self._known[workload] = self._compare(workload)
            self._note_whether_settled(workload)

    def candidates(self, workload: Workload) -> list[Parameters]:
        """All that the kernel's template offers, the cost model's pick first."""
        if workload not in self._candidates:
            self._candidates[workload] = TEMPLATES[workload.kind].candidates(workload, self._machine)
        return self._candidates[workload]

    def tried(self, workload: Workload) -> int:
        """Candidates with a record; the template may have offered others, earlier."""
        known = self._known[workload]
        return sum(parameters in known for parameters in self.candidates(workload))

    def failed(self, workload: Workload) -> int:
        """Candidates that failed."""
        return len(self._known[workload].failures() & {*self.candidates(workload)})

    def needed(self, workload: Workload) -> int:
        """Candidates that have to be known before any is measured by the whole protocol."""
        everything = min(len(self.candidates(workload)), self._settings.candidates or math.inf)
        seeded = not self._settings.exhaustive and bool(self._teachers(workload))
        return int(min(everything, SEEDED) if seeded else everything)

    def open(self, workload: Workload) -> int:
        """Candidates that are still to be screened."""
        return max(0, self.needed(workload) - self.tried(workload))

    def next_to_screen(self, workload: Workload) -> Parameters | None:
        """The most promising candidate without a record, until there are enough."""
        if not self.open(workload):
            return None
        known, plans = self._known[workload], self._plans[kin(workload)]
        if workload not in plans:
            plans[workload] = list(self._plan(workload))
        return next((p for p in plans[workload] if p not in known), None)

    def next_to_measure(self, workload: Workload) -> Parameters | None:
        """The first of the best candidates that was only screened."""
        known = self._known[workload]
        return next((p for p in known.ranking()[:FINALISTS] if p not in known.measured), None)

    def is_complete(self, workload: Workload) -> bool:
        """Whether nothing is left to measure."""
        return bool(self.tried(workload)) and not self.open(workload) and self.next_to_measure(workload) is None

    def has_teachers(self, workload: Workload) -> bool:
        """Whether kernels like it have been searched, so that few of its own candidates need be."""
        return bool(self._teachers(workload))

    def latency_ms(self, workload: Workload, parameters: Parameters | None = None) -> float | None:
        """As measured, else as screened; of the best parameters if none are given. None where they failed."""
        known = self._known[workload]
        if parameters is None:
            parameters = next(iter(known.best_first()), None)
        if parameters is None:
            return None
        return known.measured[parameters] if parameters in known.measured else known.screened.get(parameters)

    def measured_ms(self, workload: Workload) -> float | None:
        """Of the fastest parameters measured by the whole protocol, which the kernel is compiled with."""
        return min(filter(None, self._known[workload].measured.values()), default=None)

    def _compare(self, workload: Workload) -> _Known:
        """All that was measured of a kernel, by what is known of the devices' speeds now."""
        known = _Known()
        for (parameters, screening), measurement in self._outcomes[workload].items():
            latencies_ms = known.screened if screening else known.measured
            latencies_ms[parameters] = None if measurement is None else self._speeds.comparable_ms(measurement)
        return known

    def _plan(self, workload: Workload) -> Iterator[Parameters]:
        """Candidates in the order in which to screen them, without repetition."""
        candidates = self.candidates(workload)
        suggested = [] if self._settings.exhaustive else list(filter(None, self._suggestions(workload)))
        yield from dict.fromkeys([*suggested[:1], candidates[0], *suggested[1:], *candidates])

    def _suggestions(self, workload: Workload) -> Iterator[Parameters | None]:
        """What did best for kernels like it, as near to that as its own candidates come; best first."""
        rankings = [self._known[teacher].best_first()[:SEEDED] for teacher in self._teachers(workload)]
        for rank in itertools.zip_longest(*rankings):
            yield from (closest(seed, self.candidates(workload)) for seed in rank if seed is not None)

    def _teachers(self, workload: Workload) -> list[Workload]:
        """Its nearest kin that has been searched."""
        near = ((distance(w, workload), w) for w in self._settled[kin(workload)] if w != workload)
        return [w for far, w in sorted(near)[:TEACHERS] if far <= FARTHEST_TEACHER]

    def _note_whether_settled(self, workload: Workload) -> None:
        """Whether it can show its kin the way; plans made before they knew are made again."""
        settled = self._settled[kin(workload)]
        if self._is_settled(workload) != (workload in settled):
            settled ^= {workload}
            self._plans.pop(kin(workload), None)

    def _is_settled(self, workload: Workload) -> bool:
        """Whether a search is over, or was when fewer candidates were asked for."""
        enough = min(SEEDED, len(self.candidates(workload)))
        return self.tried(workload) >= enough and self.next_to_measure(workload) is None


def kin(workload: Workload) -> Workload:
    """What kernels have in common that learn from each other: all but sizes and epilogue."""
    return replace(workload, in_channels=1, out_channels=1, height=1, width=1, activation="none", residual=False)


def distance(one: Workload, other: Workload) -> float:
    """How far apart the sizes of two kernels are: in pixels, and half as much in the channels at either end."""

    def apart(size: int, other_size: int) -> float:
        return abs(math.log(size / other_size))

    channels = apart(one.in_channels, other.in_channels) + apart(one.out_channels, other.out_channels)
    return apart(one.height * one.width, other.height * other.width) + channels / 2


def can_teach(one: Workload, other: Workload) -> bool:
    """Whether what is best for one kernel should do well for the other."""
    return kin(one) == kin(other) and distance(one, other) <= FARTHEST_TEACHER


def closest(seed: Parameters, candidates: Sequence[Parameters]) -> Parameters | None:
    """The candidate that differs from the seed in the size of the tile alone, and in that least; None if all do more.

    Tiles of other sizes fit images of other sizes, and what else was found best stays so.
    """
    alike = [p for p in candidates if replace(p, tile_pixels=seed.tile_pixels) == seed]
    return min(alike, key=lambda p: abs(math.log(p.tile_pixels / seed.tile_pixels)), default=None)
