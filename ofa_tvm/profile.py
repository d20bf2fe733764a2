"""Measure a space's kernels and subnets on a device, train the latency predictor: ``python -m ofa_tvm.profile``."""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("ofa_tvm.profile")

from typing import Annotated, Any

import typer
from rich.table import Table

from ofa_tvm.console import new_app, set_verbosity
from ofa_tvm.display import print_result, progress, say
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
from ofa_tvm.space.workload import Workload
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, SupernetFolder, find_supernet
from ofa_tvm.targets import Target
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
    from ofa_tvm.profiling.space_profiler import kernels_to_profile

    kernels = kernels_to_profile(folder.metadata.space, chosen)
    counted = f"{len(kernels)} kernels and {subnets} subnets"
    say(f"profile {folder.metadata.name} on {device_target.name}: {counted} to measure")
    if dry_run:
        return
    options = {"target": target, "supernet": str(folder.path), "resolutions": chosen, "subnets": subnets, "seed": seed}
    workspace.write_options("profile", options)
    with tracker_for(device_target, emulate, tracker) as address:
        result = _profile(device_target, folder, workspace, kernels, subnets, address, seed)
    print_result(result, as_json, _table(result))


def _profile(
    target: Target,
    folder: SupernetFolder,
    workspace: Workspace,
    kernels: list[Workload],
    subnets: int,
    tracker: str | None,
    seed: int,
) -> dict[str, Any]:
    from ofa_tvm.compiler.kernel_bench import open_bench
    from ofa_tvm.predictors.latency import LatencyPredictor
    from ofa_tvm.profiling.space_profiler import SpaceProfiler, subnets_to_profile
    from ofa_tvm.supernet.checkpoint import load_supernet

    space = folder.metadata.space
    architectures = subnets_to_profile(space, subnets, seed)
    network = load_supernet(folder)
    with open_bench(target, workspace.records, tracker, say) as bench:
        say(f"device: {bench.farm.name}")
        profiler = SpaceProfiler(space, bench, network)
        done = len(kernels) - len(profiler.kernels_left(kernels))
        with progress(len(kernels), "kernels", done) as bar:
            profiler.measure_kernels(kernels, bar.advance)
        done = len(architectures) - len(profiler.subnets_left(architectures))
        with progress(len(architectures), "subnets", done) as bar:
            profiler.measure_subnets(architectures, bar.advance)
        measured = profiler.measured_subnets(architectures)
        latencies_ms = profiler.measured_kernels()
        device, emulated = bench.farm.name, target.emulated or bench.farm.emulated
    predictor = LatencyPredictor.fit(space, list(measured), list(measured.values()), latencies_ms, seed)
    predictor.save(workspace.latency_predictor, {"target": target.name, "device": device})
    return {
        "target": target.name,
        "device": device,
        "emulated": emulated,
        "kernels": sum(kernel in latencies_ms for kernel in kernels),
        "kernels_failed": sum(kernel not in latencies_ms for kernel in kernels),
        "kernel_coverage": predictor.kernel_coverage,
        "subnets": len(measured),
        "fastest_ms": min(measured.values()),
        "slowest_ms": max(measured.values()),
        "held_out": predictor.held_out.to_dict(),
        "latency_predictor": str(workspace.latency_predictor),
    }


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
