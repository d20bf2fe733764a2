"""A stand-alone subnet, as extracted from a supernet."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ofa_tvm.supernet.layers import ConvLayer, FeatureMixLayer, InvertedResidual


class Subnet(nn.Module):
    """A plain network without elastic parts."""

    def __init__(
        self,
        first_conv: ConvLayer,
        blocks: Sequence[InvertedResidual],
        final_expand_layer: ConvLayer,
        feature_mix_layer: FeatureMixLayer,
        classifier: nn.Linear,
    ) -> None:
        super().__init__()
        self.first_conv = first_conv
        self.blocks = nn.ModuleList(blocks)
        self.final_expand_layer = final_expand_layer
        self.feature_mix_layer = feature_mix_layer
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Map float32 images (N, 3, R, R) to logits (N, num_classes)."""
        x = self.first_conv(images)
        for block in self.blocks:
            x = block(x)
        x = self.final_expand_layer(x).mean((2, 3), keepdim=True)
        logits: Tensor = self.classifier(self.feature_mix_layer(x).flatten(1))
        return logits
