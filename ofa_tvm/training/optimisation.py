"""What one optimiser step minimises, with which optimiser, and how fast."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ofa_tvm.supernet.network import Supernet
from ofa_tvm.training.phases import Phase

LABEL_SMOOTHING = 0.1
WEIGHT_DECAY = 0.01
WARM_UP_STEPS = 100


def training_loss(logits: Tensor, labels: Tensor, soft_labels: Tensor | None) -> Tensor:
    """Label-smoothed cross-entropy, plus with a teacher soft cross-entropy at ratio 1.

    Parameters
    ----------
    logits
        Shape (N, classes).
    labels
        int64 class indices, shape (N,).
    soft_labels
        The teacher's class probabilities, shape (N, classes).
    """
    loss = nn.functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
    if soft_labels is None:
        return loss
    distillation = -(soft_labels * logits.log_softmax(1)).sum(1).mean()
    return loss + distillation


def new_optimizer(supernet: Supernet) -> torch.optim.AdamW:
    """AdamW, without weight decay on BN parameters and biases.

    The paper trains with SGD, for hundreds of epochs; in the few thousand steps that one CPU core
    does in an hour, AdamW gets further.
    """
    decayed = [p for p in supernet.parameters() if p.dim() > 1]
    plain = [p for p in supernet.parameters() if p.dim() <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}],
    )


def learning_rate(phase: Phase, step: int) -> float:
    """Of one step: a linear warm-up over at most a tenth of the phase, then a cosine down to 0."""
    warm_up = min(WARM_UP_STEPS, phase.steps // 10)
    if step < warm_up:
        return phase.learning_rate * (step + 1) / warm_up
    return phase.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (phase.steps - warm_up)))
