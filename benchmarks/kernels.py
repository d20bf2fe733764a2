"""The kernels in which subnets spend their time: how fast they are beside ONNX Runtime's, and beside the peak.

Usage::

    python benchmarks/kernels.py                                    # ten random subnets of MobileNetV3 w1.0
    python benchmarks/kernels.py --supernet characters --subnets 1 --top 20 --json

Kernels are built with the best parameters among the records in ``--runs``; ONNX Runtime runs the same layer, in its own
blocked layout. Outputs are compared first. Then both run alone, on one thread, with their operands in the cache, taking
turns with a loop of fused multiply-adds, the peak. Operations are counted as if no tap fell on the zero padding, though
our kernels skip those: small images with large windows show more GFLOP/s than the core has.
"""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("kernels")

import os
from collections import Counter
from typing import Annotated, Any

import typer
from figures import MarkdownOption, print_figures, section_name
from provenance import load_average, machine
from rich.table import Table

from ofa_tvm.console import new_app
from ofa_tvm.display import say
from ofa_tvm.options import JsonOption, RunsOption, SeedOption
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.targets import load_target
from ofa_tvm.workspace import DEFAULT_ROOT, Workspace

app = new_app("Time the kernels of some subnets one by one, and compare the heaviest with ONNX Runtime's.")


@app.command()
def kernels(
    supernet: Annotated[
        str | None, typer.Option("--supernet", help="A supernet's name or folder; default MobileNetV3 of width 1.0.")
    ] = None,
    runs: RunsOption = DEFAULT_ROOT,
    subnets: Annotated[int, typer.Option("--subnets", min=1, help="How many subnets.")] = 10,
    top: Annotated[int, typer.Option("--top", min=1, help="How many kernels to compare.")] = 10,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Samples of a millisecond of each.")] = 50,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Parse, build, time, print."""
    os.environ["TVM_NUM_THREADS"] = "1"  # read once, when TVM is imported
    from kernel_timing import KernelTimer
    from subjects import chosen_architectures, chosen_space

    space = chosen_space(supernet)
    architectures = chosen_architectures(supernet, space, subnets, seed)
    counts = Counter(workload for architecture in architectures for workload in workloads(space, architecture))
    load_before = load_average()
    say(f"building {len(counts)} kernels")
    target = load_target("local").model_copy(update={"threads": 1})
    with KernelTimer(target, Workspace(runs, target.name, "").records, list(counts)) as timer:
        rough_ms = timer.rough_ms()
        total_ms = sum(rough_ms[workload] * count for workload, count in counts.items())
        heaviest = sorted(counts, key=lambda workload: -rough_ms[workload] * counts[workload])[:top]
        rows = [
            {
                "kernel": workload.key,
                "count": counts[workload],
                "share": rough_ms[workload] * counts[workload] / total_ms,
                **timer.compared(workload, repeats),
            }
            for workload in heaviest
        ]
    loads = {"load_before": load_before, "load_after": load_average()}
    peak = max(row["peak_gflops"] for row in rows)
    for row in rows:
        row |= {"peak_gflops": peak, "share_of_peak": row["gflops"] / peak}
    result = {**machine(), **loads, "repeats": repeats, "subnets": subnets, "total_ms": total_ms, "kernels": rows}
    print_figures(
        section_name("kernels", supernet),
        result,
        [_table(result)],
        as_json=as_json,
        markdown=markdown,
        without=["times", "GFLOP/s", "parameters"],
    )


def _table(result: dict[str, Any]) -> Table:
    table = Table(
        *(
            "kernel",
            "times",
            "share of time",
            "µs",
            "GFLOP/s (of peak)",
            "ONNX Runtime, µs",
            "GFLOP/s",
            "times as fast",
        ),
        "parameters",
        title=f"{result['total_ms']:.3f} ms in the kernels of {result['subnets']} subnets, {result['cpu']}, "
        f"one thread, peak {result['kernels'][0]['peak_gflops']:.0f} GFLOP/s",
        caption=f"{result['date']}, load average {result['load_before']} before and {result['load_after']} after, "
        f"medians of {result['repeats']} samples",
    )
    for column in table.columns[1:8]:
        column.justify = "right"
    for row in result["kernels"]:
        table.add_row(
            row["kernel"],
            str(row["count"]),
            f"{row['share']:.1%}",
            f"{1e3 * row['ms']:.2f}",
            f"{row['gflops']:.0f} ({row['share_of_peak']:.0%})",
            f"{1e3 * row['onnxruntime_ms']:.2f}",
            f"{row['onnxruntime_gflops']:.0f}",
            f"{row['ratio']:.2f}",
            row["parameters"],
        )
    return table
