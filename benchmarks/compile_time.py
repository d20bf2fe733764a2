"""How long it takes from a subnet's architecture to its library, step by step.

Usage::

    python benchmarks/compile_time.py                        # ten random subnets of MobileNetV3 of width 1.0
    python benchmarks/compile_time.py --subnets 3 --runs runs --json

The same subnets, of random weights, are built for this host in two fresh processes, one after the other: the first
finds no compiled kernel on disk, the second finds them all there. Of each process the table has the first subnet,
which pays for whatever is loaded late, and the median of the others. Subnets share kernels, so already in the first
process later subnets find some. Kernels have the best parameters among the records in ``--runs``; without records the
cost model picks them, which takes a part of the time of "kernels' object code".
"""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("compile_time")

import multiprocessing
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from compile_steps import IMPORTS, STEPS, build_all
from figures import MarkdownOption, print_figures
from provenance import load_average, machine
from rich.table import Table

from ofa_tvm.console import new_app
from ofa_tvm.display import say
from ofa_tvm.errors import UsageError
from ofa_tvm.options import JsonOption, RunsOption, SeedOption
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.named import named_space
from ofa_tvm.workspace import DEFAULT_ROOT, Workspace

TOTAL = "from architecture to library"
_CACHES = ("empty", "full")
_START_S, _SUBNET_S = 120.0, 60.0
"""Limits of a process, far above what a busy machine takes."""

app = new_app("Time the steps from a subnet's architecture to its library, with compiled kernels on disk and without.")


@app.command()
def compile_time(
    space: Annotated[str, typer.Option("--space", help="The subnets' search space.")] = "mobilenet_v3_w1.0",
    subnets: Annotated[int, typer.Option("--subnets", min=2, help="How many random subnets.")] = 10,
    resolution: Annotated[int | None, typer.Option("--resolution", help="Of all of them; default random.")] = None,
    runs: RunsOption = DEFAULT_ROOT,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Parse, build twice, print."""
    architectures = _architectures(space, subnets, resolution, seed)
    records = Workspace(runs, "local", space).records
    load_before = load_average()
    columns: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="ofa_tvm.") as folder:
        for cache in _CACHES:
            say(f"building {subnets} subnets of {space} in a fresh process; on disk: {cache} cache of compiled kernels")
            columns |= _columns(cache, *_in_fresh_process(space, architectures, records, Path(folder)))
    result = {
        **machine(),
        **{"load_before": load_before, "load_after": load_average()},
        **{"space": space, "subnets": [str(architecture) for architecture in architectures], "seed": seed},
        "steps": [
            {"step": step, **{column: times_ms.get(step) for column, times_ms in columns.items()}}
            for step in (*STEPS, TOTAL, IMPORTS)
        ],
    }
    print_figures("compile_time", result, [_table(result)], as_json=as_json, markdown=markdown)


def _architectures(space_name: str, count: int, resolution: int | None, seed: int) -> list[Architecture]:
    space = named_space(space_name)
    if resolution is None:
        return space.sample_distinct(count, seed)
    if resolution not in space.resolutions:
        offered = ", ".join(map(str, space.resolutions))
        raise UsageError(f"--resolution {resolution} is not in {space_name}; there are {offered}")
    return [Architecture(resolution, architecture.stages) for architecture in space.sample_distinct(count, seed)]


def _in_fresh_process(
    space: str, architectures: list[Architecture], records: Path, folder: Path
) -> tuple[float, list[dict[str, float]]]:
    arguments = (space, architectures, records.absolute(), folder / "kernels", folder, time.time())
    ignore_ctrl_c = (signal.SIGINT, signal.SIG_IGN)  # it is for this process, which ends the other
    with multiprocessing.get_context("spawn").Pool(1, signal.signal, ignore_ctrl_c) as pool:
        return pool.apply_async(build_all, arguments).get(_START_S + _SUBNET_S * len(architectures))


def _columns(cache: str, imports_ms: float, rows: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    for row in rows:
        row[TOTAL] = sum(row.values())
    first, *others = rows
    medians = {step: statistics.median(row[step] for row in others) for step in first}
    return {f"{cache}_first_ms": {**first, IMPORTS: imports_ms}, f"{cache}_median_ms": medians}


def _table(result: dict[str, Any]) -> Table:
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    table = Table(
        "milliseconds",
        *(heading for cache in _CACHES for heading in (f"{cache} cache: first", "median of the others")),
        title=f"{result['cpu']}, {result['cpus']} CPUs, {len(result['subnets'])} subnets of {result['space']}",
        caption=f"{result['date']}, load average {result['load_before']} before and {result['load_after']} after; "
        f"{versions}",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for row in result["steps"]:
        figures = [value for name, value in row.items() if name != "step"]
        table.add_row(row["step"], *("" if value is None else f"{value:.0f}" for value in figures))
        if row["step"] == STEPS[-1]:
            table.add_section()
    return table
