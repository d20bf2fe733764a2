from __future__ import annotations

import pytest
import torch

from ofa_tvm.errors import InvalidArchitectureError
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.calibration import calibrate
from ofa_tvm.supernet.network import Supernet


@pytest.fixture
def supernet(small_space):
    return Supernet(small_space).eval()


@pytest.mark.parametrize("resolution", [32, 36])
def test_any_resolution(supernet, resolution):
    images = torch.randn(2, 3, resolution, resolution)
    assert supernet(images, supernet.space.smallest(resolution)).shape == (2, 10)


def test_an_architecture_of_another_space(supernet):
    with pytest.raises(InvalidArchitectureError, match="resolution 64"):
        supernet.extract(SearchSpace(0.25, 10, (64,)).largest())


def test_an_extracted_subnet_shares_nothing_with_the_supernet(supernet):
    subnet = supernet.extract(supernet.space.largest())
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    with torch.no_grad():
        for tensor in subnet.state_dict().values():
            tensor.zero_()
    for name, tensor in supernet.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_a_training_step_on_the_smallest_subnet_leaves_other_weights_without_gradient(supernet):
    smallest = supernet.space.smallest()
    supernet.train()(torch.randn(2, 3, 32, 32), smallest).sum().backward()
    skipped, first = supernet.elastic_blocks[3], supernet.elastic_blocks[0]
    assert all(parameter.grad is None for parameter in skipped.parameters())
    middle = first.position.middle_channels(3)
    gradient = first.point_linear.conv.conv.weight.grad
    assert gradient[:, :middle].abs().sum() > 0
    assert not gradient[:, middle:].any()
    kernel_gradient = first.depth_conv.conv.conv.weight.grad[:middle, 0]
    assert kernel_gradient[:, 2:5, 2:5].abs().sum() > 0


def test_training_updates_only_the_statistics_of_the_channels_used(supernet):
    supernet.train()(torch.randn(2, 3, 32, 32), supernet.space.smallest())
    statistics = supernet.elastic_blocks[0].depth_conv.bn.bn.running_mean
    middle = supernet.elastic_blocks[0].position.middle_channels(3)
    assert statistics[:middle].all()
    assert not statistics[middle:].any()


def test_calibration_without_a_batch_changes_nothing(supernet):
    subnet = supernet.extract(supernet.space.largest())
    before = {name: tensor.clone() for name, tensor in subnet.state_dict().items()}
    calibrate(subnet, [])
    assert all(torch.equal(tensor, before[name]) for name, tensor in subnet.state_dict().items())


def test_calibration_that_fails_leaves_no_hook(supernet):
    subnet = supernet.extract(supernet.space.largest())
    with pytest.raises(RuntimeError):
        calibrate(subnet, [torch.randn(2, 5, 32, 32)])
    assert not any(module._forward_hooks for module in subnet.modules())
