from __future__ import annotations

import json

import numpy as np
import pytest

from ofa_tvm.errors import InvalidArchitectureError
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.search_space import SearchSpace


def test_json_round_trip(space):
    assert SearchSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space


@pytest.mark.parametrize(
    "change",
    [{"family": "resnet50d"}, {"stages": 5}, {"resolutions": 32}, {"kernel_sizes": [3, 9]}, {"depths": None}],
)
def test_damaged_json_is_refused(space, change):
    with pytest.raises(InvalidArchitectureError):
        SearchSpace.from_dict(space.to_dict() | change)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width_multiplier": 0.0},
        {"num_classes": 1},
        {"resolutions": ()},
        {"resolutions": (64, 32)},
        {"resolutions": (30,)},
        {"depths": (2, 2)},
        {"depths": (1, 2)},
        {"kernel_sizes": (3, 9)},
        {"expand_ratios": (3, 5)},
    ],
)
def test_spaces_that_are_none(wrong):
    with pytest.raises(InvalidArchitectureError):
        SearchSpace(**({"width_multiplier": 1.0, "num_classes": 10, "resolutions": (32, 64)} | wrong))


def test_samples_belong_and_reach_every_choice(space):
    rng = np.random.default_rng(0)
    drawn = [space.sample(rng) for _ in range(200)]
    for architecture in drawn:
        space.check(architecture)
    assert {a.resolution for a in drawn} == set(space.resolutions)
    assert {depth for a in drawn for depth in a.depths} == set(space.depths)
    blocks = {(b.kernel_size, b.expand_ratio) for a in drawn for stage in a.stages for b in stage}
    assert len(blocks) == 9


def test_sampling_is_seeded(space):
    assert space.sample(np.random.default_rng(3)) == space.sample(np.random.default_rng(3))


def test_check_names_the_choice(space):
    narrow = SearchSpace(1.2, 1000, (224,), depths=(2, 3), kernel_sizes=(3, 7), expand_ratios=(3, 6))
    for architecture, named in (
        (space.uniform(160, 2, 3, 3), "resolution 160"),
        (space.uniform(224, 4, 3, 3), "depth 4"),
        (space.uniform(224, 2, 5, 3), "kernel size 5"),
        (space.uniform(224, 2, 3, 4), "expand ratio 4"),
        (Architecture(224, space.smallest().stages[:4]), "4 stages"),
    ):
        with pytest.raises(InvalidArchitectureError, match=named):
            narrow.check(architecture)
    narrow.check(space.uniform(224, 3, 7, 6))


def test_extremes(space):
    assert space.smallest() == space.uniform(128, 2, 3, 3)
    assert space.largest() == space.uniform(224, 4, 7, 6)
    assert space.largest(160).resolution == 160


def test_size_counts_what_enumeration_finds():
    space = SearchSpace(0.5, 10, (32, 64), depths=(2,), kernel_sizes=(3,), expand_ratios=(3, 4))
    assert space.size == 2 * 2**10
    assert len(set(space.sample_distinct(space.size, 0))) == space.size


def test_sample_distinct_repeats_for_a_seed_and_starts_with_what_it_is_given():
    space = SearchSpace(0.5, 10, (32, 64))
    first = [space.largest(), space.smallest()]
    drawn = space.sample_distinct(20, 7, first)
    assert drawn[:2] == first
    assert len(set(drawn)) == 20
    assert drawn == space.sample_distinct(20, 7, first)


def test_asking_for_more_architectures_than_there_are_is_an_error():
    space = SearchSpace(0.5, 10, (32,), depths=(2,), kernel_sizes=(3,), expand_ratios=(3,))
    with pytest.raises(InvalidArchitectureError, match="only 1"):
        space.sample_distinct(2, 0)
