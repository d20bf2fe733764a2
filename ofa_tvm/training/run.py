"""Train a supernet from nothing to a folder that every later stage reads."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from ofa_tvm.reporting import Reporter, Silent
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.checkpoint import save_supernet
from ofa_tvm.supernet.metadata import (
    DataDescription,
    PhaseRecord,
    SupernetDescription,
    SupernetFolder,
    TrainingRecord,
)
from ofa_tvm.training.characters import BLOCK, MEAN, STD
from ofa_tvm.training.glyphs import CLASS_NAMES
from ofa_tvm.training.phases import Phase
from ofa_tvm.training.shrinking import ProgressiveShrinking
from ofa_tvm.training.streams import CALIBRATION_SEED, HELD_OUT_SEED

SUPERNET_FOLDER = "supernet"


def train_supernet(
    name: str,
    space: SearchSpace,
    phases: tuple[Phase, ...],
    folder: Path,
    seed: int = 0,
    threads: int = 1,
    command: str = "",
    reporter: Reporter | None = None,
) -> SupernetFolder:
    """Train phase by phase on characters, and write the supernet; stopped, the same call goes on.

    Parameters
    ----------
    name
        Of the supernet, a `PlainName`.
    folder
        Of the training's state and log; the supernet goes below it.
    threads
        CPU threads.
    command
        What would train the same supernet again, for its record.

    Raises
    ------
    pydantic.ValidationError
        At once: the name is none.
    InvalidCheckpointError
        The folder holds a damaged state, or one of another search space, seed or schedule.
    OutputError
        The folder can't be written.
    StageError
        The training diverged.
    """
    description = _describe(name, phases, seed, command)
    trainer = ProgressiveShrinking(space, phases, folder, seed, threads)
    steps = sum(phase.steps for phase in phases)
    with (reporter or Silent()).progress(steps, "training", trainer.finished_steps()) as bar:
        trainer.report = lambda _progress: bar.advance()
        supernet = trainer.run()
    finished = datetime.now(UTC).isoformat(timespec="seconds")
    record = description.training.model_copy(update={"finished": finished})
    return save_supernet(folder / SUPERNET_FOLDER, supernet, description.model_copy(update={"training": record}))


def _describe(name: str, phases: tuple[Phase, ...], seed: int, command: str) -> SupernetDescription:
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
        finished="",
        versions={package: version(package) for package in ("torch", "numpy", "matplotlib", "pillow", "ofa_tvm")},
    )
    data = DataDescription(kind="characters", calibration_seed=CALIBRATION_SEED, held_out_seed=HELD_OUT_SEED)
    return SupernetDescription(name=name, class_names=CLASS_NAMES, mean=MEAN, std=STD, data=data, training=training)
