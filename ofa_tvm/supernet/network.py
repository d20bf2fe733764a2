"""The Once-for-All MobileNetV3 supernet."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from ofa_tvm.space.architecture import Architecture, Block
from ofa_tvm.space.mobilenet_v3 import INPUT_CHANNELS, skeleton
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.blocks import ElasticInvertedResidual
from ofa_tvm.supernet.layers import ConvLayer, FeatureMixLayer, InvertedResidual
from ofa_tvm.supernet.subnet import Subnet

BlockLayer = TypeVar("BlockLayer", bound=nn.Module)


class ResidualBlock(nn.Module, Generic[BlockLayer]):
    """Holds a block under the name that checkpoints of the official code use."""

    def __init__(self, conv: BlockLayer) -> None:
        super().__init__()
        self.conv = conv


class Classifier(nn.Module):
    """Holds the linear layer under the name that checkpoints of the official code use."""

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, num_classes)


class Supernet(nn.Module):
    """One network whose weights serve every subnet of `space`.

    Parameter names follow the official ``OFAMobileNetV3``, so its state loads unchanged.
    """

    def __init__(self, space: SearchSpace) -> None:
        super().__init__()
        self.space = space
        net = skeleton(space)
        self.first_conv = ConvLayer(INPUT_CHANNELS, net.first_conv_channels, 3, 2, activation="h_swish")
        first = net.first_block
        first_block = InvertedResidual(
            None,
            ConvLayer(first.in_channels, first.in_channels, 3, groups=first.in_channels, activation=first.activation),
            None,
            ConvLayer(first.in_channels, first.out_channels),
            first.shortcut,
        )
        elastic = [ElasticInvertedResidual(position, space) for stage in net.stages for position in stage]
        self.blocks = nn.ModuleList(ResidualBlock(block) for block in (first_block, *elastic))
        last_channels = net.stages[-1][-1].out_channels
        self.final_expand_layer = ConvLayer(last_channels, net.final_expand_channels, activation="h_swish")
        self.feature_mix_layer = FeatureMixLayer(net.final_expand_channels, net.feature_channels)
        self.classifier = Classifier(net.feature_channels, net.num_classes)
        self.apply(_initialise)

    @property
    def first_block(self) -> InvertedResidual:
        """The block that all subnets share."""
        return cast(ResidualBlock[InvertedResidual], self.blocks[0]).conv

    @property
    def elastic_blocks(self) -> tuple[ElasticInvertedResidual, ...]:
        """The blocks that architectures choose from, those of all stages in order."""
        return tuple(cast(ResidualBlock[ElasticInvertedResidual], block).conv for block in [*self.blocks][1:])

    def forward(self, images: Tensor, architecture: Architecture) -> Tensor:
        """Logits (N, num_classes) that the subnet `architecture` gives images (N, 3, R, R).

        The images' size need not be the architecture's resolution: the layers work at any.
        """
        x = self.first_block(self.first_conv(images))
        for layer, block in self._active(architecture):
            x = layer(x, block)
        x = self.feature_mix_layer(self.final_expand_layer(x).mean((2, 3), keepdim=True))
        logits: Tensor = self.classifier.linear(x.flatten(1))
        return logits

    @torch.no_grad()
    def extract(self, architecture: Architecture) -> Subnet:
        """The stand-alone subnet with copies of the supernet's weights, in evaluation mode.

        Its BN statistics are the supernet's: calibrate them before use (`calibration.calibrate`).

        Raises
        ------
        InvalidArchitectureError
            The architecture is not of this supernet's space.
        """
        self.space.check(architecture)
        return Subnet(
            copy.deepcopy(self.first_conv),
            [
                copy.deepcopy(self.first_block),
                *(layer.extract(block) for layer, block in self._active(architecture)),
            ],
            copy.deepcopy(self.final_expand_layer),
            copy.deepcopy(self.feature_mix_layer),
            copy.deepcopy(self.classifier.linear),
        ).eval()

    def _active(self, architecture: Architecture) -> Iterator[tuple[ElasticInvertedResidual, Block]]:
        """Each elastic block that the depths keep, with what the architecture chooses for it."""
        layers, deepest = self.elastic_blocks, self.space.depths[-1]
        for index, stage in enumerate(architecture.stages):
            yield from zip(layers[index * deepest :], stage, strict=False)  # a stage's first blocks


def _initialise(module: nn.Module) -> None:
    """He initialisation by output channels (``he_fout`` of the official code)."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
        nn.init.normal_(module.weight, 0.0, (2.0 / fan_out) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.uniform_(module.weight, -(module.in_features**-0.5), module.in_features**-0.5)
        nn.init.zeros_(module.bias)
