"""Sorting of channels by importance, which makes the first channels the ones to keep."""

from __future__ import annotations

import torch
from torch import Tensor

from ofa_tvm.supernet.elastic import ElasticInvertedResidual
from ofa_tvm.supernet.network import Supernet


@torch.no_grad()
def sort_channels(supernet: Supernet, kept_ratios: int = 0) -> None:
    """Permute every block's middle channels so that the most important come first; outputs stay the same.

    A channel's importance is the L1 norm of the projection's weights that read it (paper, section
    3.2; ``re_organize_middle_weights`` in the official code).

    Parameters
    ----------
    kept_ratios
        How many expand ratios below the largest are trained already. Channels then move only
        within the groups that these ratios separate, so that the narrower subnets stay the same.
    """
    for block in supernet.blocks:
        if isinstance(block.conv, ElasticInvertedResidual):
            ratios = supernet.space.expand_ratios[::-1][: kept_ratios + 1]
            _sort_block(block.conv, [block.conv.position.middle_channels(ratio) for ratio in ratios])


def _sort_block(block: ElasticInvertedResidual, boundaries: list[int]) -> None:
    importance = block.point_linear["conv"].conv.weight.abs().sum((0, 2, 3))
    starts = [*sorted(boundaries[1:]), 0]
    starts.sort()
    order = torch.cat(
        [
            start + importance[start:end].argsort(descending=True)
            for start, end in zip(starts, [*starts[1:], len(importance)], strict=True)
        ]
    )
    _permute(block.point_linear["conv"].conv.weight, 1, order)
    _permute_batch_norm(block.depth_conv["bn"].bn, order)
    _permute(block.depth_conv["conv"].conv.weight, 0, order)
    if block.position.squeeze_excite:
        _sort_squeeze_excite(block.depth_conv["se"].fc, order)
    _permute_batch_norm(block.inverted_bottleneck["bn"].bn, order)
    _permute(block.inverted_bottleneck["conv"].conv.weight, 0, order)


def _sort_squeeze_excite(fc: torch.nn.ModuleDict, order: Tensor) -> None:
    """Permute the outer channels by `order`, then the squeezed ones by their own importance."""
    reduce, expand = fc["reduce"], fc["expand"]
    _permute(expand.weight, 0, order)
    _permute(expand.bias, 0, order)
    _permute(reduce.weight, 1, order)
    squeezed_order = expand.weight.abs().sum((0, 2, 3)).argsort(descending=True)
    _permute(expand.weight, 1, squeezed_order)
    _permute(reduce.weight, 0, squeezed_order)
    _permute(reduce.bias, 0, squeezed_order)


def _permute_batch_norm(bn: torch.nn.BatchNorm2d, order: Tensor) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        _permute(getattr(bn, name), 0, order)


def _permute(tensor: Tensor, dimension: int, order: Tensor) -> None:
    tensor.copy_(tensor.index_select(dimension, order))
