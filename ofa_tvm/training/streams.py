"""Which streams of images serve what: training, calibration and test never see an image of each other's."""

from __future__ import annotations

import numpy as np

from ofa_tvm.training.characters import CharacterImages

CALIBRATION_SEED, HELD_OUT_SEED = 900_001, 900_002
"""Of every supernet trained here; ``supernet.json`` records them, and its accuracies hold for them alone."""

# What a branch begins with; kept for ever, for a number given twice would mix what they keep apart.
_TRAINING_IMAGES, _TRAINING_SUBNETS = 1, 2


def training_images(seed: int, phase: int, difficulty: float) -> CharacterImages:
    """The images of one phase of a training, whatever its seed."""
    return CharacterImages(seed, difficulty, (_TRAINING_IMAGES, phase))


def training_subnets(seed: int, phase: int, step: int) -> np.random.Generator:
    """What chooses the resolution and the subnets of one step of a training."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_TRAINING_SUBNETS, phase, step)))
