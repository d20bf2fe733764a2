"""Elastic layers: each computes with the first part of its largest weights.

They keep no "active" choice: every call says which part to use, and `extract` returns that part as
a plain layer. Parameter names follow the official code, so its checkpoints load unchanged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ofa_tvm.space.architecture import Block
from ofa_tvm.space.mobilenet_v3 import BlockPosition, squeeze_channels
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.layers import (
    BN_EPS,
    BN_MOMENTUM,
    ConvLayer,
    InvertedResidual,
    SqueezeExcite,
    activation_module,
)


class ElasticPointwise(nn.Module):
    """1x1 convolution from as many channels as the input has to the first `out_channels`."""

    def __init__(self, max_in_channels: int, max_out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(max_in_channels, max_out_channels, 1, bias=False)

    def weight(self, in_channels: int, out_channels: int) -> Tensor:
        """Shape (out_channels, in_channels, 1, 1)."""
        return self.conv.weight[:out_channels, :in_channels]

    def forward(self, x: Tensor, out_channels: int) -> Tensor:
        return nn.functional.conv2d(x, self.weight(x.shape[1], out_channels))


class ElasticDepthwise(nn.Module):
    """Depthwise convolution on the first channels, its smaller kernels derived from the larger ones.

    A smaller kernel is the larger one's centre, mapped linearly by a matrix of the layer and
    chained 7 -> 5 -> 3 (paper, section 3.2; ``DynamicSeparableConv2d`` in the official code).
    """

    def __init__(self, max_channels: int, kernel_sizes: tuple[int, ...], stride: int) -> None:
        super().__init__()
        self.kernel_sizes = kernel_sizes
        self.stride = stride
        self.conv = nn.Conv2d(max_channels, max_channels, kernel_sizes[-1], groups=max_channels, bias=False)
        for smaller, larger in zip(kernel_sizes, kernel_sizes[1:], strict=False):
            self.register_parameter(f"{larger}to{smaller}_matrix", nn.Parameter(torch.eye(smaller**2)))

    def weight(self, channels: int, kernel_size: int) -> Tensor:
        """Shape (channels, 1, kernel_size, kernel_size)."""
        weight = self.conv.weight[:channels]
        larger = self.kernel_sizes[-1]
        for smaller in reversed(self.kernel_sizes[:-1]):
            if larger <= kernel_size:
                break
            margin = (larger - smaller) // 2
            centre = weight[:, :, margin : margin + smaller, margin : margin + smaller]
            matrix = self.get_parameter(f"{larger}to{smaller}_matrix")
            weight = nn.functional.linear(centre.reshape(channels, -1), matrix).view_as(centre)
            larger = smaller
        return weight

    def forward(self, x: Tensor, kernel_size: int) -> Tensor:
        channels = x.shape[1]
        weight = self.weight(channels, kernel_size)
        return nn.functional.conv2d(x, weight, None, self.stride, kernel_size // 2, groups=channels)


class ElasticBatchNorm(nn.Module):
    """Batch normalisation of the first channels; all widths share parameters and statistics."""

    def __init__(self, max_channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(max_channels, BN_EPS, BN_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        bn = self.bn
        assert bn.running_mean is not None and bn.running_var is not None
        return nn.functional.batch_norm(
            x,
            bn.running_mean[:channels],
            bn.running_var[:channels],
            bn.weight[:channels],
            bn.bias[:channels],
            self.training,
            BN_MOMENTUM,
            bn.eps,
        )

    def extract_into(self, bn: nn.BatchNorm2d) -> None:
        """Copy parameters and statistics of the first ``bn.num_features`` channels."""
        bn.eps = self.bn.eps
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(bn, name).copy_(getattr(self.bn, name)[: bn.num_features])


class ElasticSqueezeExcite(nn.Module):
    """Squeeze-and-excite on the first channels."""

    def __init__(self, max_channels: int) -> None:
        super().__init__()
        squeezed = squeeze_channels(max_channels)
        self.fc = nn.ModuleDict(
            {"reduce": nn.Conv2d(max_channels, squeezed, 1), "expand": nn.Conv2d(squeezed, max_channels, 1)}
        )

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        squeezed = squeeze_channels(channels)
        reduce, expand = self.fc["reduce"], self.fc["expand"]
        factors = x.mean((2, 3), keepdim=True)
        factors = nn.functional.conv2d(factors, reduce.weight[:squeezed, :channels], reduce.bias[:squeezed])
        factors = nn.functional.conv2d(
            torch.relu(factors), expand.weight[:channels, :squeezed], expand.bias[:channels]
        )
        return x * nn.functional.hardsigmoid(factors)

    def extract(self, channels: int) -> SqueezeExcite:
        """The part on the first `channels`, as a plain layer."""
        squeezed = squeeze_channels(channels)
        plain = SqueezeExcite(channels, squeezed)
        for name, outputs, inputs in (("reduce", squeezed, channels), ("expand", channels, squeezed)):
            plain.fc[name].weight.copy_(self.fc[name].weight[:outputs, :inputs])
            plain.fc[name].bias.copy_(self.fc[name].bias[:outputs])
        return plain


class ElasticInvertedResidual(nn.Module):
    """An inverted-residual block with elastic kernel size and expand ratio."""

    def __init__(self, position: BlockPosition, space: SearchSpace) -> None:
        super().__init__()
        self.position = position
        middle = position.middle_channels(space.expand_ratios[-1])
        self.inverted_bottleneck = nn.ModuleDict(
            {"conv": ElasticPointwise(position.in_channels, middle), "bn": ElasticBatchNorm(middle)}
        )
        depth_conv: dict[str, nn.Module] = {
            "conv": ElasticDepthwise(middle, space.kernel_sizes, position.stride),
            "bn": ElasticBatchNorm(middle),
        }
        if position.squeeze_excite:
            depth_conv["se"] = ElasticSqueezeExcite(middle)
        self.depth_conv = nn.ModuleDict(depth_conv)
        self.point_linear = nn.ModuleDict(
            {"conv": ElasticPointwise(middle, position.out_channels), "bn": ElasticBatchNorm(position.out_channels)}
        )
        self.act = activation_module(position.activation)

    def forward(self, x: Tensor, block: Block) -> Tensor:
        middle = self.position.middle_channels(block.expand_ratio)
        out = self.act(self.inverted_bottleneck["bn"](self.inverted_bottleneck["conv"](x, middle)))
        out = self.act(self.depth_conv["bn"](self.depth_conv["conv"](out, block.kernel_size)))
        if self.position.squeeze_excite:
            out = self.depth_conv["se"](out)
        out = self.point_linear["bn"](self.point_linear["conv"](out, self.position.out_channels))
        return x + out if self.position.shortcut else out

    @torch.no_grad()
    def extract(self, block: Block) -> InvertedResidual:
        """The block that `forward` computes, as a plain layer with copied weights."""
        position = self.position
        middle = position.middle_channels(block.expand_ratio)
        expand = ConvLayer(position.in_channels, middle, activation=position.activation)
        expand.conv.weight.copy_(self.inverted_bottleneck["conv"].weight(position.in_channels, middle))
        self.inverted_bottleneck["bn"].extract_into(expand.bn)
        depthwise = ConvLayer(
            middle, middle, block.kernel_size, position.stride, groups=middle, activation=position.activation
        )
        depthwise.conv.weight.copy_(self.depth_conv["conv"].weight(middle, block.kernel_size))
        self.depth_conv["bn"].extract_into(depthwise.bn)
        squeeze_excite = self.depth_conv["se"].extract(middle) if position.squeeze_excite else None
        project = ConvLayer(middle, position.out_channels)
        project.conv.weight.copy_(self.point_linear["conv"].weight(middle, position.out_channels))
        self.point_linear["bn"].extract_into(project.bn)
        return InvertedResidual(expand, depthwise, squeeze_excite, project, position.shortcut)
