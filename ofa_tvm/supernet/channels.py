"""Sorting of channels by importance, which makes the first channels the ones to keep."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from ofa_tvm.supernet.blocks import ElasticInvertedResidual
from ofa_tvm.supernet.layers import BatchNormTensors, SqueezeExciteConvs
from ofa_tvm.supernet.network import Supernet


@torch.no_grad()
def sort_channels(supernet: Supernet, kept_ratios: int = 0) -> None:
    """Permute every block's middle channels so that the most important come first.

    A channel's importance is the L1 norm of the projection's weights that read it (paper, section
    3.2; ``re_organize_middle_weights`` in the official code). Subnets of the largest expand ratio
    compute what they did before.

    Parameters
    ----------
    kept_ratios
        How many expand ratios below the largest are trained already. Channels then move only
        within the groups that these ratios separate, so that narrower subnets keep their channels.
        The squeezed channels of squeeze-and-excite are sorted as a whole even then, as upstream.
    """
    ratios = supernet.space.expand_ratios[::-1][: kept_ratios + 1]
    for block in supernet.elastic_blocks:
        _sort_block(block, [block.position.middle_channels(ratio) for ratio in reversed(ratios)])


def _sort_block(block: ElasticInvertedResidual, group_ends: list[int]) -> None:
    """Sort the middle channels within the groups that end at `group_ends`, ascending; the last end is all."""
    expand, depthwise, project = block.inverted_bottleneck, block.depth_conv, block.point_linear
    importance = project.conv.conv.weight.abs().sum((0, 2, 3))
    order = torch.cat(
        [start + importance[start:end].argsort(descending=True) for start, end in itertools.pairwise([0, *group_ends])]
    )
    _permute(project.conv.conv.weight, 1, order)
    _permute_batch_norm(depthwise.bn.bn, order)
    _permute(depthwise.conv.conv.weight, 0, order)
    if depthwise.se is not None:
        _sort_squeeze_excite(depthwise.se.fc, order)
    _permute_batch_norm(expand.bn.bn, order)
    _permute(expand.conv.conv.weight, 0, order)


def _sort_squeeze_excite(fc: SqueezeExciteConvs, order: Tensor) -> None:
    """Permute the outer channels by `order`, then the squeezed ones by their own importance."""
    assert fc.reduce.bias is not None and fc.expand.bias is not None
    _permute(fc.expand.weight, 0, order)
    _permute(fc.expand.bias, 0, order)
    _permute(fc.reduce.weight, 1, order)
    squeezed_order = fc.expand.weight.abs().sum((0, 2, 3)).argsort(descending=True)
    _permute(fc.expand.weight, 1, squeezed_order)
    _permute(fc.reduce.weight, 0, squeezed_order)
    _permute(fc.reduce.bias, 0, squeezed_order)


def _permute_batch_norm(bn: nn.BatchNorm2d, order: Tensor) -> None:
    for tensor in BatchNormTensors.of(bn):
        _permute(tensor, 0, order)


def _permute(tensor: Tensor, dimension: int, order: Tensor) -> None:
    tensor.copy_(tensor.index_select(dimension, order))
