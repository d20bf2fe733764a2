"""A bundle's latency in a row, as it is promised, and with a pause before each run, as a program may call it.

Usage::

    python benchmarks/sporadic.py runs/local/characters/deployed-0.1ms
    python benchmarks/sporadic.py BUNDLE --pauses 1,10,100,1000 --runs-each 50 --json

It is what ``python -m ofa_tvm.bundle verify --pause`` measures, for several pauses one after the other.
"""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("sporadic")

import statistics
from pathlib import Path
from typing import Annotated, Any

import typer
from figures import MarkdownOption, print_figures
from provenance import load_average, machine
from rich.table import Table

from ofa_tvm.bundle.files import check_files
from ofa_tvm.bundle.host import check_host
from ofa_tvm.bundle.trial import run_trial
from ofa_tvm.console import new_app
from ofa_tvm.display import say
from ofa_tvm.errors import UsageError
from ofa_tvm.measurement.protocol import median_and_spread
from ofa_tvm.options import JsonOption

_LONGEST_MS = 60_000.0

app = new_app("Time a bundle's library in a row, and with pauses before each run.")


@app.command()
def sporadic(
    bundle: Annotated[Path, typer.Argument(help="What deploy wrote for this computer.")],
    pauses: Annotated[str, typer.Option("--pauses", help="Milliseconds, separated by commas.")] = "1,10,100,1000",
    runs: Annotated[int, typer.Option("--runs-each", min=2, help="Runs with each pause.")] = 30,
    as_json: JsonOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Parse, time, print."""
    pauses_ms = _parsed(pauses)
    manifest = check_files(bundle)
    check_host(bundle, manifest)
    load_before = load_average()
    in_a_row, rows = [], []
    for pause_ms in pauses_ms:
        say(f"{runs} runs with {pause_ms:g} ms before each")
        trial = run_trial(bundle, runs, pause_ms)
        in_a_row += trial.samples_ms
        rows.append(_row(pause_ms, trial.sporadic_ms))
    rows.insert(0, _row(0.0, in_a_row))
    for row in rows:
        row["times"] = row["median_ms"] / rows[0]["median_ms"]
    loads = {"load_before": load_before, "load_after": load_average()}
    result = {**machine(), **loads, "supernet": manifest.supernet.name, "runs_each": runs, "pauses": rows}
    result["resolution"] = manifest.input.shape[2]
    print_figures("sporadic", result, [_table(result)], as_json=as_json, markdown=markdown)


def _parsed(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < pause_ms <= _LONGEST_MS for pause_ms in found):
        raise UsageError(f"--pauses {text!r}: give milliseconds up to {_LONGEST_MS:g}, such as 1,10,100")
    return found


def _row(pause_ms: float, samples_ms: list[float] | tuple[float, ...]) -> dict[str, Any]:
    median_ms, spread = median_and_spread(samples_ms)
    slowest_ms = statistics.quantiles(samples_ms, n=20, method="inclusive")[-1]
    return {"pause_ms": pause_ms, "median_ms": median_ms, "spread": spread, "percentile_95_ms": slowest_ms}


def _table(result: dict[str, Any]) -> Table:
    table = Table(
        *("pause before each run, ms", "median, ms", "95th percentile, ms", "spread", "times in a row"),
        title=f"a subnet of {result['supernet']} at {result['resolution']} px, medians of {result['runs_each']} runs "
        f"(in a row {result['runs_each'] * (len(result['pauses']) - 1)})",
    )
    for column in table.columns:
        column.justify = "right"
    for row in result["pauses"]:
        figures = (f"{row['median_ms']:.4f}", f"{row['percentile_95_ms']:.4f}", f"{row['spread']:.1%}")
        table.add_row("none" if not row["pause_ms"] else f"{row['pause_ms']:g}", *figures, f"{row['times']:.2f}")
    return table
