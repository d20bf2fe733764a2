"""Deploy for several latency budgets, one after the other, as a user would: is each met, or refused clearly?

Usage, on a profiled target::

    python benchmarks/budgets.py                          # three budgets, and one that nothing meets
    python benchmarks/budgets.py --target local 0.1 0.2 --tune-minutes 0 --json
"""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("budgets")

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from figures import MarkdownOption, print_figures
from provenance import load_average, machine
from rich.table import Table

from ofa_tvm.console import new_app
from ofa_tvm.display import say
from ofa_tvm.options import JsonOption, RunsOption, SupernetOption
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET
from ofa_tvm.workspace import DEFAULT_ROOT

app = new_app("Deploy for several latency budgets and show what was predicted, measured and refused.")


@app.command()
def budgets(
    budgets_ms: Annotated[list[float] | None, typer.Argument(metavar="MS...", help="Latency budgets.")] = None,
    target: Annotated[str, typer.Option("--target", help="A profiled target.")] = "local",
    supernet: SupernetOption = DEFAULT_SUPERNET,
    runs: RunsOption = DEFAULT_ROOT,
    tune_minutes: Annotated[float, typer.Option("--tune-minutes", min=0, help="As of deploy.")] = 2.0,
    as_json: JsonOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Parse, deploy each, print."""
    load_before = load_average()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, budget_ms in enumerate(budgets_ms or [0.07, 0.1, 0.15, 0.01]):
            say(f"deploy within {budget_ms:g} ms")
            options = ["--target", target, "--supernet", supernet, "--runs", runs, "--tune-minutes", tune_minutes]
            rows.append(_deploy(budget_ms, [*map(str, options), "--out", str(Path(folder) / str(number))]))
            if "error" in rows[-1]:
                say(rows[-1]["error"])
    result = {**machine(), "load_before": load_before, "load_after": load_average(), "target": target, "budgets": rows}
    print_figures("budgets", result, [_table(result)], as_json=as_json, markdown=markdown)


def _deploy(budget_ms: float, options: list[str]) -> dict[str, Any]:
    """One row: what the command reports and how it ended."""
    command = [sys.executable, "-m", "ofa_tvm.deploy", "--latency", str(budget_ms), "--json", *options]
    start_s = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    row = {"budget_ms": budget_ms, "exit_code": done.returncode, "seconds": round(time.monotonic() - start_s, 1)}
    if done.returncode != 0:
        return {**row, "error": done.stderr.strip().splitlines()[-1]}
    report = json.loads(done.stdout)
    names = ("predicted_ms", "measured_ms", "spread", "predicted_accuracy", "measured_accuracy", "device", "emulated")
    return {**row, **{name: report[name] for name in names}, "candidates": len(report["attempts"])}


def _table(result: dict[str, Any]) -> Table:
    table = Table(
        *("budget, ms", "predicted, ms", "measured, ms", "accuracy predicted", "measured", "candidates", "took, s"),
        title=f"deploy on {result['target']}, {result['cpu']}",
        caption=f"{result['date']}, load average {result['load_before']} before and {result['load_after']} after",
    )
    for row in result["budgets"]:
        if row["exit_code"]:
            found = ("", f"exit code {row['exit_code']}", "", "", "")
        else:
            computed = " (computed)" if row["emulated"] else ""
            found = (
                f"{row['predicted_ms']:.4f}",
                f"{row['measured_ms']:.4f}{computed}",
                f"{row['predicted_accuracy']:.1%}",
                f"{row['measured_accuracy']:.1%}",
                str(row["candidates"]),
            )
        table.add_row(f"{row['budget_ms']:g}", *found, f"{row['seconds']:.0f}")
    return table
