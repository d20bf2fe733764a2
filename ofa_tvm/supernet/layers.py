"""The layers of a stand-alone subnet: plain convolutions with fixed shapes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ofa_tvm.space.workload import Activation

BN_EPS = 1e-5
BN_MOMENTUM = 0.1


def activation_module(activation: Activation) -> nn.Module:
    """The torch module of an activation."""
    modules: dict[Activation, type[nn.Module]] = {
        "none": nn.Identity,
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "h_swish": nn.Hardswish,
        "h_sigmoid": nn.Hardsigmoid,
    }
    return modules[activation]()


class BatchNormTensors(NamedTuple):
    """Parameters and statistics of a BN layer, each of shape (C,); not copies."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, bn: nn.BatchNorm2d) -> BatchNormTensors:
        """Those of a layer that keeps running statistics, as all of ours do."""
        assert bn.running_mean is not None and bn.running_var is not None
        return cls(bn.weight, bn.bias, bn.running_mean, bn.running_var)


class ConvLayer(nn.Module):
    """Convolution without bias, batch normalisation, activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: Activation = "none",
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels, BN_EPS, BN_MOMENTUM)
        self.act = activation_module(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class FeatureMixLayer(nn.Module):
    """Pointwise convolution with h_swish on pooled features; the only one without bias and BN."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.act = activation_module("h_swish")

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, 1, 1) to (N, out_channels, 1, 1)."""
        out: Tensor = self.act(self.conv(x))
        return out


class SqueezeExciteConvs(nn.Module):
    """The two pointwise convolutions of squeeze-and-excite, under the names of the official code."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)


class SqueezeExcite(nn.Module):
    """Squeeze-and-excite: scales each channel by a factor in [0, 1] computed from all channels' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc = SqueezeExciteConvs(channels, squeezed)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        pooled = x.mean((2, 3), keepdim=True)
        factors = nn.functional.hardsigmoid(self.fc.expand(torch.relu(self.fc.reduce(pooled))))
        return x * factors


class InvertedResidual(nn.Module):
    """Pointwise expansion (absent in the first block), depthwise, squeeze-and-excite, projection, shortcut."""

    def __init__(
        self,
        inverted_bottleneck: ConvLayer | None,
        depth_conv: ConvLayer,
        squeeze_excite: SqueezeExcite | None,
        point_linear: ConvLayer,
        shortcut: bool,
    ) -> None:
        super().__init__()
        self.inverted_bottleneck = inverted_bottleneck or nn.Identity()
        self.depth_conv = depth_conv
        self.squeeze_excite = squeeze_excite or nn.Identity()
        self.point_linear = point_linear
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', ceil(H / stride), ceil(W / stride))."""
        out: Tensor = self.point_linear(self.squeeze_excite(self.depth_conv(self.inverted_bottleneck(x))))
        return x + out if self.shortcut else out
