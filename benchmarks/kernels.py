"""The kernels in which a subnet spends its time, and how fast they are.

Usage::

    python benchmarks/kernels.py                                    # the largest subnet of the shipped supernet
    python benchmarks/kernels.py --supernet FOLDER --resolution 48 --top 20 --json

Kernels are built with the best parameters among the records in ``--runs`` and timed alone in this process, on one
thread, with their operands in the cache. Operations are counted as if no tap fell on the zero padding, though the
kernels skip those: small images with large windows show more GFLOP/s than the core has.
"""

from __future__ import annotations

from ofa_tvm.console import (  # first, so that Ctrl-C while the others load is one line too
    JsonOption,
    RunsOption,
    SupernetOption,
    new_app,
    run,
)

# isort: split
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from provenance import load_average, machine
from rich.table import Table

from ofa_tvm.display import print_result, say
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.space.workload import Workload
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.targets import load_target
from ofa_tvm.workspace import DEFAULT_ROOT, Workspace

app = new_app("Time the kernels of the largest subnet one by one, and show the heaviest.")


@app.command()
def kernels(
    supernet: SupernetOption = DEFAULT_SUPERNET,
    runs: RunsOption = DEFAULT_ROOT,
    resolution: Annotated[int | None, typer.Option("--resolution", help="Of the subnet; default the largest.")] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many kernels to show.")] = 10,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Samples of a millisecond of each kernel.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Parse, build, time, print."""
    folder = find_supernet(supernet)
    space = folder.metadata.space
    architecture = space.largest(resolution)
    space.check(architecture)
    counts = Counter(workloads(space, architecture))
    say(f"building {len(counts)} kernels")
    load_before = load_average()
    latencies_ms = _latencies_ms(list(counts), Workspace(runs, "local", folder.metadata.name).records, repeats)
    total_ms = sum(latencies_ms[workload] * count for workload, count in counts.items())
    heaviest = sorted(counts, key=lambda workload: -latencies_ms[workload] * counts[workload])[:top]
    result = {
        **machine(),
        **{"load_before": load_before, "load_after": load_average()},
        "architecture": str(architecture),
        "total_ms": total_ms,
        "kernels": [
            {
                "kernel": workload.key,
                "count": counts[workload],
                "ms": latencies_ms[workload],
                "share": latencies_ms[workload] * counts[workload] / total_ms,
                "gflops": 2 * workload.macs / latencies_ms[workload] / 1e6,
            }
            for workload in heaviest
        ],
    }
    print_result(result, as_json, _table(result))


def _latencies_ms(distinct: list[Workload], records: Path, repeats: int) -> dict[Workload, float]:
    """Median latency of each kernel with the best parameters on record."""
    import numpy as np
    import tvm

    from ofa_tvm.compiler.kernels import KernelObjects
    from ofa_tvm.compiler.linking import link_library
    from ofa_tvm.compiler.schedules import Schedules
    from ofa_tvm.compiler.templates import TEMPLATES
    from ofa_tvm.compiler.toolchain import Toolchain
    from ofa_tvm.measurement.records import RecordStore

    toolchain = Toolchain.of(load_target("local"))
    objects = KernelObjects(toolchain.tvm_target, toolchain.machine)
    schedules = Schedules(RecordStore(records), "local", toolchain.machine)
    random = np.random.default_rng(0)
    latencies_ms = {}
    with tempfile.TemporaryDirectory(prefix="ofa_tvm.") as folder:
        library = Path(folder) / "kernels.so"
        link_library(library, objects.get(distinct, schedules), toolchain.cross_compiler)
        module = tvm.runtime.load_module(str(library))
        for workload in distinct:
            shapes = TEMPLATES[workload.kind].argument_shapes(workload, toolchain.machine).values()
            arguments = [tvm.runtime.tensor(random.standard_normal(shape, dtype=np.float32)) for shape in shapes]
            evaluator = module.time_evaluator(workload.key, tvm.cpu(), number=10, repeat=repeats, min_repeat_ms=1)
            latencies_ms[workload] = statistics.median(evaluator(*arguments).results) * 1e3
    return latencies_ms


def _table(result: dict[str, Any]) -> Table:
    table = Table(
        *("kernel", "times", "µs", "share of time", "GFLOP/s"),
        title=f"{result['architecture']}: {result['total_ms']:.4f} ms in kernels, {result['cpu']}, one thread",
        caption=f"{result['date']}, load average {result['load_before']} before and {result['load_after']} after",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    for row in result["kernels"]:
        figures = (f"{row['count']}", f"{1e3 * row['ms']:.2f}", f"{row['share']:.1%}", f"{row['gflops']:.1f}")
        table.add_row(row["kernel"], *figures)
    return table


if __name__ == "__main__":
    run(app)
