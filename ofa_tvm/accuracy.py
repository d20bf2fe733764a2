"""Measure the accuracy of subnets and train the accuracy predictor on it: ``python -m ofa_tvm.accuracy``."""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("ofa_tvm.accuracy")

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ofa_tvm.console import new_app
from ofa_tvm.display import print_result, progress, say
from ofa_tvm.errors import UsageError
from ofa_tvm.options import DryRunOption, JsonOption, SeedOption, SupernetOption
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, SupernetFolder, find_supernet
from ofa_tvm.training.records import (
    CALIBRATION_IMAGES,
    HELD_OUT_IMAGES,
    AccuracyRecord,
    append_accuracy_record,
    read_accuracy_records,
)

app = new_app(
    """Measure the accuracy of subnets of a supernet, and train the predictor of accuracy on all that is measured.

    Records are kept beside the supernet's weights; interrupted, the same command goes on where it stopped.
    Without --subnets and --architectures it measures none, and trains again on the records there are. The search
    leans on the predictor's errors; measuring its front (--architectures) mends them where they matter.
    """,
    "python -m ofa_tvm.accuracy",
    "python -m ofa_tvm.accuracy --supernet runs/train/supernet --subnets 320",
    "python -m ofa_tvm.accuracy --supernet runs/train/supernet --architectures front.json",
)


@app.command()
def accuracy(
    supernet: SupernetOption = DEFAULT_SUPERNET,
    subnets: Annotated[
        int | None, typer.Option("--subnets", min=20, help="Measure until so many subnets have a record.")
    ] = None,
    architectures: Annotated[
        Path | None,
        typer.Option("--architectures", help="Also measure these: what python -m ofa_tvm.search --json printed."),
    ] = None,
    images: Annotated[int, typer.Option("--images", min=100, help="Held-out images a subnet.")] = HELD_OUT_IMAGES,
    calibration_images: Annotated[
        int, typer.Option("--calibration-images", min=2, help="Images a subnet's BN statistics are computed on.")
    ] = CALIBRATION_IMAGES,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads.")] = 1,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Parse, measure, train, print."""
    folder = find_supernet(supernet)
    measured = {record.architecture for record in _records(folder, images, calibration_images)}
    wanted = subnets_to_measure(folder.metadata.space, subnets or 0, seed)
    if architectures is not None:
        wanted += _read_front(architectures, folder.metadata.space)
    left = [architecture for architecture in dict.fromkeys(wanted) if architecture not in measured]
    say(f"{folder.metadata.name}: {len(measured)} subnets have an accuracy record, {len(left)} to measure")
    if dry_run:
        return
    if left:
        _measure(folder, left, images, calibration_images, threads)
    result = _train(folder, _records(folder, images, calibration_images), seed)
    print_result(result, as_json, _table(result))


def subnets_to_measure(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """The smallest and the largest subnet at each resolution, then random ones; always the same for a seed.

    Raises
    ------
    InvalidArchitectureError
        The space has fewer.
    """
    extremes = [pick(resolution) for resolution in space.resolutions for pick in (space.smallest, space.largest)]
    return space.sample_distinct(count, seed, first=extremes)


def _read_front(path: Path, space: SearchSpace) -> list[Architecture]:
    """The architectures of a Pareto front as ``search --json`` prints it.

    Raises
    ------
    UsageError
        The file is something else, or an architecture lies outside the space.
    """
    try:
        front = json.loads(path.read_text())["front"]
        found = [Architecture.from_dict(candidate["architecture"]) for candidate in front]
        for architecture in found:
            space.check(architecture)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not what python -m ofa_tvm.search --json prints here: {error}") from error
    return found


def _records(folder: SupernetFolder, images: int, calibration_images: int) -> list[AccuracyRecord]:
    """Those of the supernet's weights on so many images; others are no measure of the same quantity."""
    records = read_accuracy_records(folder.accuracy_records, folder.metadata.weights_sha256)
    return [r for r in records if (r.images, r.calibration_images) == (images, calibration_images)]


def _measure(
    folder: SupernetFolder, architectures: list[Architecture], images: int, calibration_images: int, threads: int
) -> None:
    from ofa_tvm.training.evaluation import Evaluator

    evaluator = Evaluator(folder, calibration_images, images, threads)
    with progress(len(architectures), "subnets") as bar:
        for architecture in architectures:
            append_accuracy_record(folder.accuracy_records, evaluator.accuracy(architecture))
            bar.advance()


def _train(folder: SupernetFolder, records: list[AccuracyRecord], seed: int) -> dict[str, Any]:
    from ofa_tvm.predictors.accuracy_training import train

    predictor = train(folder.metadata.space, [(record.architecture, record.accuracy) for record in records], seed)
    provenance = {"supernet": folder.metadata.name, "weights_sha256": folder.metadata.weights_sha256}
    predictor.save(folder.accuracy_predictor, provenance)
    accuracies = [record.accuracy for record in records]
    return {
        "supernet": folder.metadata.name,
        "records": len(records),
        "lowest_accuracy": min(accuracies),
        "highest_accuracy": max(accuracies),
        "held_out": predictor.summary.held_out.to_dict(),
        "accuracy_predictor": str(folder.accuracy_predictor),
    }


def _table(result: dict[str, Any]) -> Table:
    held_out = result["held_out"]
    table = Table(title=f"Accuracy predictor for {result['supernet']}", show_header=False)
    for name, value in (
        (
            "measured subnets",
            f"{result['records']}, {result['lowest_accuracy']:.1%} to {result['highest_accuracy']:.1%}",
        ),
        ("held-out subnets", str(held_out["count"])),
        ("held-out error", f"{100 * held_out['mae']:.2f} points mean, {100 * held_out['worst_error']:.2f} worst"),
        ("held-out rank correlation", f"Spearman {held_out['spearman']:.4f}, Kendall {held_out['kendall']:.4f}"),
        ("written to", result["accuracy_predictor"]),
    ):
        table.add_row(name, value)
    return table
