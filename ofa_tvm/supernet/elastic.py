"""Elastic layers: each computes with the first part of its largest weights.

They keep no "active" choice: every call says which part to use, and what is extracted is that part
as a plain layer. Parameter names follow the official code, so its checkpoints load unchanged.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from ofa_tvm.space.mobilenet_v3 import squeeze_channels
from ofa_tvm.supernet.layers import BN_EPS, BN_MOMENTUM, BatchNormTensors, SqueezeExcite, SqueezeExciteConvs


class ElasticPointwise(nn.Module):
    """1x1 convolution from as many channels as the input has to the first `out_channels`."""

    def __init__(self, max_in_channels: int, max_out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(max_in_channels, max_out_channels, 1, bias=False)

    def weight(self, in_channels: int, out_channels: int) -> Tensor:
        """Shape (out_channels, in_channels, 1, 1)."""
        return self.conv.weight[:out_channels, :in_channels]

    def forward(self, x: Tensor, out_channels: int) -> Tensor:
        """Map (N, C, H, W) to (N, out_channels, H, W)."""
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
        for smaller, larger in itertools.pairwise(kernel_sizes):
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
        """Map (N, C, H, W) to (N, C, ceil(H / stride), ceil(W / stride))."""
        channels = x.shape[1]
        weight = self.weight(channels, kernel_size)
        return nn.functional.conv2d(x, weight, None, self.stride, kernel_size // 2, groups=channels)


class ElasticBatchNorm(nn.Module):
    """Batch normalisation of the first channels; all widths share parameters and statistics."""

    def __init__(self, max_channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(max_channels, BN_EPS, BN_MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape; in training mode, update the first C statistics."""
        weight, bias, mean, variance = (tensor[: x.shape[1]] for tensor in BatchNormTensors.of(self.bn))
        return nn.functional.batch_norm(x, mean, variance, weight, bias, self.training, BN_MOMENTUM, self.bn.eps)

    def extract_into(self, bn: nn.BatchNorm2d) -> None:
        """Copy parameters and statistics of the first ``bn.num_features`` channels."""
        bn.eps = self.bn.eps
        for target, source in zip(BatchNormTensors.of(bn), BatchNormTensors.of(self.bn), strict=True):
            target.copy_(source[: bn.num_features])


class ElasticSqueezeExcite(nn.Module):
    """Squeeze-and-excite on the first channels."""

    def __init__(self, max_channels: int) -> None:
        super().__init__()
        self.fc = SqueezeExciteConvs(max_channels, squeeze_channels(max_channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        factors = x.mean((2, 3), keepdim=True)
        factors = nn.functional.conv2d(factors, *self._reduce(x.shape[1]))
        factors = nn.functional.conv2d(torch.relu(factors), *self._expand(x.shape[1]))
        return x * nn.functional.hardsigmoid(factors)

    def extract(self, channels: int) -> SqueezeExcite:
        """The part on the first `channels`, as a plain layer."""
        plain = SqueezeExcite(channels, squeeze_channels(channels))
        for conv, (weight, bias) in (
            (plain.fc.reduce, self._reduce(channels)),
            (plain.fc.expand, self._expand(channels)),
        ):
            conv.load_state_dict({"weight": weight, "bias": bias})
        return plain

    def _reduce(self, channels: int) -> tuple[Tensor, Tensor | None]:
        return _first_part(self.fc.reduce, channels, squeeze_channels(channels))

    def _expand(self, channels: int) -> tuple[Tensor, Tensor | None]:
        return _first_part(self.fc.expand, squeeze_channels(channels), channels)


def _first_part(conv: nn.Conv2d, in_channels: int, out_channels: int) -> tuple[Tensor, Tensor | None]:
    """Weight (out_channels, in_channels, 1, 1) and bias (out_channels,)."""
    assert conv.bias is not None
    return conv.weight[:out_channels, :in_channels], conv.bias[:out_channels]
