"""Train a supernet by progressive shrinking on rendered images of characters: ``python -m ofa_tvm.train``."""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("ofa_tvm.train")

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ofa_tvm.console import new_app
from ofa_tvm.display import print_result, progress, say
from ofa_tvm.errors import UsageError
from ofa_tvm.options import DryRunOption, JsonOption, SeedOption, positive_float
from ofa_tvm.space.architecture import RESOLUTION_STEP
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.metadata import DataDescription, PhaseRecord, SupernetDescription, TrainingRecord
from ofa_tvm.training.phases import Phase, progressive_shrinking

if TYPE_CHECKING:
    from ofa_tvm.supernet.network import Supernet
    from ofa_tvm.training.shrinking import ProgressiveShrinking

# Streams of images that no phase of training draws from.
CALIBRATION_SEED, HELD_OUT_SEED = 900_001, 900_002

app = new_app(
    """Train a supernet by progressive shrinking on rendered images of characters; about an hour on one CPU core.

    Stopped at any moment, the same command goes on from the last saved state.
    """,
    "python -m ofa_tvm.train --out runs/train",
    "python -m ofa_tvm.train --out runs/wide --width 1.0 --threads 4",
)


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", help="Folder of the state, the log and the trained supernet.")] = Path(
        "runs/train"
    ),
    name: Annotated[str, typer.Option("--name", help="Name of the trained supernet.")] = "characters",
    width: Annotated[
        float, typer.Option("--width", help="Width multiplier of MobileNetV3.", callback=positive_float)
    ] = 0.5,
    resolutions: Annotated[
        str, typer.Option("--resolutions", help="First and last input size in pixels; by a step of 4 between.")
    ] = "32:64",
    scale: Annotated[
        float, typer.Option("--scale", help="Multiplies the steps of all phases.", callback=positive_float)
    ] = 1.0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads.")] = 1,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Parse, train phase by phase, write the supernet."""
    from ofa_tvm.supernet.checkpoint import save_supernet
    from ofa_tvm.training.glyphs import CLASS_NAMES
    from ofa_tvm.training.shrinking import ProgressiveShrinking

    space = SearchSpace(width, len(CLASS_NAMES), _resolutions(resolutions))
    phases = progressive_shrinking(space, scale)
    for phase in phases:
        say(f"{phase.name}: {phase.steps} steps, {phase.subnets_per_step} subnet(s) a step")
    if dry_run:
        return
    command = f"python -m ofa_tvm.train --width {width:g} --resolutions {resolutions} --scale {scale:g} --seed {seed}"
    supernet = _train(ProgressiveShrinking(space, phases, out, seed, threads))
    folder = save_supernet(out / "supernet", supernet, _describe(name, phases, seed, command))
    print_result(
        {"supernet": str(folder.path), "weights_sha256": folder.metadata.weights_sha256, "seed": seed}, as_json
    )


def _train(trainer: ProgressiveShrinking) -> Supernet:
    with progress(sum(phase.steps for phase in trainer.phases), "training", trainer.finished_steps()) as bar:
        trainer.report = lambda _progress: bar.advance()
        return trainer.run()


def _describe(name: str, phases: tuple[Phase, ...], seed: int, command: str) -> SupernetDescription:
    from ofa_tvm.training.characters import BLOCK, MEAN, STD
    from ofa_tvm.training.glyphs import CLASS_NAMES

    training = TrainingRecord(
        command=command,
        seed=seed,
        batch_size=BLOCK,
        phases=tuple(
            PhaseRecord(
                name=phase.name,
                steps=phase.steps,
                learning_rate=phase.learning_rate,
                subnets_per_step=phase.subnets_per_step,
            )
            for phase in phases
        ),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={package: version(package) for package in ("torch", "numpy", "matplotlib", "pillow", "ofa_tvm")},
    )
    data = DataDescription(kind="characters", calibration_seed=CALIBRATION_SEED, held_out_seed=HELD_OUT_SEED)
    return SupernetDescription(name=name, class_names=CLASS_NAMES, mean=MEAN, std=STD, data=data, training=training)


def _resolutions(text: str) -> tuple[int, ...]:
    try:
        first, last = (int(part) for part in text.split(":"))
    except ValueError:
        raise UsageError(f"--resolutions {text!r}: give the first and the last, as in 32:64") from None
    if not 0 < first <= last:
        raise UsageError(f"--resolutions {text!r}: the first must be positive and not above the last")
    return tuple(range(first, last + 1, RESOLUTION_STEP))
