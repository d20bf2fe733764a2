"""``python -m ofa_tvm.bundle``: verify, run and show what deploy wrote."""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("ofa_tvm.bundle.__main__")

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ofa_tvm.console import new_app
from ofa_tvm.display import print_result, say
from ofa_tvm.errors import UsageError
from ofa_tvm.options import EmulateOption, JsonOption, TrackerOption, chosen_target, positive_float, tracker_for

app = new_app(
    "Verify, run and show bundles, with nothing but TVM's runtime.",
    "python -m ofa_tvm.bundle verify out/rasp4-30ms",
    "python -m ofa_tvm.bundle verify out/rasp4-30ms --time 100 --pause 200",
    "python -m ofa_tvm.bundle verify out/rasp4-30ms --target rasp4",
    "python -m ofa_tvm.bundle verify out/rasp4-emulated-30ms --target rasp4 --emulate",
    "python -m ofa_tvm.bundle run out/rasp4-30ms photo.png --top 3",
    "python -m ofa_tvm.bundle show out/rasp4-30ms --json",
)

_PAUSED_RUNS = 30
_LONGEST_PAUSE_MS = 60_000.0
_EMULATED = " (computed or emulated, not measured on hardware)"

Directory = Annotated[Path, typer.Argument(metavar="DIR", help="The bundle.", show_default=False)]
Image = Annotated[Path, typer.Argument(metavar="IMAGE", help="A PNG or JPEG.", show_default=False)]
FilesOnly = Annotated[bool, typer.Option("--files-only", help="Only check the files, as for another CPU's bundle.")]
Repeats = Annotated[int, typer.Option("--time", min=0, metavar="RUNS", help="Also time so many runs here.")]
Pause = Annotated[
    float | None,
    typer.Option(
        "--pause",
        max=_LONGEST_PAUSE_MS,
        metavar="MS",
        callback=positive_float,
        help=f"Also time runs here with such a pause before each, {_PAUSED_RUNS} or as many as --time says.",
    ),
]
OnTarget = Annotated[
    str | None, typer.Option("--target", help="Run it on a device of this target, by RPC; default this machine.")
]
Top = Annotated[int, typer.Option("--top", min=1, help="How many classes to show.")]


@app.command()
def verify(
    directory: Directory,
    files_only: FilesOnly = False,
    repeats: Repeats = 0,
    pause_ms: Pause = None,
    target: OnTarget = None,
    tracker: TrackerOption = None,
    emulate: EmulateOption = False,
    as_json: JsonOption = False,
) -> None:
    """Prove that a bundle is whole, runs here or on a device, and meets its budget; exit code 2 if not."""
    from ofa_tvm.bundle.files import check_files

    if target is not None and (files_only or repeats or pause_ms):
        raise UsageError("--target runs the bundle on that device: leave out --files-only, --time and --pause")
    if files_only and (repeats or pause_ms):
        raise UsageError("--files-only runs nothing: leave out --time and --pause")
    if emulate and target is None:
        raise UsageError("--emulate: which board? add --target, such as --target rasp4")
    if files_only:
        print_result({"directory": str(directory), "files": len(check_files(directory).files) + 1}, as_json)
        return
    if target is None:
        from ofa_tvm.bundle.verify import verify as verify_here

        report = verify_here(directory, repeats or (_PAUSED_RUNS if pause_ms else 0), pause_ms or 0.0)
    else:
        from ofa_tvm.bundle.verify_on_device import verify_on_device

        device_target = chosen_target(target, emulate, tracker)
        with tracker_for(device_target, emulate, tracker) as address:
            report = verify_on_device(directory, device_target, address, say)
    emulated = _EMULATED * report.emulated
    rows = {
        "files with the right digest": report.files,
        "sample output reproduced": f"relative error {report.relative_error:.1e}, tolerance {report.tolerance:.0e}",
        **({"reproduced on": report.ran_on} if target else {}),
        "measured latency": f"{report.measured_ms:.4g} ms on {report.device}{emulated}",
        "latency budget": f"{report.budget_ms:g} ms",
    }
    if report.here_ms is not None:
        rows["latency here, now"] = f"{report.here_ms:.4g} ms, median of {repeats or _PAUSED_RUNS} runs in a row"
        if report.here_sporadic_ms is not None:
            times = report.here_sporadic_ms / report.here_ms
            rows["latency here, sporadic"] = (
                f"{report.here_sporadic_ms:.4g} ms, {times:.2f} times that, with {pause_ms:g} ms before each run"
            )
    print_result(report.to_dict(), as_json, _table(f"verified: {directory}", rows))


@app.command()
def run(directory: Directory, image: Image, top: Top = 5, as_json: JsonOption = False) -> None:
    """Classify an image."""
    from ofa_tvm.bundle.runner import BundleRunner

    classes = BundleRunner(directory).classify(image, top)
    values = {"classes": [{"name": found.name, "probability": found.probability} for found in classes]}
    rows = {found.name: f"{found.probability:.1%}" for found in classes}
    print_result(values, as_json, _table(str(image), rows))


@app.command()
def show(directory: Directory, as_json: JsonOption = False) -> None:
    """Show what a bundle is, from its manifest alone."""
    from ofa_tvm.bundle.manifest import read_manifest
    from ofa_tvm.space.architecture import Architecture

    manifest = read_manifest(directory)
    latency, accuracy = manifest.latency, manifest.accuracy
    emulated = _EMULATED * (latency.measured.emulated or manifest.target.emulated)
    rows = {
        "target": manifest.target.name,
        "architecture": Architecture.from_dict(manifest.architecture),
        "supernet": manifest.supernet.name,
        "classes": len(manifest.class_names),
        "latency budget": f"{latency.budget_ms:g} ms",
        "predicted latency": f"{latency.predicted_ms:.4g} ms",
        "measured latency": f"{latency.measured.median_ms:.4g} ms on {latency.measured.device}{emulated}",
        "predicted accuracy": f"{accuracy.predicted:.1%}",
        "measured accuracy": f"{accuracy.measured:.1%} on {accuracy.images} images",
        "created": manifest.created.isoformat(),
    }
    print_result(manifest.model_dump(mode="json"), as_json, _table(str(directory), rows))


def _table(title: str, rows: dict[str, Any]) -> Table:
    table = Table("", "", title=title, title_justify="left", show_header=False)
    for name, value in rows.items():
        table.add_row(name, str(value))
    return table
