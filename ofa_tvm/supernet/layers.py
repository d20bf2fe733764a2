"""The layers of a stand-alone subnet: plain convolutions with fixed shapes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ofa_tvm.space.workload import Activation

BN_EPS = 1e-5
BN_MOMENTUM = 0.1


def activation_module(activation: Activation) -> nn.Module:
    """The torch module of an activation."""
    return {
        "none": nn.Identity,
        "relu": nn.ReLU,
        "relu6": nn.ReLU6,
        "h_swish": nn.Hardswish,
        "h_sigmoid": nn.Hardsigmoid,
    }[activation]()


class ConvLayer(nn.Module):
    """Convolution, batch normalisation (unless `batch_norm` is false), activation.

    Maps (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: Activation = "none",
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels, BN_EPS, BN_MOMENTUM) if batch_norm else nn.Identity()
        self.act = activation_module(activation)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.bn(self.conv(x)))
        return out


class SqueezeExcite(nn.Module):
    """Squeeze-and-excite: scales each channel by a factor in [0, 1] computed from all channels' means."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc = nn.ModuleDict(
            {"reduce": nn.Conv2d(channels, squeezed, 1), "expand": nn.Conv2d(squeezed, channels, 1)}
        )

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean((2, 3), keepdim=True)
        factors = nn.functional.hardsigmoid(self.fc["expand"](torch.relu(self.fc["reduce"](pooled))))
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
        out: Tensor = self.point_linear(self.squeeze_excite(self.depth_conv(self.inverted_bottleneck(x))))
        return x + out if self.shortcut else out


class Subnet(nn.Module):
    """A stand-alone network: maps (N, 3, R, R) float32 images to (N, num_classes) logits."""

    def __init__(
        self,
        first_conv: ConvLayer,
        blocks: list[InvertedResidual],
        final_expand_layer: ConvLayer,
        feature_mix_layer: ConvLayer,
        classifier: nn.Linear,
    ) -> None:
        super().__init__()
        self.first_conv = first_conv
        self.blocks = nn.ModuleList(blocks)
        self.final_expand_layer = final_expand_layer
        self.feature_mix_layer = feature_mix_layer
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        x = self.first_conv(images)
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def head(self, x: Tensor) -> Tensor:
        """From the last block's output to the logits."""
        x = self.final_expand_layer(x).mean((2, 3), keepdim=True)
        logits: Tensor = self.classifier(self.feature_mix_layer(x).flatten(1))
        return logits
