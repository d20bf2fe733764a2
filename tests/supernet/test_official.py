"""Parity with the official code: the same weights give the same outputs, sorted or not, calibrated or not."""

from __future__ import annotations

import copy

import pytest
import torch

from ofa_tvm.supernet.calibration import calibrate
from ofa_tvm.supernet.channels import sort_channels

TOLERANCE = 1e-5  # of the largest output


@pytest.fixture(scope="module", params=[0.5, 1.0], ids="width{}".format)
def pair(request, official, supernet_of):
    """A supernet of ours and the official one with the same weights; not to be changed."""
    ours = supernet_of(request.param)
    theirs = official.mobilenet_v3(
        n_classes=10,
        dropout_rate=0,
        width_mult=request.param,
        ks_list=[3, 5, 7],
        expand_ratio_list=[3, 4, 6],
        depth_list=[2, 3, 4],
    )
    torch.nn.Module.load_state_dict(theirs, ours.state_dict())
    return ours, theirs.eval()


def activate(theirs, architecture):
    """Make `architecture` the active subnet of the official network; skipped blocks get any choice."""
    stages = [[*stage, *[stage[0]] * (4 - len(stage))] for stage in architecture.stages]
    blocks = [block for stage in stages for block in stage]
    theirs.set_active_subnet(
        [block.kernel_size for block in blocks], [block.expand_ratio for block in blocks], list(architecture.depths)
    )


def assert_same(actual, expected, tolerance=TOLERANCE):
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def assert_same_subnets(ours, theirs, architectures, images):
    for architecture in architectures:
        activate(theirs, architecture)
        expected = theirs(images)
        assert_same(ours(images, architecture), expected)
        assert_same(ours.extract(architecture)(images), expected)
        assert_same(theirs.get_active_subnet().eval()(images), expected)


def test_parameters_have_the_official_names_and_shapes(pair):
    ours, theirs = ({name: tensor.shape for name, tensor in net.state_dict().items()} for net in pair)
    assert ours == theirs


@torch.no_grad()
def test_subnets(pair, sampled, images):
    ours, theirs = pair
    assert_same_subnets(ours, theirs, sampled(ours.space, 10), images)


@torch.no_grad()
@pytest.mark.parametrize("kept_ratios", [0, 1, 2])
def test_sorted_channels(pair, sampled, images, kept_ratios):
    ours, theirs = copy.deepcopy(pair)
    largest = ours.space.largest()
    before = ours(images, largest)
    weight = ours.elastic_blocks[0].point_linear.conv.conv.weight.clone()
    sort_channels(ours, kept_ratios)
    theirs.re_organize_middle_weights(kept_ratios)
    assert not torch.equal(ours.elastic_blocks[0].point_linear.conv.conv.weight, weight)
    assert_same(ours(images, largest), before)
    assert_same_subnets(ours, theirs, sampled(ours.space, 10), images)


@torch.no_grad()
@pytest.mark.parametrize(
    ("dtype", "count", "tolerance"),
    [
        (
            torch.float32,
            10,
            TOLERANCE,
        ),  # float32 itself is off by half of that here, from layer upon layer of statistics
        (torch.float64, 3, 1e-11),
    ],
    ids=["float32", "float64"],
)
def test_calibrated_subnets_of_sorted_channels(pair, official, sampled, images, dtype, count, tolerance):
    ours, theirs = (copy.deepcopy(net).to(dtype) for net in pair)
    sort_channels(ours)
    theirs.re_organize_middle_weights()
    images = images.to(dtype)
    generator = torch.Generator().manual_seed(5)
    batches = [torch.randn(size, 3, 64, 64, generator=generator).to(dtype) for size in (12, 12, 5)]
    for architecture in sampled(ours.space, count):
        activate(theirs, architecture)
        expected = theirs.get_active_subnet().eval().to(dtype)
        official.calibrate(expected, [(batch, None) for batch in batches])
        subnet = ours.extract(architecture).to(dtype)
        uncalibrated = subnet(images)
        calibrate(subnet, batches)
        assert_same(subnet(images), expected(images), tolerance)
        assert (subnet(images) - uncalibrated).abs().max() > 0.01 * uncalibrated.abs().max()
