"""The tuning of a search space on a target's devices: running it, and telling how far it is."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.compiler.cold_weights import Rotations
from ofa_tvm.compiler.identity import identity_of
from ofa_tvm.compiler.open_bench import open_bench
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.compiler.tuning import Tuner
from ofa_tvm.compiler.tuning_search import Searches, TuningSettings
from ofa_tvm.compiler.tuning_status import LargestSubnet, TuningStatus, covered, largest_subnet, tuning_status
from ofa_tvm.compiler.tuning_uses import kernel_uses, mean_uses
from ofa_tvm.measurement.records import RecordStore
from ofa_tvm.reporting import Progress, Reporter
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.targets import Target

REPORT_INTERVAL_S = 10.0


@dataclass(frozen=True, slots=True)
class SpaceStatus:
    """How far the tuning of a space is: of all kernels, by their kind, by resolution, and of its largest subnet."""

    all: TuningStatus
    kinds: Mapping[str, TuningStatus]
    resolutions: Mapping[int, TuningStatus]
    largest: LargestSubnet


class SpaceTuning:
    """All kernels of some resolutions of a space, on one target.

    Parameters
    ----------
    records
        The file of the target's records.
    """

    def __init__(
        self, target: Target, space: SearchSpace, resolutions: Sequence[int], records: Path, settings: TuningSettings
    ) -> None:
        self._target = target
        self._space = space
        self._records = records
        self._settings = settings
        self._uses = {resolution: kernel_uses(space, [resolution]) for resolution in resolutions}
        self._mean_uses = mean_uses(self._uses.values())

    @property
    def kernels(self) -> int:
        """How many there are."""
        return len(self._mean_uses)

    def run(self, reporter: Reporter, tracker: str | None = None, minutes: float | None = None) -> None:
        """Search until all searches are over, or time is up.

        Parameters
        ----------
        tracker
            Its address; None for a target that needs none.
        minutes
            Time limit, from when the devices are at hand; None for none.

        Raises
        ------
        InvalidTargetError, InvalidRecordError, UsageError
            As `open_bench`.
        CompileError, NumericalMismatchError, MeasurementError, DeviceError, OutputError
            As `open_bench` and `KernelBench.measure`.
        """
        with open_bench(self._target, self._records, tracker, reporter.say) as bench:
            deadline_s = math.inf if minutes is None else time.monotonic() + 60 * minutes
            reporter.say(f"device: {bench.farm.name}")
            tuner = Tuner(bench, self._mean_uses, self._settings)
            with reporter.progress(len(tuner.uses), "kernels", len(tuner.complete)) as bar:
                tuner.run(deadline_s, _Account(tuner, reporter, bar, self._space, max(self._uses)).on_done)

    def status(self) -> SpaceStatus:
        """How far it is, by the records; no device is asked.

        Raises
        ------
        InvalidTargetError, CompileError
            As `Toolchain.of`.
        InvalidRecordError
            As `RecordStore`.
        """
        toolchain = Toolchain.of(self._target)
        store = RecordStore(self._records, identity_of(self._target, toolchain))
        searches = Searches(store, toolchain.machine, Rotations.on(self._target, toolchain), self._settings)
        every = self._mean_uses
        kinds = {kind: {w: count for w, count in every.items() if w.kind == kind} for kind in {w.kind for w in every}}
        return SpaceStatus(
            all=tuning_status(searches, every),
            kinds={kind: tuning_status(searches, kinds[kind]) for kind in sorted(kinds)},
            resolutions={resolution: tuning_status(searches, uses) for resolution, uses in self._uses.items()},
            largest=largest_subnet(searches, self._space, max(self._uses)),
        )


class _Account:
    """Tells now and then how tuning goes."""

    def __init__(self, tuner: Tuner, reporter: Reporter, bar: Progress, space: SearchSpace, resolution: int) -> None:
        self._tuner = tuner
        self._reporter = reporter
        self._bar = bar
        self._space = space
        self._resolution = resolution
        self._complete = len(tuner.complete)
        self._start_s = self._said_s = time.monotonic()

    def on_done(self, _count: int) -> None:
        """After every few outcomes."""
        complete = len(self._tuner.complete)
        self._bar.advance(complete - self._complete)
        self._complete = complete
        now_s = time.monotonic()
        if now_s - self._said_s < REPORT_INTERVAL_S:
            return
        self._said_s = now_s
        searches, recorded, uses = self._tuner.searches, self._tuner.recorded, self._tuner.uses
        largest = largest_subnet(searches, self._space, self._resolution)
        self._reporter.say(
            f"tuning: {recorded} candidates, {60 * recorded / (now_s - self._start_s):.0f} a minute; "
            f"{covered(searches, uses, self._tuner.complete):.0%} of the time covered; "
            f"{largest} {largest.expected_ms:.4g} ms expected"
        )
