"""Progressive shrinking: trains the largest net, then ever smaller subnets with it as their teacher."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ofa_tvm.errors import StageError
from ofa_tvm.files import append_json_line
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.channels import sort_channels
from ofa_tvm.supernet.network import Supernet
from ofa_tvm.training.characters import normalise
from ofa_tvm.training.memory_layout import channels_last
from ofa_tvm.training.optimisation import learning_rate, new_optimizer, training_loss
from ofa_tvm.training.phases import Phase
from ofa_tvm.training.state import Position, TrainingState
from ofa_tvm.training.streams import training_images, training_subnets

GRADIENT_NORM_LIMIT = 10.0


@dataclass
class TrainingProgress:
    """What the trainer tells after every step."""

    phase: str
    step: int
    steps: int
    loss: float
    accuracy: float


@dataclass
class ProgressiveShrinking:
    """Trains a supernet phase by phase; stopped at any moment, it goes on from its last saved state.

    What a step does depends only on the seed, the phase and the step's number, so that a resumed
    run sees the images and subnets that an uninterrupted one would have seen.

    Attributes
    ----------
    folder
        Where the state and the log are kept.
    save_every
        Steps between two saved states.
    """

    space: SearchSpace
    phases: tuple[Phase, ...]
    folder: Path
    seed: int = 0
    threads: int = 1
    save_every: int = 200
    log_every: int = 50
    report: Callable[[TrainingProgress], None] = lambda _progress: None
    teacher: Supernet | None = field(default=None, init=False)

    def run(self) -> Supernet:
        """Train to the end of the last phase and return the supernet, in evaluation mode.

        Raises
        ------
        InvalidCheckpointError
            The folder holds a damaged state, or one of another search space, seed or schedule.
        OutputError
            The folder can't be written.
        StageError
            The loss is NaN or infinite; the last saved state is from before.
        """
        torch.set_num_threads(self.threads)
        torch.manual_seed(self.seed)
        supernet = channels_last(Supernet(self.space))
        optimizer = new_optimizer(supernet)
        state = self._state()
        first = state.load(supernet, optimizer)
        for index, phase in enumerate(self.phases):
            if index < first.phase:
                continue
            start = first.step if index == first.phase else 0
            if start == 0 and index > 0:
                self._begin(phase, supernet, optimizer)
            if phase.distils:
                self.teacher = state.load_teacher()
            for step in range(start, phase.steps):
                self._step(index, phase, step, supernet, optimizer)
                if (step + 1) % self.save_every == 0 and step + 1 < phase.steps:
                    state.save(supernet, optimizer, Position(index, step + 1))
            if not phase.distils:
                state.save_teacher(supernet)
            state.save(supernet, optimizer, Position(index + 1))
        return supernet.eval()

    def finished_steps(self) -> int:
        """Steps that an earlier run in the folder has done and saved.

        Raises
        ------
        InvalidCheckpointError
            The folder holds a damaged state, or one of another search space, seed or schedule.
        """
        position = self._state().position()
        return sum(earlier.steps for earlier in self.phases[: position.phase]) + position.step

    def _state(self) -> TrainingState:
        return TrainingState(self.folder, self.space, self.phases, self.seed)

    def _begin(self, phase: Phase, supernet: Supernet, optimizer: torch.optim.AdamW) -> None:
        """Start a phase afresh: forget the optimizer's moments, sort the channels if the phase asks for it."""
        optimizer.state.clear()
        if phase.kept_ratios is not None:
            sort_channels(supernet, phase.kept_ratios)

    def _step(self, index: int, phase: Phase, step: int, supernet: Supernet, optimizer: torch.optim.AdamW) -> None:
        rng = training_subnets(self.seed, index, step)
        resolution = int(rng.choice(phase.space.resolutions))
        stream = training_images(self.seed, index, phase.difficulty(step))
        images, labels = stream.block(step, resolution)
        images = normalise(images)
        supernet.train()
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(phase, step)
        optimizer.zero_grad()
        soft_labels = self._teach(images)
        losses, hits = [], []
        for _ in range(phase.subnets_per_step):
            logits = supernet(images, phase.space.sample(rng))
            loss = training_loss(logits, labels, soft_labels)
            torch.autograd.backward(loss)
            losses.append(loss.item())
            hits.append((logits.argmax(1) == labels).float().mean().item())
        norm = nn.utils.clip_grad_norm_(supernet.parameters(), GRADIENT_NORM_LIMIT)
        if not (np.isfinite(losses).all() and norm.isfinite()):
            raise StageError(
                f"training diverged at step {step + 1} of phase {phase.name}: the loss is {np.mean(losses):g}, the "
                f"gradient's norm {norm:g}; train with another --seed, to another folder with --out"
            )
        optimizer.step()
        progress = TrainingProgress(phase.name, step + 1, phase.steps, float(np.mean(losses)), float(np.mean(hits)))
        self.report(progress)
        if (step + 1) % self.log_every == 0:
            seconds = time.perf_counter() - started
            append_json_line(self.folder / "log.jsonl", {**vars(progress), "step_seconds": round(seconds, 3)})

    def _teach(self, images: Tensor) -> Tensor | None:
        """The teacher's class probabilities; it uses the batch's own BN statistics, as upstream."""
        if self.teacher is None:
            return None
        with torch.no_grad():
            logits: Tensor = self.teacher(images, self.space.largest(images.shape[-1]))
            return logits.softmax(1)
