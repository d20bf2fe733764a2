"""Kernels for 64-bit Arm in LLVM's model of a core, without such a CPU: multiply-adds a cycle, loads, spills.

Usage::

    python benchmarks/arm_static.py                                 # a subnet on a Raspberry Pi 4's Cortex-A72
    python benchmarks/arm_static.py --target rasp3 --resolution 128 --json
    python benchmarks/arm_static.py --top 5 --candidates            # how near the best the cost model's choice comes

This is a calculation, not a measurement: ``llvm-mca`` schedules the instructions that an emulator says were executed
on a core with all data in its first-level cache and every branch foreseen. What it is good for is the code: whether
the inner loop is bound by multiply-adds, and whether registers suffice. Kernels are those of a MobileNetV3 subnet
with kernel sizes 3, 5 and 7, with the parameters that the cost model chooses when nothing was measured.
"""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("arm_static")

from collections import Counter
from dataclasses import asdict
from typing import Annotated, Any

import typer
from arm_model import LLVM_MCA, Analysis, CoreModel
from figures import MarkdownOption, print_figures
from provenance import machine
from rich.table import Table

from ofa_tvm.compiler.cpu_features import architecture_of
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.templates import TEMPLATES, Parameters
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.console import new_app
from ofa_tvm.display import progress
from ofa_tvm.errors import UsageError
from ofa_tvm.options import JsonOption, TargetOption
from ofa_tvm.reporting import Progress
from ofa_tvm.space.architecture import EXPAND_RATIOS, KERNEL_SIZES, Architecture, Block
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.space.search_space import NUM_STAGES, SearchSpace
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import load_target

app = new_app(
    "Analyse the kernels of a subnet for 64-bit Arm in LLVM's model of a core: a calculation, not a measurement.",
    "python benchmarks/arm_static.py",
    "python benchmarks/arm_static.py --target rasp3 --resolution 128 --json",
    "python benchmarks/arm_static.py --top 5 --candidates",
)


@app.command()
def arm_static(
    target: TargetOption = "rasp4",
    core: Annotated[str | None, typer.Option("--core", help="LLVM's name of the core; default the target's.")] = None,
    width: Annotated[float, typer.Option("--width", help="Width multiplier of the subnet.")] = 1.0,
    resolution: Annotated[int, typer.Option("--resolution", help="Of the subnet.")] = 168,
    top: Annotated[int, typer.Option("--top", min=1, help="Only so many kernels, most multiply-adds first.")] = 1000,
    candidates: Annotated[bool, typer.Option("--candidates", help="All candidates, to find the best.")] = False,
    as_json: JsonOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Parse, analyse, print."""
    toolchain = Toolchain.of(load_target(target))
    if architecture_of(toolchain.tvm_target) != "aarch64":
        raise UsageError(f"{target} is no target for 64-bit Arm: name one such as rasp4")
    model = CoreModel(core or str(toolchain.tvm_target.attrs.get("mcpu")))
    objects = KernelObjects(toolchain.tvm_target, toolchain.machine)
    architecture = _architecture(resolution)
    counts = Counter(workloads(SearchSpace(width, 1000, (resolution,)), architecture))
    chosen = sorted(counts, key=lambda workload: -workload.macs * counts[workload])[:top]
    wanted = {w: TEMPLATES[w.kind].candidates(w, objects.machine)[: None if candidates else 1] for w in chosen}
    with progress(sum(map(len, wanted.values())), "analysing") as bar:
        rows = [_row(w, counts[w], _analyses(model, objects, w, wanted[w], bar), model.peak) for w in chosen]
    multiply_adds, cycles = (sum(row["count"] * row[key] for row in rows) for key in ("multiply_adds", "cycles"))
    result = {
        **machine(),
        "target": target,
        "model": f"{LLVM_MCA} -mcpu={model.core}",
        "architecture": str(architecture),
        "peak": model.peak,
        "cycles": cycles,
        "share": multiply_adds / cycles / model.peak,
        "kernels": rows,
    }
    print_figures(
        "arm_static",
        result,
        [_table(result)],
        as_json=as_json,
        markdown=markdown,
        cpu=f"{model.core} (calculated)",
    )


def _architecture(resolution: int) -> Architecture:
    """Three blocks a stage, kernel sizes and expand ratios in turn, so that every kind of kernel is there."""
    choices = list(zip(KERNEL_SIZES, EXPAND_RATIOS, strict=True))
    turns = [choices[stage % 3 :] + choices[: stage % 3] for stage in range(NUM_STAGES)]
    return Architecture(resolution, tuple(tuple(Block(k, e) for k, e in turn) for turn in turns))


def _analyses(
    model: CoreModel, objects: KernelObjects, workload: Workload, candidates: list[Parameters], bar: Progress
) -> dict[Parameters, Analysis]:
    result = {}
    for parameters in candidates:
        result[parameters] = model.analyse(objects, workload, parameters)
        bar.advance()
    return result


def _row(workload: Workload, count: int, analyses: dict[Parameters, Analysis], peak: float) -> dict[str, Any]:
    """What is known of a kernel with the first parameters, and of the best."""
    pick, best = next(iter(analyses)), min(analyses, key=lambda parameters: analyses[parameters].cycles)
    analysis = analyses[pick]
    return {
        **{"kernel": workload.key, "count": count, "macs": workload.macs, "parameters": asdict(pick)},
        "inner": {
            "multiply_adds": analysis.hottest.multiply_adds,
            "loads": analysis.hottest.loads,
            "stores": analysis.hottest.stores,
            "spills": analysis.hottest.spills,
            "prefetches": analysis.hottest.prefetches,
            "others": analysis.hottest.others,
            "share": analysis.hottest.multiply_adds / analysis.hottest_cycles / peak,
        },
        "multiply_adds": analysis.multiply_adds,
        "cycles": analysis.cycles,
        "spills": analysis.spills,
        "share": analysis.multiply_adds / analysis.cycles / peak,
        **{"candidates": len(analyses), "best": best.to_dict(), "best_cycles": analyses[best].cycles},
    }


def _table(result: dict[str, Any]) -> Table:
    table = Table(
        *("kernel", "times", "pixels x blocks", "fmla", "loads", "stores", "spills", "others", "inner loop", "kernel"),
        title=f"{result['target']}, {result['model']}: {result['cycles'] / 1e6:.2f} million cycles, "
        f"{result['share']:.1%} of {result['peak']:g} fmla a cycle",
        caption="Calculated by a model of the core with all data in its first-level cache: not a measurement.\n"
        "Instructions are those of the inner loop; then its share of the limit, and that of the whole kernel.\n"
        f"{result['architecture']}, {result['date']}",
    )
    compared = any(row["candidates"] > 1 for row in result["kernels"])
    if compared:
        table.add_column("cycles over the best's")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in result["kernels"]:
        inner, parameters = row["inner"], row["parameters"]
        figures = [str(inner[key]) for key in ("multiply_adds", "loads", "stores", "spills", "others")]
        tile = f"{parameters['tile_pixels']} x {parameters['tile_blocks']}"
        shares = [f"{inner['share']:.1%}", f"{row['share']:.1%}"]
        over = [f"{row['cycles'] / row['best_cycles']:.2f}"] if compared else []
        table.add_row(row["kernel"], str(row["count"]), tile, *figures, *shares, *over)
    return table
