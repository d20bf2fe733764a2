"""Tune all kernels of a search space on a device, once for every subnet: ``python -m ofa_tvm.tune``."""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("ofa_tvm.tune")

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ofa_tvm.console import new_app, set_verbosity
from ofa_tvm.display import TERMINAL, print_result, say
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
from ofa_tvm.space.named import chosen_resolutions, named_space
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.targets import Target
from ofa_tvm.workspace import DEFAULT_ROOT, Workspace

if TYPE_CHECKING:
    from ofa_tvm.compiler.tuning_space import SpaceStatus

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
    from ofa_tvm.compiler.tuning_space import SpaceTuning

    settings = TuningSettings(exhaustive, candidates)
    tuning = SpaceTuning(device_target, chosen_space, chosen, workspace.records, settings)
    if not status:
        limit = "until all are searched" if minutes is None else f"for {minutes:g} min at most"
        say(f"tune {name} on {device_target.name}: {tuning.kernels} kernels of {len(chosen)} resolutions, {limit}")
        if dry_run:
            return
        options = {"target": target, "supernet": supernet, "space": space, "resolutions": chosen,
                   "minutes": minutes, "candidates": candidates, "exhaustive": exhaustive}  # fmt: skip
        workspace.write_options("tune", options)
        with tracker_for(device_target, emulate, tracker) as address:
            tuning.run(TERMINAL, address, minutes)
    result = _result(device_target, workspace, tuning.status())
    print_result(result, as_json, _table(result))


def _space(supernet: str | None, space: str | None) -> tuple[str, SearchSpace]:
    """The name under which options are kept, and the space."""
    if space is None:
        metadata = find_supernet(supernet or DEFAULT_SUPERNET).metadata
        return metadata.name, metadata.space
    if supernet is not None:
        raise UsageError(f"--space {space} and --supernet {supernet}: leave one of them out")
    return space, named_space(space)


def _result(target: Target, workspace: Workspace, status: SpaceStatus) -> dict[str, Any]:
    return {
        "target": target.name,
        "space": workspace.supernet,
        "emulated": target.emulated,
        "all": status.all.to_dict(),
        "kinds": {kind: of_one.to_dict() for kind, of_one in status.kinds.items()},
        "resolutions": {str(resolution): of_one.to_dict() for resolution, of_one in status.resolutions.items()},
        "reference": status.largest.to_dict(),
        "records": str(workspace.records),
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
