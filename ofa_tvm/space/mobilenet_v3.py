"""The fixed skeleton of Once-for-All MobileNetV3, and the workloads of its subnets.

Widths, strides and activations follow the official code (mit-han-lab/once-for-all,
``ofa/imagenet_classification/elastic_nn/networks/ofa_mbv3.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from ofa_tvm.space.architecture import Architecture, Block
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Activation, Workload

_FIRST_CONV_WIDTH, _FIRST_BLOCK_WIDTH = 16, 16
_FINAL_EXPAND_WIDTH, _FEATURE_WIDTH = 960, 1280
_STAGE_WIDTHS = (24, 40, 80, 112, 160)
_STAGE_STRIDES = (2, 2, 2, 1, 2)
_STAGE_ACTIVATIONS: tuple[Activation, ...] = ("relu", "relu", "h_swish", "h_swish", "h_swish")
_STAGE_SQUEEZE_EXCITE = (False, True, False, True, True)
INPUT_CHANNELS = 3


@dataclass(frozen=True, slots=True)
class BlockPosition:
    """What is fixed about a block by its place in the network."""

    in_channels: int
    out_channels: int
    stride: int
    activation: Activation
    squeeze_excite: bool

    @property
    def shortcut(self) -> bool:
        """Whether the block adds its input to its output."""
        return self.stride == 1 and self.in_channels == self.out_channels

    def middle_channels(self, expand_ratio: int) -> int:
        """Channels of the depthwise convolution."""
        return make_divisible(round(self.in_channels * expand_ratio))


@dataclass(frozen=True, slots=True)
class Skeleton:
    """The network around and between the elastic choices; channel counts at one width."""

    first_conv_channels: int
    first_block: BlockPosition
    stages: tuple[tuple[BlockPosition, ...], ...]
    final_expand_channels: int
    feature_channels: int
    num_classes: int


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round to a multiple of `divisor`, upwards where rounding down would lose over 10%."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def squeeze_channels(channels: int) -> int:
    """Middle channels of squeeze-and-excite on `channels` channels."""
    return make_divisible(channels // 4)


@lru_cache(maxsize=64)
def skeleton(space: SearchSpace) -> Skeleton:
    """The skeleton of a space, stages at their largest depth."""

    def scale(width: int) -> int:
        return make_divisible(width * space.width_multiplier)

    first_block = BlockPosition(scale(_FIRST_CONV_WIDTH), scale(_FIRST_BLOCK_WIDTH), 1, "relu", False)
    stages = []
    in_channels = first_block.out_channels
    for width, stride, activation, squeeze_excite in zip(
        _STAGE_WIDTHS, _STAGE_STRIDES, _STAGE_ACTIVATIONS, _STAGE_SQUEEZE_EXCITE, strict=True
    ):
        out_channels = scale(width)
        first = BlockPosition(in_channels, out_channels, stride, activation, squeeze_excite)
        later = BlockPosition(out_channels, out_channels, 1, activation, squeeze_excite)
        stages.append((first,) + (later,) * (space.depths[-1] - 1))
        in_channels = out_channels
    return Skeleton(
        first_conv_channels=first_block.in_channels,
        first_block=first_block,
        stages=tuple(stages),
        final_expand_channels=scale(_FINAL_EXPAND_WIDTH),
        feature_channels=scale(_FEATURE_WIDTH),
        num_classes=space.num_classes,
    )


def workloads(space: SearchSpace, architecture: Architecture) -> tuple[Workload, ...]:
    """The fused kernels of a subnet, in order of execution."""
    net = skeleton(space)
    size = architecture.resolution
    kernels = [Workload("conv", INPUT_CHANNELS, net.first_conv_channels, size, size, 3, 2, "h_swish")]
    size = _halve(size)
    kernels += _inverted_residual(net.first_block, 3, net.first_block.in_channels, size)
    for positions, stage in zip(net.stages, architecture.stages, strict=True):
        for position, block in zip(positions, stage, strict=False):
            kernels += _block_workloads(position, block, size)
            size = _halve(size) if position.stride == 2 else size
    last_channels = net.stages[-1][-1].out_channels
    return (
        *kernels,
        Workload("pointwise", last_channels, net.final_expand_channels, size, size, activation="h_swish"),
        Workload("pool", net.final_expand_channels, net.final_expand_channels, size, size),
        Workload("pointwise", net.final_expand_channels, net.feature_channels, 1, 1, activation="h_swish"),
        Workload("pointwise", net.feature_channels, net.num_classes, 1, 1),
    )


def all_workloads(space: SearchSpace, resolution: int) -> tuple[Workload, ...]:
    """Every distinct kernel that a subnet of the space can need at one resolution.

    A stage's first block differs from the later ones, and these are alike; so architectures of
    depth 2 that make one choice everywhere reach all kernels.
    """
    found: dict[Workload, None] = {}
    depth = max(2, space.depths[0])
    for kernel_size in space.kernel_sizes:
        for expand_ratio in space.expand_ratios:
            found |= dict.fromkeys(workloads(space, space.uniform(resolution, depth, kernel_size, expand_ratio)))
    return tuple(found)


@lru_cache(maxsize=1 << 14)
def _block_workloads(position: BlockPosition, block: Block, size: int) -> tuple[Workload, ...]:
    return _inverted_residual(position, block.kernel_size, position.middle_channels(block.expand_ratio), size)


def _inverted_residual(position: BlockPosition, kernel_size: int, middle: int, size: int) -> tuple[Workload, ...]:
    """Kernels of one block on a `size` x `size` input; without expansion where `middle` equals the input."""
    kernels = []
    if middle != position.in_channels:
        kernels.append(Workload("pointwise", position.in_channels, middle, size, size, 1, 1, position.activation))
    excited = position.squeeze_excite
    depthwise = Workload("depthwise", middle, middle, size, size, kernel_size, position.stride, position.activation)
    kernels.append(replace(depthwise, pooled=excited))
    size = _halve(size) if position.stride == 2 else size
    if excited:
        squeezed = squeeze_channels(middle)
        kernels.append(Workload("pointwise", middle, squeezed, 1, 1, activation="relu"))
        kernels.append(Workload("pointwise", squeezed, middle, 1, 1, activation="h_sigmoid"))
    projection = Workload("pointwise", middle, position.out_channels, size, size, residual=position.shortcut)
    kernels.append(replace(projection, scaled=excited))
    return tuple(kernels)


def _halve(size: int) -> int:
    return (size - 1) // 2 + 1
