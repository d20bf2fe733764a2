"""The elastic inverted-residual block, and how a plain one is extracted from it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ofa_tvm.space.architecture import Block
from ofa_tvm.space.mobilenet_v3 import BlockPosition
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Activation
from ofa_tvm.supernet.elastic import ElasticBatchNorm, ElasticDepthwise, ElasticPointwise, ElasticSqueezeExcite
from ofa_tvm.supernet.layers import ConvLayer, InvertedResidual, activation_module


class ElasticPointwiseLayer(nn.Module):
    """1x1 convolution, batch normalisation, activation."""

    def __init__(self, max_in_channels: int, max_out_channels: int, activation: Activation = "none") -> None:
        super().__init__()
        self.activation = activation
        self.conv = ElasticPointwise(max_in_channels, max_out_channels)
        self.bn = ElasticBatchNorm(max_out_channels)
        self.act = activation_module(activation)

    def forward(self, x: Tensor, out_channels: int) -> Tensor:
        """Map (N, C, H, W) to (N, out_channels, H, W)."""
        out: Tensor = self.act(self.bn(self.conv(x, out_channels)))
        return out

    def extract(self, in_channels: int, out_channels: int) -> ConvLayer:
        """The part between the first channels, as a plain layer."""
        plain = ConvLayer(in_channels, out_channels, activation=self.activation)
        plain.conv.weight.copy_(self.conv.weight(in_channels, out_channels))
        self.bn.extract_into(plain.bn)
        return plain


class ElasticDepthwiseLayer(nn.Module):
    """Depthwise convolution, batch normalisation, activation, squeeze-and-excite if `position` has it."""

    def __init__(self, max_channels: int, kernel_sizes: tuple[int, ...], position: BlockPosition) -> None:
        super().__init__()
        self.position = position
        self.conv = ElasticDepthwise(max_channels, kernel_sizes, position.stride)
        self.bn = ElasticBatchNorm(max_channels)
        self.act = activation_module(position.activation)
        self.se = ElasticSqueezeExcite(max_channels) if position.squeeze_excite else None

    def forward(self, x: Tensor, kernel_size: int) -> Tensor:
        """Map (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.act(self.bn(self.conv(x, kernel_size)))
        return out if self.se is None else self.se(out)

    def extract(self, channels: int, kernel_size: int) -> ConvLayer:
        """The part before squeeze-and-excite on the first `channels`, as a plain layer."""
        position = self.position
        plain = ConvLayer(channels, channels, kernel_size, position.stride, channels, position.activation)
        plain.conv.weight.copy_(self.conv.weight(channels, kernel_size))
        self.bn.extract_into(plain.bn)
        return plain


class ElasticInvertedResidual(nn.Module):
    """An inverted-residual block with elastic kernel size and expand ratio."""

    def __init__(self, position: BlockPosition, space: SearchSpace) -> None:
        super().__init__()
        self.position = position
        middle = position.middle_channels(space.expand_ratios[-1])
        self.inverted_bottleneck = ElasticPointwiseLayer(position.in_channels, middle, position.activation)
        self.depth_conv = ElasticDepthwiseLayer(middle, space.kernel_sizes, position)
        self.point_linear = ElasticPointwiseLayer(middle, position.out_channels)

    def forward(self, x: Tensor, block: Block) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.inverted_bottleneck(x, self.position.middle_channels(block.expand_ratio))
        out = self.depth_conv(out, block.kernel_size)
        out = self.point_linear(out, self.position.out_channels)
        return x + out if self.position.shortcut else out

    @torch.no_grad()
    def extract(self, block: Block) -> InvertedResidual:
        """The block that `forward` computes, as a plain layer with copied weights."""
        position = self.position
        middle = position.middle_channels(block.expand_ratio)
        squeeze_excite = self.depth_conv.se
        return InvertedResidual(
            self.inverted_bottleneck.extract(position.in_channels, middle),
            self.depth_conv.extract(middle, block.kernel_size),
            None if squeeze_excite is None else squeeze_excite.extract(middle),
            self.point_linear.extract(middle, position.out_channels),
            position.shortcut,
        )
