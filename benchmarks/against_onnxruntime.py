"""Our libraries beside ONNX Runtime on the very same subnets, in one process, taking turns.

Usage::

    python benchmarks/against_onnxruntime.py                        # five subnets of the shipped supernet
    python benchmarks/against_onnxruntime.py runs/local/*/deployed-*
    python benchmarks/against_onnxruntime.py --supernet FOLDER --runs runs --repeats 500 --json

Arguments are bundles that ``python -m ofa_tvm.deploy --target local`` wrote. Without any, subnets are compiled with
the best kernels among the records in ``--runs``, and the table says how many of them were tuned. Outputs are compared
before anything is timed. A figure is a median over ``--repeats`` samples of a millisecond, with the fastest one in
parentheses; on an idle machine they are close together.
"""

from __future__ import annotations

from ofa_tvm.console import (  # first, so that Ctrl-C while the others load is one line too
    JsonOption,
    RunsOption,
    SeedOption,
    SupernetOption,
    new_app,
    run,
)

# isort: split
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from provenance import load_average, machine
from rich.table import Table

from ofa_tvm.display import print_result, progress, say
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.targets import load_target
from ofa_tvm.workspace import DEFAULT_ROOT, Workspace

app = new_app("Compare libraries with ONNX Runtime on the very same subnets, in one process, taking turns.")


@app.command()
def against_onnxruntime(
    bundles: Annotated[list[Path] | None, typer.Argument(help="Bundles; without any, subnets of the supernet.")] = None,
    supernet: SupernetOption = DEFAULT_SUPERNET,
    runs: RunsOption = DEFAULT_ROOT,
    subnets: Annotated[int, typer.Option("--subnets", min=1, help="The smallest, the largest, random ones.")] = 5,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Samples of each subnet, of each of both.")] = 200,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of both.")] = 1,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Parse, build, compare, print."""
    os.environ["TVM_NUM_THREADS"] = str(threads)  # read once, when TVM is imported
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from comparison import compare
    from subjects import bundle_subject, compiled_subjects

    from ofa_tvm.predictors.profiling import subnets_to_profile

    folder = find_supernet(supernet)
    target = load_target("local").model_copy(update={"threads": threads})
    records = Workspace(runs, target.name, folder.metadata.name).records
    with tempfile.TemporaryDirectory(prefix="ofa_tvm.") as libraries:
        if bundles:
            say("building the subnets of the bundles")
            subjects = [bundle_subject(bundle, folder, threads) for bundle in bundles]
        else:
            say(f"building {subnets} subnets of {folder.metadata.name}")
            architectures = subnets_to_profile(folder.metadata.space, subnets, seed)
            subjects = compiled_subjects(folder, architectures, target, records, Path(libraries))
        load_before = load_average()
        rows: list[dict[str, Any]] = []
        with progress(len(subjects), "subnets") as bar:
            for subject in subjects:
                found = compare(subject, repeats, threads)
                rows.append(
                    {
                        "architecture": str(subject.architecture),
                        "mmac": subject.macs / 1e6,
                        "kernels": subject.kernels,
                        "ours_ms": found.ours_ms,
                        "ours_fastest_ms": found.ours_fastest_ms,
                        "onnxruntime_ms": found.onnxruntime_ms,
                        "onnxruntime_fastest_ms": found.onnxruntime_fastest_ms,
                        "ratio": found.onnxruntime_ms / found.ours_ms,
                        "relative_error": found.relative_error,
                    }
                )
                bar.advance()
    load = {"load_before": load_before, "load_after": load_average()}
    result = {**machine(), **load, "threads": threads, "repeats": repeats, "subnets": rows}
    print_result(result, as_json, _table(result))


def _table(result: dict[str, Any]) -> Table:
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    table = Table(
        *("MMAC", "ours, ms", "ONNX Runtime, ms", "times as fast", "relative error"),
        "kernels",
        "architecture",
        title=f"{result['cpu']}, threads: {result['threads']}, medians of {result['repeats']} samples (fastest)",
        caption=f"{result['date']}, load average {result['load_before']} before and {result['load_after']} after, "
        f"{result['cpus']} CPUs; {versions}",
    )
    for column in table.columns[:5]:
        column.justify = "right"
    for row in result["subnets"]:
        figures = (
            f"{row['mmac']:.2f}",
            f"{row['ours_ms']:.4f} ({row['ours_fastest_ms']:.4f})",
            f"{row['onnxruntime_ms']:.4f} ({row['onnxruntime_fastest_ms']:.4f})",
            f"{row['ratio']:.2f}",
            f"{row['relative_error']:.1e}",
        )
        table.add_row(*figures, row["kernels"], row["architecture"])
    return table


if __name__ == "__main__":
    run(app)
