"""Deliver the most accurate subnet that meets a latency budget, by measurement: ``python -m ofa_tvm.deploy``."""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("ofa_tvm.deploy")

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ofa_tvm.console import new_app, set_verbosity
from ofa_tvm.deployment.order import Order
from ofa_tvm.display import TERMINAL, duration, print_result
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
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.targets import Target
from ofa_tvm.workspace import DEFAULT_ROOT, Workspace

if TYPE_CHECKING:
    from ofa_tvm.evolution.front import Candidate

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
    order = Order(
        device_target, folder, latency, runs, workspace.records, workspace.latency_predictor,
        out or workspace.bundle(latency), overwrite, tune_minutes, max_attempts, seed,
    )  # fmt: skip
    TERMINAL.say(_plan(order))
    workspace.check_profiled(f"--target {target}{' --emulate' * emulate}")
    if not dry_run:
        workspace.check_writable()
    from ofa_tvm.deployment.deploy import deploy as deploy_order
    from ofa_tvm.deployment.prospect import prospect

    found = prospect(order, TERMINAL)
    if dry_run:
        print_result({"would_build": found.first.to_dict()}, as_json, _dry_table(device_target, found.first))
        return
    options = {"target": target, "supernet": str(folder.path), "latency": latency, "tune_minutes": tune_minutes,
               "max_attempts": max_attempts, "out": order.directory, "seed": seed}  # fmt: skip
    workspace.write_options("deploy", options)
    with tracker_for(device_target, emulate, tracker) as address:
        result = deploy_order(order, found, address, TERMINAL).to_dict()
    print_result(result, as_json, _table(result))


def _plan(order: Order) -> str:
    """What will be done, and about how long it takes."""
    tuning = f" and at most {duration(60 * order.tune_minutes)} of tuning" if order.tune_minutes else ""
    return (
        f"deploy {order.supernet.metadata.name} on {order.target.name} within {order.budget_ms:g} ms to "
        f"{order.directory}: search, then build and measure 1 to {order.max_attempts} candidates, "
        f"each about {duration(_ATTEMPT_S)}{tuning}"
    )


def _dry_table(target: Target, best: Candidate) -> Table:
    table = Table(title=f"Would be built first for {target.name}", show_header=False)
    table.add_row("architecture", str(best.architecture))
    table.add_row("latency, predicted", f"{best.predicted_latency_ms:.4g} ms")
    table.add_row("accuracy, predicted", f"{best.predicted_accuracy:.1%}")
    return table


def _table(result: dict[str, Any]) -> Table:
    emulated = " (computed or emulated, not measured on hardware)" if result["emulated"] else ""
    failed = sum(attempt["error"] is not None for attempt in result["attempts"])
    table = Table(title=f"Deployed on {result['target']}", show_header=False)
    for name, value in (
        ("architecture", result["architecture_text"]),
        ("latency budget", f"{result['budget_ms']:g} ms"),
        ("latency, predicted", f"{result['predicted_ms']:.4g} ms"),
        ("latency, measured", f"{result['measured_ms']:.4g} ms{emulated}, spread {result['spread']:.1%}"),
        ("accuracy, predicted", f"{result['predicted_accuracy']:.1%}"),
        ("accuracy, measured", f"{result['measured_accuracy']:.1%} of {result['accuracy_images']} held-out images"),
        ("candidates built", f"{len(result['attempts']) - failed}" + f", and {failed} failed" * bool(failed)),
        ("bundle", result["bundle"]),
    ):
        table.add_row(name, value)
    return table
