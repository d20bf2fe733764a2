"""Progressive shrinking: trains the largest net, then ever smaller subnets with it as their teacher."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ofa_tvm.files import append_json_line
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.channels import sort_channels
from ofa_tvm.supernet.network import Supernet
from ofa_tvm.training.characters import CharacterImages, normalise
from ofa_tvm.training.phases import Phase
from ofa_tvm.training.state import TrainingState

LABEL_SMOOTHING = 0.1
WEIGHT_DECAY = 0.01
WARM_UP_STEPS = 100
GRADIENT_NORM_LIMIT = 10.0


@dataclass
class Progress:
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
    report: Callable[[Progress], None] = lambda _progress: None
    teacher: Supernet | None = field(default=None, init=False)

    def run(self) -> Supernet:
        """Train to the end of the last phase and return the supernet, in evaluation mode.

        Raises
        ------
        InvalidCheckpointError
            The folder holds a damaged state, or one of another search space.
        OutputError
            The folder can't be written.
        """
        torch.set_num_threads(self.threads)
        torch.manual_seed(self.seed)
        supernet = Supernet(self.space).to(memory_format=torch.channels_last)
        optimizer = _optimizer(supernet)
        state = TrainingState(self.folder, self.space)
        first_phase, first_step = state.load(supernet, optimizer)
        for index, phase in enumerate(self.phases):
            if index < first_phase:
                continue
            start = first_step if index == first_phase else 0
            if start == 0 and index > 0:
                self._begin(phase, supernet, optimizer)
            if phase.distils:
                self.teacher = state.load_teacher()
            for step in range(start, phase.steps):
                self._step(index, phase, step, supernet, optimizer)
                if (step + 1) % self.save_every == 0 and step + 1 < phase.steps:
                    state.save(supernet, optimizer, index, step + 1)
            if not phase.distils:
                state.save_teacher(supernet)
            state.save(supernet, optimizer, index + 1, 0)
        return supernet.eval()

    def finished_steps(self) -> int:
        """Steps that an earlier run in the folder has done and saved.

        Raises
        ------
        InvalidCheckpointError
            The folder holds a damaged state, or one of another search space.
        """
        phase, step = TrainingState(self.folder, self.space).position()
        return sum(earlier.steps for earlier in self.phases[:phase]) + step

    def _begin(self, phase: Phase, supernet: Supernet, optimizer: torch.optim.AdamW) -> None:
        """Start a phase afresh: forget the optimizer's moments, sort the channels if the phase asks for it."""
        optimizer.state.clear()
        if phase.kept_ratios is not None:
            sort_channels(supernet, phase.kept_ratios)

    def _step(self, index: int, phase: Phase, step: int, supernet: Supernet, optimizer: torch.optim.AdamW) -> None:
        rng = np.random.default_rng([self.seed, index, step])
        resolution = int(rng.choice(phase.space.resolutions))
        stream = CharacterImages(self.seed * 1000 + index + 1, phase.difficulty(step))
        images, labels = stream.block(step, resolution)
        images = normalise(images)
        supernet.train()
        started = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(phase, step)
        optimizer.zero_grad()
        soft_labels = self._teach(images)
        losses, hits = [], []
        for _ in range(phase.subnets_per_step):
            logits = supernet(images, phase.space.sample(rng))
            loss = _loss(logits, labels, soft_labels)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.item())
            hits.append((logits.argmax(1) == labels).float().mean().item())
        nn.utils.clip_grad_norm_(supernet.parameters(), GRADIENT_NORM_LIMIT)
        optimizer.step()
        progress = Progress(phase.name, step + 1, phase.steps, float(np.mean(losses)), float(np.mean(hits)))
        self.report(progress)
        if (step + 1) % self.log_every == 0:
            seconds = time.perf_counter() - started
            append_json_line(self.folder / "log.jsonl", {**vars(progress), "step_seconds": round(seconds, 3)})

    def _teach(self, images: Tensor) -> Tensor | None:
        """The teacher's class probabilities; it uses the batch's own BN statistics, as upstream."""
        if self.teacher is None:
            return None
        with torch.no_grad():
            return self.teacher(images, self.space.largest(images.shape[-1])).softmax(1)


def _loss(logits: Tensor, labels: Tensor, soft_labels: Tensor | None) -> Tensor:
    """Label-smoothed cross-entropy; with a teacher, its mean with soft cross-entropy at ratio 1."""
    loss = nn.functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
    if soft_labels is None:
        return loss
    distillation = -(soft_labels * logits.log_softmax(1)).sum(1).mean()
    return loss + distillation


def _optimizer(supernet: Supernet) -> torch.optim.AdamW:
    """AdamW, without weight decay on BN parameters and biases.

    The paper trains with SGD, for hundreds of epochs; in the few thousand steps that one CPU core
    does in an hour, AdamW gets further.
    """
    decayed = [p for p in supernet.parameters() if p.dim() > 1]
    plain = [p for p in supernet.parameters() if p.dim() <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}],
    )


def _learning_rate(phase: Phase, step: int) -> float:
    warm_up = min(WARM_UP_STEPS, phase.steps // 10)
    if step < warm_up:
        return phase.learning_rate * (step + 1) / warm_up
    return phase.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (phase.steps - warm_up)))
