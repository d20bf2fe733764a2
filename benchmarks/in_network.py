"""Where the time of a whole subnet goes, kernel by kernel, inside the network.

Usage::

    python benchmarks/in_network.py                                   # a random subnet of MobileNetV3 w1.0
    python benchmarks/in_network.py --resolution 168 --runs runs --top 20
    python benchmarks/in_network.py --supernet characters --subnet 3 --json

The library is that of deploy, on one thread, with the best parameters among the records in ``--runs``; only the time is
taken around each of its calls (some 30 ns each, which are part of the figures). *Alone* is the record of the same
kernel, measured by itself, with its weights not in the nearest caches. Operations are counted as if no tap fell on the
zero padding, though our kernels skip those.
"""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("in_network")

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from figures import MarkdownOption, print_figures, section_name
from provenance import load_average, machine
from rich.table import Table

from ofa_tvm.console import new_app
from ofa_tvm.display import say
from ofa_tvm.options import JsonOption, RunsOption, SeedOption
from ofa_tvm.space.named import chosen_resolutions
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import load_target
from ofa_tvm.workspace import DEFAULT_ROOT, Workspace

_WARMUP_RUNS = 20
_PEAK_EVERY = 10

app = new_app("Time every kernel of a subnet while the whole subnet runs.")


@app.command()
def in_network(
    supernet: Annotated[
        str | None, typer.Option("--supernet", help="A supernet's name or folder; default MobileNetV3 of width 1.0.")
    ] = None,
    subnet: Annotated[int, typer.Option("--subnet", min=0, help="Which of the random subnets, from 0.")] = 0,
    resolution: Annotated[int | None, typer.Option("--resolution", help="Default: the subnet's own.")] = None,
    runs: RunsOption = DEFAULT_ROOT,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Runs of the subnet.")] = 300,
    top: Annotated[int, typer.Option("--top", min=0, help="How many kernels to list.")] = 12,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Parse, compile, run, print."""
    os.environ["TVM_NUM_THREADS"] = "1"  # read once, when TVM is imported
    import numpy as np
    import onnx
    from peak import Peak
    from stamped import StampedLibrary
    from subjects import chosen_architectures, chosen_space, chosen_supernet, write_subjects
    from systems.loaded import MODEL, sample_image

    from ofa_tvm.compiler.identity import identity_of
    from ofa_tvm.compiler.schedules import Schedules
    from ofa_tvm.compiler.toolchain import Toolchain
    from ofa_tvm.measurement.records import RecordStore

    space = chosen_space(supernet)
    if resolution is not None:
        chosen_resolutions(str(resolution), space)  # says what is wrong with it
    architecture = chosen_architectures(supernet, space, subnet + 1, seed)[subnet]
    architecture = replace(architecture, resolution=resolution or architecture.resolution)
    target = load_target("local").model_copy(update={"threads": 1})
    toolchain = Toolchain.of(target)
    store = RecordStore(Workspace(runs, target.name, "").records, identity_of(target, toolchain))
    schedules = Schedules(store, toolchain.machine)
    load_before = load_average()
    say(f"compiling {architecture}")
    with tempfile.TemporaryDirectory(prefix="ofa_tvm.") as name:
        (subject,) = write_subjects(chosen_supernet(supernet, seed), [architecture], Path(name), seed)
        image = sample_image(subject.folder)
        library = StampedLibrary(onnx.load(subject.folder / MODEL), image, toolchain, schedules, Path(name))
        peak, gflops = Peak(1), 0.0
        for _ in range(_WARMUP_RUNS):
            library.run_us()
        samples = []
        for number in range(repeats):
            samples.append(library.run_us())
            if number % _PEAK_EVERY == 0:
                gflops = max(gflops, peak.sample_gflops())
                library.run_us()
    calls = [
        _call(symbol, library.workloads.get(symbol), float(us), schedules.latencies_ms)
        for symbol, us in zip(library.symbols, np.median(samples, axis=0), strict=True)
    ]
    result = {
        **machine(),
        **{"load_before": load_before, "load_after": load_average(), "repeats": repeats},
        **{"architecture": str(architecture), "peak_gflops": gflops},
        "total": _sum("all", calls),
        "kinds": [_sum(kind, [call for call in calls if call["kind"] == kind]) for kind in _kinds(calls)],
        "calls": calls,
    }
    print_figures(
        section_name("in_network", supernet), result, [_table(result, top)], as_json=as_json, markdown=markdown
    )


def _call(symbol: str, workload: Workload | None, us: float, alone_ms: dict[Workload, float]) -> dict[str, Any]:
    """One call, as plain JSON values."""
    row = {"function": symbol, "kind": "layout", "us": us, "alone_us": None, "mflop": 0.0, "weight_bytes": 0}
    if workload is None:
        return row
    vector = workload.kind == "pointwise" and workload.height * workload.width == 1
    alone = alone_ms.get(workload)
    taps = workload.kernel_size**2 * (1 if workload.kind == "depthwise" else workload.in_channels)
    return {
        **row,
        "kind": "product" if vector else workload.kind,
        "alone_us": None if alone is None else 1e3 * alone,
        "mflop": 2e-6 * workload.macs,
        "weight_bytes": 4 * taps * workload.out_channels if workload.kind in ("conv", "depthwise", "pointwise") else 0,
    }


def _kinds(calls: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(call["kind"] for call in calls))


def _sum(name: str, calls: list[dict[str, Any]]) -> dict[str, Any]:
    alone = [call["alone_us"] for call in calls if call["kind"] != "layout"]
    return {
        "kind": name,
        "calls": len(calls),
        "us": sum(call["us"] for call in calls),
        "alone_us": None if None in alone else sum(alone),
        "mflop": sum(call["mflop"] for call in calls),
        "weight_bytes": sum(call["weight_bytes"] for call in calls),
    }


def _table(result: dict[str, Any], top: int) -> Table:
    """Kinds, then the kernels that take longest beyond what the peak would allow."""
    peak, total = result["peak_gflops"], result["total"]
    table = Table(
        *("", "calls", "µs", "share", "alone, µs", "GFLOP/s (of peak)", "above the peak's, µs", "weights, MB", "GB/s"),
        title=f"{result['architecture']}: {total['us']:.0f} µs, {result['cpu']}, one thread, peak {peak:.0f} GFLOP/s",
        caption=f"{result['date']}, load average {result['load_before']} before and {result['load_after']} after, "
        f"medians of {result['repeats']} runs",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    longest = sorted(result["calls"], key=lambda call: -_lost_us(call, peak))[:top]
    for row in (*result["kinds"], total, *longest):
        megabytes = row["weight_bytes"] / 1e6
        table.add_row(
            row.get("function", row["kind"]),
            str(row.get("calls", "")),
            f"{row['us']:.1f}",
            f"{row['us'] / total['us']:.1%}",
            "" if not row["alone_us"] else f"{row['alone_us']:.1f}",
            ""
            if not row["mflop"]
            else f"{1e3 * row['mflop'] / row['us']:.0f} ({1e3 * row['mflop'] / row['us'] / peak:.0%})",
            f"{_lost_us(row, peak):.1f}",
            f"{megabytes:.2f}",
            f"{1e3 * megabytes / row['us']:.0f}",
            end_section=row is total or row is result["kinds"][-1],
        )
    return table


def _lost_us(row: dict[str, Any], peak: float) -> float:
    return float(row["us"] - 1e3 * row["mflop"] / peak)
