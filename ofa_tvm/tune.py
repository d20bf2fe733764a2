"""Tune all kernels of a search space on a device, once for every subnet: ``python -m ofa_tvm.tune``."""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("ofa_tvm.tune")

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ofa_tvm.console import new_app, set_verbosity
from ofa_tvm.display import print_result, progress, say
from ofa_tvm.errors import UsageError
from ofa_tvm.options import (
    DryRunOption,
    EmulateOption,
    JsonOption,
    RunsOption,
    TargetOption,
    TrackerOption,
    VerboseOption,
    chosen_target,
    positive_float,
    tracker_for,
)
from ofa_tvm.reporting import Progress
from ofa_tvm.space.named import chosen_resolutions, named_space
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Workload
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.targets import Target
from ofa_tvm.workspace import DEFAULT_ROOT, Workspace

if TYPE_CHECKING:
    from ofa_tvm.compiler.tuning import Tuner
    from ofa_tvm.compiler.tuning_search import Searches, TuningSettings

_REPORT_INTERVAL_S = 10.0

app = new_app(
    """Tune the kernels of a search space on a device: afterwards every subnet compiles from tuned kernels.

    Interrupted at any moment, the same command goes on where it stopped.
    """,
    "python -m ofa_tvm.tune --target local",
    "python -m ofa_tvm.tune --target rasp4 --space mobilenet_v3_w1.0 --resolutions 160,224 --minutes 60",
    "python -m ofa_tvm.tune --target rasp4 --status",
)


@app.command()
def tune(
    target: TargetOption,
    supernet: Annotated[
        str | None, typer.Option("--supernet", help=f"A supernet's name, or its folder; default {DEFAULT_SUPERNET}.")
    ] = None,
    space: Annotated[
        str | None, typer.Option("--space", help="A search space by name instead, such as mobilenet_v3_w1.0.")
    ] = None,
    resolutions: Annotated[
        str | None, typer.Option("--resolutions", help="Only kernels of these, e.g. 160,224; default all.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Time limit; default none.", callback=positive_float)
    ] = None,
    candidates: Annotated[
        int | None, typer.Option("--candidates", min=1, help="Screen no more of a kernel's candidates than this.")
    ] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Screen all candidates of every kernel, whatever other sizes showed.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Measure nothing; print how far the tuning is.")] = False,
    runs: RunsOption = DEFAULT_ROOT,
    tracker: TrackerOption = None,
    emulate: EmulateOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Parse, search, print."""
    set_verbosity(verbose)
    device_target = chosen_target(target, emulate, tracker)
    name, chosen_space = _space(supernet, space)
    chosen = chosen_resolutions(resolutions, chosen_space)
    workspace = Workspace(runs, device_target.name, name)
    from ofa_tvm.compiler.tuning_search import TuningSettings
    from ofa_tvm.compiler.tuning_uses import kernel_uses

    settings = TuningSettings(exhaustive, candidates)
    uses = {resolution: kernel_uses(chosen_space, [resolution]) for resolution in chosen}
    if not status:
        limit = "until all are searched" if minutes is None else f"for {minutes:g} min at most"
        kernels = len(set().union(*uses.values()))
        say(f"tune {name} on {device_target.name}: {kernels} kernels of {len(chosen)} resolutions, {limit}")
        if dry_run:
            return
        options = {"target": target, "supernet": supernet, "space": space, "resolutions": chosen,
                   "minutes": minutes, "candidates": candidates, "exhaustive": exhaustive}  # fmt: skip
        workspace.write_options("tune", options)
        with tracker_for(device_target, emulate, tracker) as address:
            _tune(device_target, workspace, chosen_space, uses, settings, minutes, address)
    result = _status(device_target, workspace, chosen_space, uses, settings)
    print_result(result, as_json, _table(result))


def _space(supernet: str | None, space: str | None) -> tuple[str, SearchSpace]:
    """The name under which options are kept, and the space."""
    if space is None:
        metadata = find_supernet(supernet or DEFAULT_SUPERNET).metadata
        return metadata.name, metadata.space
    if supernet is not None:
        raise UsageError(f"--space {space} and --supernet {supernet}: leave one of them out")
    return space, named_space(space)


def _tune(
    target: Target,
    workspace: Workspace,
    space: SearchSpace,
    uses: Mapping[int, Mapping[Workload, float]],
    settings: TuningSettings,
    minutes: float | None,
    tracker: str | None,
) -> None:
    from ofa_tvm.compiler.kernel_bench import open_bench
    from ofa_tvm.compiler.tuning import Tuner

    with open_bench(target, workspace.records, tracker, say) as bench:
        deadline_s = time.monotonic() + 60 * minutes if minutes is not None else math.inf
        say(f"device: {bench.farm.name}")
        tuner = Tuner(bench, _all_uses(uses), settings)
        with progress(len(tuner.uses), "kernels", len(tuner.complete)) as bar:
            tuner.run(deadline_s, _Reporter(tuner, bar, space, max(uses)).on_done)


class _Reporter:
    """Says now and then how tuning goes."""

    def __init__(self, tuner: Tuner, bar: Progress, space: SearchSpace, resolution: int) -> None:
        self._tuner = tuner
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
        if now_s - self._said_s < _REPORT_INTERVAL_S:
            return
        from ofa_tvm.compiler.tuning_status import covered

        self._said_s = now_s
        searches, recorded = self._tuner.searches, self._tuner.recorded
        share = covered(searches, self._tuner.uses, self._tuner.complete)
        reference = _reference(searches, self._space, self._resolution)
        say(
            f"tuning: {recorded} candidates, {60 * recorded / (now_s - self._start_s):.0f} a minute; {share:.0%} of "
            f"the time covered; {reference['subnet']} {reference['expected_ms']:.4g} ms expected"
        )


def _status(
    target: Target,
    workspace: Workspace,
    space: SearchSpace,
    uses: Mapping[int, Mapping[Workload, float]],
    settings: TuningSettings,
) -> dict[str, Any]:
    from ofa_tvm.compiler.cold_weights import Rotations
    from ofa_tvm.compiler.identity import identity_of
    from ofa_tvm.compiler.toolchain import Toolchain
    from ofa_tvm.compiler.tuning_search import Searches
    from ofa_tvm.compiler.tuning_status import tuning_status
    from ofa_tvm.measurement.records import RecordStore

    toolchain = Toolchain.of(target)
    store, rotations = RecordStore(workspace.records, identity_of(target, toolchain)), Rotations.on(target, toolchain)
    searches = Searches(store, toolchain.machine, rotations, settings)
    every = _all_uses(uses)
    kinds = {kind: {w: count for w, count in every.items() if w.kind == kind} for kind in {w.kind for w in every}}
    return {
        "target": target.name,
        "space": workspace.supernet,
        "emulated": target.emulated,
        "all": tuning_status(searches, every).to_dict(),
        "kinds": {kind: tuning_status(searches, kinds[kind]).to_dict() for kind in sorted(kinds)},
        "resolutions": {str(r): tuning_status(searches, of_one).to_dict() for r, of_one in uses.items()},
        "reference": _reference(searches, space, max(uses)),
        "records": str(workspace.records),
    }


def _all_uses(uses: Mapping[int, Mapping[Workload, float]]) -> dict[Workload, float]:
    """Calls of each kernel in a random subnet of a random one of these resolutions."""
    total: dict[Workload, float] = {}
    for of_one in uses.values():
        for workload, count in of_one.items():
            total[workload] = total.get(workload, 0.0) + count / len(uses)
    return total


def _reference(searches: Searches, space: SearchSpace, resolution: int) -> dict[str, Any]:
    """The largest subnet: the sum of its kernels' latencies as known now, and how many of them are."""
    from ofa_tvm.compiler.tuning_status import expected_ms
    from ofa_tvm.space.mobilenet_v3 import workloads

    kernels = workloads(space, space.largest(resolution))
    latencies_ms = expected_ms(searches, set(kernels))
    return {
        "subnet": f"the largest subnet at {resolution} px",
        "architecture": space.largest(resolution).to_dict(),
        "expected_ms": sum(latencies_ms[kernel] for kernel in kernels),
        "kernels": len(kernels),
        "kernels_known": sum(searches.latency_ms(kernel) is not None for kernel in kernels),
    }


def _table(result: dict[str, Any]) -> Table:
    reference = result["reference"]
    known = f"{reference['kernels_known']} of its {reference['kernels']} kernels known"
    emulated = " (computed or emulated, not measured on hardware)" if result["emulated"] else ""
    expected = f"{reference['subnet']} {reference['expected_ms']:.4g} ms expected{emulated}, {known}"
    title = f"Kernels of {result['space']} on {result['target']}; {expected}"
    table = Table("", "kernels", "tuned", "candidates", "open", "failed", "covered", "gain", title=title)
    rows = {"all": result["all"], **result["kinds"], **{f"{r} px": of for r, of in result["resolutions"].items()}}
    for name, row in rows.items():
        gain = "" if row["gain"] is None else f"{row['gain']:.2f}"
        counts = (str(row[column]) for column in ("kernels", "complete", "known", "open", "failed"))
        table.add_row(name, *counts, f"{row['covered']:.0%}", gain)
    return table
