"""No image of a training is one that accuracy is measured or statistics are computed on, whatever the seed."""

from __future__ import annotations

import itertools

import pytest

from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.training.characters import BLOCK, CharacterImages
from ofa_tvm.training.phases import progressive_shrinking
from ofa_tvm.training.records import CALIBRATION_IMAGES, HELD_OUT_IMAGES
from ofa_tvm.training.shrinking import ProgressiveShrinking
from ofa_tvm.training.streams import CALIBRATION_SEED, HELD_OUT_SEED, training_images, training_subnets

PHASES = 6
SEEDS = (
    *range(0, 890, 7),
    *range(890, 910),
    *range(910, 2000, 7),
    900_001,
    900_002,
    2**32 - 1,
    2**32 + 900_002,
    2**64,
    2**96 + 5,
    2**200,
)


def origin(stream, index):
    return tuple(stream.entropy(index).generate_state(4).tolist())


def evaluated():
    calibration = [(CALIBRATION_SEED, index) for index in range(-(-CALIBRATION_IMAGES // BLOCK))]
    held_out = [(HELD_OUT_SEED, index) for index in range(-(-HELD_OUT_IMAGES // BLOCK))]
    return {origin(CharacterImages(seed), index) for seed, index in calibration + held_out}


def test_calibration_and_held_out_images_differ():
    assert len(evaluated()) == -(-CALIBRATION_IMAGES // BLOCK) + -(-HELD_OUT_IMAGES // BLOCK)


def test_no_seed_trains_on_images_of_calibration_or_test():
    trained = {
        origin(training_images(seed, phase, 1.0), step)
        for seed, phase, step in itertools.product(SEEDS, range(PHASES), (0, 1, 78, 3999))
    }
    assert len(trained) == len(SEEDS) * PHASES * 4  # and each block of a training is another
    assert not trained & evaluated()


def test_what_chooses_subnets_is_not_what_draws_images():
    subnets = {
        tuple(training_subnets(seed, phase, step).bit_generator.seed_seq.generate_state(4).tolist())
        for seed, phase, step in itertools.product(SEEDS, range(PHASES), (0, 1, 78, 3999))
    }
    images = {
        origin(training_images(seed, phase, 1.0), step)
        for seed, phase, step in itertools.product(SEEDS, range(PHASES), (0, 1, 78, 3999))
    }
    assert len(subnets) == len(images)
    assert not subnets & (images | evaluated())


@pytest.mark.parametrize("seed", [0, 899, 900])  # 900 * 1000 + 1 was the seed of the calibration images
def test_the_trainer_draws_from_the_streams_of_training(space, tmp_path, monkeypatch, seed):
    drawn = []
    block = CharacterImages.block

    def recorded(self, index, resolution):
        drawn.append(origin(self, index))
        return block(self, index, resolution)

    monkeypatch.setattr(CharacterImages, "block", recorded)
    phases = progressive_shrinking(space, 1e-9)
    ProgressiveShrinking(space, phases, tmp_path, seed).run()
    assert drawn == [origin(training_images(seed, phase, 1.0), 0) for phase in range(len(phases))]
    assert not set(drawn) & evaluated()


def test_the_shipped_supernet_is_measured_on_the_images_it_always_was():
    """Its records hold for these streams, so what they draw must not change."""
    data = find_supernet(DEFAULT_SUPERNET).metadata.data
    assert (data.calibration_seed, data.held_out_seed) == (CALIBRATION_SEED, HELD_OUT_SEED)
    held_out, calibration = CharacterImages(HELD_OUT_SEED), CharacterImages(CALIBRATION_SEED)
    assert held_out.block(0, 32)[1][:10].tolist() == [12, 34, 35, 27, 45, 24, 3, 35, 40, 13]
    assert calibration.block(31, 32)[1][:10].tolist() == [25, 45, 27, 20, 2, 12, 2, 20, 7, 44]
