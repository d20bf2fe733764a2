"""How long it takes from a new latency budget to a verified bundle, on a profiled and tuned target.

Usage::

    python benchmarks/deploy_time.py                                # five budgets
    python benchmarks/deploy_time.py --target local --budgets 10 --json

The budgets lie between the latencies of the fastest and the slowest subnet on record, spaced evenly on a logarithmic
scale. ``python -m ofa_tvm.deploy`` is run for each, as its user would; it verifies the bundle before it ends. Then
``python -m ofa_tvm.bundle verify`` does so again, which shows what of the time that is.
"""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("deploy_time")

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from figures import MarkdownOption, print_figures
from provenance import load_average, machine
from rich.table import Table

from ofa_tvm.console import new_app
from ofa_tvm.display import say
from ofa_tvm.errors import UsageError
from ofa_tvm.measurement.records import SubnetRecord, read_records
from ofa_tvm.options import JsonOption, RunsOption, SupernetOption
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.targets import load_target
from ofa_tvm.workspace import DEFAULT_ROOT, Workspace

app = new_app("Time what deploy takes from a new latency budget to a verified bundle.")


@app.command()
def deploy_time(
    target: Annotated[str, typer.Option("--target", help="A profiled target, better a tuned one, too.")] = "local",
    supernet: SupernetOption = DEFAULT_SUPERNET,
    runs: RunsOption = DEFAULT_ROOT,
    budgets: Annotated[int, typer.Option("--budgets", min=1, help="How many latency budgets.")] = 5,
    tune_minutes: Annotated[float, typer.Option("--tune-minutes", min=0, help="As of deploy.")] = 2.0,
    as_json: JsonOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Parse, deploy for each budget, print."""
    workspace = Workspace(runs, load_target(target).name, find_supernet(supernet).metadata.name)
    workspace.check_profiled(f"--target {target}")
    budgets_ms = _budgets_ms(workspace.records, workspace.target, budgets)
    options = ["--target", target, "--supernet", supernet, "--runs", runs, "--tune-minutes", tune_minutes]
    load_before = load_average()
    with tempfile.TemporaryDirectory(prefix="ofa_tvm.") as folder:
        rows = [
            _deploy(budget_ms, [*map(str, options)], Path(folder) / str(number))
            for number, budget_ms in enumerate(budgets_ms)
        ]
    loads = {"load_before": load_before, "load_after": load_average()}
    seconds = [row["seconds"] for row in rows if row["exit_code"] == 0]
    median_s = statistics.median(seconds) if seconds else None
    result = {**machine(), **loads, "target": target, "median_s": median_s, "budgets": rows}
    print_figures("deploy_time", result, [_table(result)], as_json=as_json, markdown=markdown)


def _budgets_ms(records: Path, target: str, count: int) -> list[float]:
    subnets = [record for record in read_records(records) if isinstance(record, SubnetRecord)]
    found = [r.measurement.median_ms for r in subnets if r.target == target and r.measurement]
    if not found:
        raise UsageError(f"{records} has no subnet of {target}; run python -m ofa_tvm.profile --target {target} first")
    inner = np.geomspace(min(found), max(found), count + 2)[1:-1]
    return [float(f"{budget_ms:.3g}") for budget_ms in inner]


def _deploy(budget_ms: float, options: list[str], bundle: Path) -> dict[str, Any]:
    """One row: how long both commands took and how they ended."""
    say(f"deploy within {budget_ms:g} ms")
    command = [sys.executable, "-m", "ofa_tvm.deploy", "--latency", str(budget_ms), "--json", *options]
    start_s = time.monotonic()
    done = subprocess.run([*command, "--out", str(bundle)], capture_output=True, text=True, check=False)
    row = {"budget_ms": budget_ms, "exit_code": done.returncode, "seconds": round(time.monotonic() - start_s, 1)}
    if done.returncode != 0:
        say(error := done.stderr.strip().splitlines()[-1])
        return {**row, "error": error}
    start_s = time.monotonic()
    verify = [sys.executable, "-m", "ofa_tvm.bundle", "verify", str(bundle)]
    verified = subprocess.run(verify, capture_output=True, check=False).returncode == 0
    report = json.loads(done.stdout)
    return {
        **row,
        "candidates": len(report["attempts"]),
        "measured_ms": report["measured_ms"],
        "verified": verified,
        "verify_s": round(time.monotonic() - start_s, 1),
    }


def _table(result: dict[str, Any]) -> Table:
    median = "" if result["median_s"] is None else f", median {result['median_s']:.1f} s"
    table = Table(
        *("budget, ms", "measured, ms", "candidates", "deploy, s", "verify, s", "verified"),
        title=f"From budget to verified bundle on {result['target']}, {result['cpu']}{median}",
        caption=f"{result['date']}, load average {result['load_before']} before and {result['load_after']} after",
    )
    for row in result["budgets"]:
        found = ("", f"exit code {row['exit_code']}", f"{row['seconds']:.1f}", "", "")
        if row["exit_code"] == 0:
            counts = (f"{row['measured_ms']:.4f}", str(row["candidates"]), f"{row['seconds']:.1f}")
            found = (*counts, f"{row['verify_s']:.1f}", "yes" if row["verified"] else "no")
        table.add_row(f"{row['budget_ms']:g}", *found)
    return table
