from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofa_tvm.space.mobilenet_v3 import all_workloads, make_divisible, skeleton, squeeze_channels, workloads
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Workload

# Widths of the official networks: first convolution, first block, stages, final expansion, features.
OFFICIAL_WIDTHS = {
    1.0: (16, 16, (24, 40, 80, 112, 160), 960, 1280),
    1.2: (24, 24, (32, 48, 96, 136, 192), 1152, 1536),
}


@pytest.mark.parametrize("width_multiplier", OFFICIAL_WIDTHS)
def test_widths_are_the_official_ones(width_multiplier):
    net = skeleton(SearchSpace(width_multiplier, 1000, (224,)))
    found = (
        net.first_conv_channels,
        net.first_block.out_channels,
        tuple(stage[0].out_channels for stage in net.stages),
        net.final_expand_channels,
        net.feature_channels,
    )
    assert found == OFFICIAL_WIDTHS[width_multiplier]


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(1, 8), (8, 8), (11, 16), (12, 16), (19.2, 24), (72, 72), (28, 32), (134.4, 136), (240, 240)],
)
def test_make_divisible(channels, expected):
    assert make_divisible(channels) == expected


@given(st.floats(1, 4096))
def test_make_divisible_never_loses_over_a_tenth(channels):
    rounded = make_divisible(channels)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * channels
    assert rounded <= channels + 8


def test_squeeze_channels():
    assert [squeeze_channels(channels) for channels in (72, 120, 288, 1152)] == [24, 32, 72, 288]


@given(st.data())
def test_all_workloads_hold_those_of_any_subnet(space, architectures, data):
    architecture = data.draw(architectures)
    assert set(workloads(space, architecture)) <= set(all_workloads(space, architecture.resolution))


@pytest.mark.parametrize("depths", [(2,), (3,), (2, 3, 4)])
def test_all_workloads_hold_nothing_more(depths):
    space = SearchSpace(0.5, 10, (32,), depths=depths)
    used = set()
    for depth in depths:
        for kernel_size in space.kernel_sizes:
            for expand_ratio in space.expand_ratios:
                used |= set(workloads(space, space.uniform(32, depth, kernel_size, expand_ratio)))
    found = all_workloads(space, 32)
    assert set(found) == used
    assert len(found) == len(set(found))


@given(st.data())
def test_each_kernel_takes_what_the_one_before_gives(space, architectures, data):
    """Channels and sizes run through the chain; squeeze-and-excite is a side branch of it."""
    kernels = workloads(space, data.draw(architectures))
    main = [k for k in kernels[:-3] if (k.height, k.width) != (1, 1) and k.kind != "pool"]
    for before, after in itertools.pairwise(main):
        assert after.in_channels == before.out_channels
        assert (after.height, after.width) == (before.output_height, before.output_width)


def test_macs_of_the_largest_official_subnet():
    """All kernels 7, ratios 6, depths 4 at 224 pixels, counted by hand, position by position."""
    space = SearchSpace(1.0, 1000, (224,))
    total, size, channels = 3 * 16 * 9 * 112**2 + 16 * 9 * 112**2 + 16 * 16 * 112**2, 112, 16
    for width, stride, excite in zip(
        (24, 40, 80, 112, 160), (2, 2, 2, 1, 2), (False, True, False, True, True), strict=True
    ):
        for step in (stride, 1, 1, 1):
            middle, out_size = 6 * channels, size // step
            total += channels * middle * size**2 + middle * 49 * out_size**2 + middle * width * out_size**2
            if excite:
                total += 2 * middle * squeeze_channels(middle)
            size, channels = out_size, width
    total += 160 * 960 * 49 + 960 * 49 + 960 * 1280 + 1280 * 1000
    assert sum(kernel.macs for kernel in workloads(space, space.largest())) == total


def test_squeeze_and_excite_leaves_its_two_products(space):
    kernels = workloads(space, space.largest())
    places = [place for place, kernel in enumerate(kernels) if kernel.pooled]
    assert len(places) == 3 * 4
    for place in places:
        depthwise, reduce, excite, projection = kernels[place : place + 4]
        assert (reduce.in_channels, excite.out_channels) == (depthwise.out_channels, projection.in_channels)
        assert (reduce.activation, excite.activation, projection.scaled) == ("relu", "h_sigmoid", True)
    assert sum(kernel.scaled for kernel in kernels) == len(places)
    assert [kernel.kind for kernel in kernels if kernel.kind in ("pool", "scale")] == ["pool"]


def test_shortcuts_only_where_shapes_agree(space):
    kernels = workloads(space, space.largest())
    assert sum(kernel.residual for kernel in kernels) == 1 + 5 * 3


def test_workload_json_round_trip(space):
    for kernel in all_workloads(space, 128):
        assert Workload(**kernel.to_dict()) == kernel


def test_keys_are_unique(space):
    kernels = {kernel for resolution in space.resolutions for kernel in all_workloads(space, resolution)}
    assert len({kernel.key for kernel in kernels}) == len(kernels)
