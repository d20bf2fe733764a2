"""Measure a space's kernels and subnets on a device, train the latency predictor: ``python -m ofa_tvm.profile``."""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("ofa_tvm.profile")

from typing import Annotated, Any

import typer
from rich.table import Table

from ofa_tvm.console import new_app, set_verbosity
from ofa_tvm.display import TERMINAL, print_result
from ofa_tvm.options import (
    DryRunOption,
    EmulateOption,
    JsonOption,
    RunsOption,
    SeedOption,
    SupernetOption,
    TargetOption,
    TrackerOption,
    VerboseOption,
    chosen_target,
    tracker_for,
)
from ofa_tvm.space.named import chosen_resolutions
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.workspace import DEFAULT_ROOT, Workspace

app = new_app(
    """Measure the kernels and some subnets of a supernet on a device, and train its latency predictor.

    Interrupted at any moment, the same command goes on where it stopped.
    """,
    "python -m ofa_tvm.profile --target local",
    "python -m ofa_tvm.profile --target arm_cpu --resolutions 32,48,64 --subnets 40",
    "python -m ofa_tvm.profile --target rasp4 --emulate --resolutions 32 --subnets 10",
)


@app.command()
def profile(
    target: TargetOption,
    supernet: SupernetOption = DEFAULT_SUPERNET,
    resolutions: Annotated[
        str | None, typer.Option("--resolutions", help="Measure kernels only at these, e.g. 32,48,64; default all.")
    ] = None,
    subnets: Annotated[int, typer.Option("--subnets", min=10, max=10_000, help="Whole subnets to measure.")] = 60,
    runs: RunsOption = DEFAULT_ROOT,
    tracker: TrackerOption = None,
    emulate: EmulateOption = False,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Parse, measure, fit, print."""
    set_verbosity(verbose)
    device_target, folder = chosen_target(target, emulate, tracker), find_supernet(supernet)
    chosen = chosen_resolutions(resolutions, folder.metadata.space)
    workspace = Workspace(runs, device_target.name, folder.metadata.name)
    from ofa_tvm.profiling.profile import ProfilePlan, profile_space

    plan = ProfilePlan(
        device_target, folder, workspace.records, workspace.latency_predictor, tuple(chosen), subnets, seed
    )
    counted = f"{len(plan.kernels)} kernels and {subnets} subnets"
    TERMINAL.say(f"profile {folder.metadata.name} on {device_target.name}: {counted} to measure")
    if dry_run:
        return
    options = {"target": target, "supernet": str(folder.path), "resolutions": chosen, "subnets": subnets, "seed": seed}
    workspace.write_options("profile", options)
    with tracker_for(device_target, emulate, tracker) as address:
        result = profile_space(plan, address, TERMINAL).to_dict()
    print_result(result, as_json, _table(result))


def _table(result: dict[str, Any]) -> Table:
    held_out = result["held_out"]
    table = Table(title=f"Latency predictor for {result['target']} ({result['device']})", show_header=False)
    for name, value in (
        ("kernels measured", f"{result['kernels']} ({result['kernels_failed']} failed)"),
        ("subnets measured", f"{result['subnets']}, {result['fastest_ms']:.3f} to {result['slowest_ms']:.3f} ms"),
        (
            "held-out error",
            f"{held_out['mape']:.1%} mean, {held_out['mae']:.4f} ms mean, {held_out['rmse']:.4f} ms RMS",
        ),
        ("held-out rank correlation", f"Spearman {held_out['spearman']:.4f}, Kendall {held_out['kendall']:.4f}"),
        ("latencies are", "computed or emulated, not measured on hardware" if result["emulated"] else "measured"),
        ("written to", result["latency_predictor"]),
    ):
        table.add_row(name, value)
    return table
