from __future__ import annotations

import itertools

import pytest

from ofa_tvm.training.phases import progressive_shrinking

CHOICES = ("resolutions", "depths", "kernel_sizes", "expand_ratios")


def test_order(space):
    names = [phase.name for phase in progressive_shrinking(space)]
    assert names == ["base", "kernel", "depth-1", "depth-2", "width-1", "width-2"]


def test_spaces_grow_from_the_largest_net_to_the_full_space(space):
    phases = progressive_shrinking(space)
    for resolution in space.resolutions:
        assert phases[0].space.smallest(resolution) == phases[0].space.largest(resolution) == space.largest(resolution)
    for earlier, later in itertools.pairwise(phases):
        grown = [name for name in CHOICES if getattr(earlier.space, name) != getattr(later.space, name)]
        assert len(grown) == 1, (later.name, grown)
        assert set(getattr(earlier.space, grown[0])) < set(getattr(later.space, grown[0]))
    assert phases[-1].space == space


def test_channels_are_sorted_before_each_width_phase_within_what_is_trained(space):
    kept = {phase.name: phase.kept_ratios for phase in progressive_shrinking(space)}
    assert kept == {"base": None, "kernel": None, "depth-1": None, "depth-2": None, "width-1": 0, "width-2": 1}


def test_scale_multiplies_the_steps(space):
    full, half, least = (progressive_shrinking(space, scale) for scale in (1, 0.5, 1e-9))
    assert [2 * phase.steps for phase in half] == [phase.steps for phase in full]
    assert all(phase.steps == 1 for phase in least)


def test_only_the_base_phase_starts_with_easy_images_and_has_no_teacher(space):
    base, *others = progressive_shrinking(space)
    assert base.difficulty(0) == 0
    assert base.difficulty(base.steps // 5) == pytest.approx(0.5)
    assert base.difficulty(base.steps // 2) == base.difficulty(base.steps - 1) == 1
    assert not base.distils
    for phase in others:
        assert phase.distils
        assert phase.difficulty(0) == 1
