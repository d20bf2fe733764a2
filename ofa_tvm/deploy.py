"""Deliver the most accurate subnet that meets a latency budget, by measurement: ``python -m ofa_tvm.deploy``."""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("ofa_tvm.deploy")

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ofa_tvm.bundle.destination import check_destination
from ofa_tvm.console import new_app, set_verbosity
from ofa_tvm.cpuinfo import usable_cpus
from ofa_tvm.display import duration, print_result, progress, say
from ofa_tvm.options import (
    LATENCY,
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
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, SupernetFolder, find_supernet
from ofa_tvm.targets import Target
from ofa_tvm.workspace import DEFAULT_ROOT, Workspace

if TYPE_CHECKING:
    from ofa_tvm.deployment.walk import Deployment
    from ofa_tvm.evolution.front import Candidate, ParetoFront

# On two idle cores, without tuning; only to say beforehand how long it takes.
_ATTEMPT_S = 15

app = new_app(
    """Deliver the most accurate subnet that is measured to meet a latency budget, as a bundle.

    Needs a profile of the target (python -m ofa_tvm.profile). Check and use the bundle with python -m ofa_tvm.bundle.
    """,
    "python -m ofa_tvm.deploy --target local --latency 0.5",
    "python -m ofa_tvm.deploy --target rasp4 --latency 30 --tune-minutes 10 --out rasp4-30ms",
)


@app.command()
def deploy(
    target: TargetOption,
    latency: Annotated[float, LATENCY],
    supernet: SupernetOption = DEFAULT_SUPERNET,
    tune_minutes: Annotated[
        float, typer.Option("--tune-minutes", min=0, help="Time limit of tuning a candidate's kernels that tune left.")
    ] = 2.0,
    max_attempts: Annotated[int, typer.Option("--max-attempts", min=1, help="Candidates to build at most.")] = 4,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the bundle.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")] = False,
    runs: RunsOption = DEFAULT_ROOT,
    tracker: TrackerOption = None,
    emulate: EmulateOption = False,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Parse, search, build and measure, print."""
    set_verbosity(verbose)
    device_target, folder = chosen_target(target, emulate, tracker), find_supernet(supernet)
    workspace = Workspace(runs, device_target.name, folder.metadata.name)
    directory = out or workspace.bundle(latency)
    say(_plan(device_target, folder, latency, directory, tune_minutes, max_attempts))
    workspace.check_profiled(f"--target {target}{' --emulate' * emulate}")
    check_destination(directory, overwrite)
    from ofa_tvm.training.evaluation import Evaluator

    # It reads the weights, which may be damaged: better known before the search. Nothing is measured while it works.
    evaluator = Evaluator(folder, threads=usable_cpus())
    front = _search(device_target, folder, workspace, latency, seed)
    best = front.best_under(latency, device_target.name)[0]
    if dry_run:
        print_result({"would_build": best.to_dict()}, as_json, _dry_table(device_target, best))
        return
    options = {"target": target, "supernet": str(folder.path), "latency": latency, "tune_minutes": tune_minutes,
               "max_attempts": max_attempts, "out": directory, "seed": seed}  # fmt: skip
    workspace.write_options("deploy", options)
    from ofa_tvm.compiler.kernel_bench import open_bench
    from ofa_tvm.deployment.attempt import CandidateBuilder
    from ofa_tvm.deployment.deliver import deliver
    from ofa_tvm.deployment.walk import find_deployment

    with (
        tracker_for(device_target, emulate, tracker) as address,
        open_bench(device_target, workspace.records, address, say) as bench,
    ):
        builder = CandidateBuilder(evaluator, bench, tune_minutes, say)
        deployment = find_deployment(front, latency, device_target.name, builder, max_attempts, say)
        deliver(deployment.chosen, latency, folder.metadata, device_target, bench.toolchain, directory, overwrite)
    result = _result(device_target, latency, directory, deployment)
    print_result(result, as_json, _table(result))


def _plan(
    target: Target, folder: SupernetFolder, budget_ms: float, directory: Path, tune_minutes: float, max_attempts: int
) -> str:
    """What will be done, and about how long it takes."""
    tuning = f" and at most {duration(60 * tune_minutes)} of tuning" if tune_minutes else ""
    return (
        f"deploy {folder.metadata.name} on {target.name} within {budget_ms:g} ms to {directory}: search, then build "
        f"and measure 1 to {max_attempts} candidates, each about {duration(_ATTEMPT_S)}{tuning}"
    )


def _search(target: Target, folder: SupernetFolder, workspace: Workspace, budget_ms: float, seed: int) -> ParetoFront:
    from ofa_tvm.compiler.identity import identity_of
    from ofa_tvm.compiler.toolchain import Toolchain
    from ofa_tvm.evolution.search import EvolutionSettings, search
    from ofa_tvm.predictors.accuracy_lookup import load_accuracy_predictor
    from ofa_tvm.predictors.latency import LatencyPredictor

    today = identity_of(target, Toolchain.of(target))
    latency_predictor = LatencyPredictor.load(workspace.latency_predictor, today)
    accuracy_predictor = load_accuracy_predictor(folder, workspace.root)
    settings = EvolutionSettings()
    with progress(settings.generations, "search") as bar:
        return search(
            folder.metadata.space, accuracy_predictor, latency_predictor, budget_ms, seed, settings,
            lambda _generation: bar.advance(),
        )  # fmt: skip


def _result(target: Target, budget_ms: float, directory: Path, deployment: Deployment) -> dict[str, Any]:
    chosen = deployment.chosen
    measurement = chosen.measurement
    return {
        "target": target.name,
        "device": measurement.device,
        "emulated": measurement.emulated,
        "architecture": chosen.candidate.architecture.to_dict(),
        "architecture_text": str(chosen.candidate.architecture),
        "budget_ms": budget_ms,
        "predicted_ms": chosen.candidate.predicted_latency_ms,
        "measured_ms": measurement.median_ms,
        "spread": measurement.spread,
        "drift": measurement.drift,
        "predicted_accuracy": chosen.candidate.predicted_accuracy,
        "measured_accuracy": chosen.accuracy.accuracy,
        "accuracy_images": chosen.accuracy.images,
        "attempts": [
            {
                "architecture": str(attempt.candidate.architecture),
                "predicted_ms": attempt.candidate.predicted_latency_ms,
                "measured_ms": attempt.measurement.median_ms,
                "measured_accuracy": attempt.accuracy.accuracy,
            }
            for attempt in deployment.attempts
        ],
        "bundle": str(directory),
    }


def _dry_table(target: Target, best: Candidate) -> Table:
    table = Table(title=f"Would be built first for {target.name}", show_header=False)
    table.add_row("architecture", str(best.architecture))
    table.add_row("latency, predicted", f"{best.predicted_latency_ms:.4g} ms")
    table.add_row("accuracy, predicted", f"{best.predicted_accuracy:.1%}")
    return table


def _table(result: dict[str, Any]) -> Table:
    emulated = " (computed or emulated, not measured on hardware)" if result["emulated"] else ""
    table = Table(title=f"Deployed on {result['target']}", show_header=False)
    for name, value in (
        ("architecture", result["architecture_text"]),
        ("latency budget", f"{result['budget_ms']:g} ms"),
        ("latency, predicted", f"{result['predicted_ms']:.4g} ms"),
        ("latency, measured", f"{result['measured_ms']:.4g} ms{emulated}, spread {result['spread']:.1%}"),
        ("accuracy, predicted", f"{result['predicted_accuracy']:.1%}"),
        ("accuracy, measured", f"{result['measured_accuracy']:.1%} of {result['accuracy_images']} held-out images"),
        ("candidates built", str(len(result["attempts"]))),
        ("bundle", result["bundle"]),
    ):
        table.add_row(name, value)
    return table
