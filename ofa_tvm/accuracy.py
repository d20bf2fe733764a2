"""Measure the accuracy of subnets and train the accuracy predictor on it: ``python -m ofa_tvm.accuracy``."""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("ofa_tvm.accuracy")

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ofa_tvm.console import new_app
from ofa_tvm.display import TERMINAL, print_result, say
from ofa_tvm.errors import UsageError
from ofa_tvm.options import DryRunOption, JsonOption, RunsOption, SeedOption, SupernetOption
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.training.accuracy_runs import AccuracyRun, subnets_to_measure
from ofa_tvm.training.records import CALIBRATION_IMAGES, HELD_OUT_IMAGES
from ofa_tvm.workspace import DEFAULT_ROOT

if TYPE_CHECKING:
    from ofa_tvm.predictors.accuracy import AccuracyPredictor

app = new_app(
    """Measure the accuracy of subnets of a supernet, and train the predictor of accuracy on all that is measured.

    Records and predictor are kept beside the supernet's weights; those of a supernet that comes with the package, or
    whose folder can't be written, below --runs in supernets/NAME, and its own are read together with them. (To renew
    the package's own, give that folder's path.) Interrupted, the same command goes on where it stopped.

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
    runs: RunsOption = DEFAULT_ROOT,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Parse, measure, train, print."""
    folder = find_supernet(supernet)
    measuring = AccuracyRun(folder, folder.accuracy_files(runs), images, calibration_images, threads)
    wanted = subnets_to_measure(folder.metadata.space, subnets or 0, seed)
    if architectures is not None:
        wanted += _read_front(architectures, folder.metadata.space)
    measured = {record.architecture for record in measuring.records()}
    say(
        f"{folder.metadata.name}: {len(measured)} subnets have an accuracy record, {len(measuring.left(wanted))} to "
        f"measure, to {measuring.files.own}"
    )
    if dry_run:
        return
    measuring.measure(wanted, TERMINAL)
    from ofa_tvm.predictors.accuracy_training import renew

    result = _result(measuring, renew(measuring, seed))
    print_result(result, as_json, _table(result))


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


def _result(measuring: AccuracyRun, predictor: AccuracyPredictor) -> dict[str, Any]:
    accuracies = [record.accuracy for record in measuring.records()]
    return {
        "supernet": measuring.folder.metadata.name,
        "records": len(accuracies),
        "lowest_accuracy": min(accuracies),
        "highest_accuracy": max(accuracies),
        "held_out": predictor.summary.held_out.to_dict(),
        "accuracy_predictor": str(measuring.files.predictor),
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
