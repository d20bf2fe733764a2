"""BN calibration: statistics of a subnet's own activations in place of the supernet's."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ofa_tvm.supernet.layers import BatchNormTensors
from ofa_tvm.supernet.subnet import Subnet


class _Statistics:
    """What a BN layer does meanwhile: averages its batch means and biased variances, weighted by batch size."""

    def __init__(self, bn: nn.BatchNorm2d) -> None:
        self._bn = bn
        self.images = 0
        self.mean: Tensor | None = None
        self.variance: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        bn = self._bn
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        self.images += len(x)
        share = len(x) / self.images
        self.mean = mean if self.mean is None else self.mean + share * (mean - self.mean)
        self.variance = variance if self.variance is None else self.variance + share * (variance - self.variance)
        return nn.functional.batch_norm(x, mean, variance, bn.weight, bn.bias, False, 0.0, bn.eps)


@torch.no_grad()
def calibrate(subnet: Subnet, batches: Iterable[Tensor]) -> None:
    """Replace all BN statistics of `subnet` by those over `batches` of images (N, 3, R, R).

    Each layer sees activations that the layers before it normalised by their own batch's
    statistics, as in the official ``set_running_statistics``. Without a batch, nothing changes.
    """
    layers = {module: _Statistics(module) for module in subnet.modules() if isinstance(module, nn.BatchNorm2d)}
    try:
        for module, statistics in layers.items():
            module.__dict__["forward"] = statistics  # in place of the class's own, and not after it: half the work
        for images in batches:
            subnet(images)
    finally:
        for module in layers:
            module.__dict__.pop("forward", None)
    for module, statistics in layers.items():
        if statistics.mean is not None and statistics.variance is not None:
            tensors = BatchNormTensors.of(module)
            tensors.mean.copy_(statistics.mean)
            tensors.variance.copy_(statistics.variance)
