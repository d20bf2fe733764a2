"""BN calibration: statistics of a subnet's own activations in place of the supernet's."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ofa_tvm.supernet.layers import BatchNormTensors
from ofa_tvm.supernet.subnet import Subnet


class _Statistics:
    """Forward hook that averages a BN layer's batch means and biased variances, weighted by batch size."""

    def __init__(self) -> None:
        self.images = 0
        self.mean: Tensor | None = None
        self.variance: Tensor | None = None

    def __call__(self, bn: nn.BatchNorm2d, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        (x,) = inputs
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
    layers = {module: _Statistics() for module in subnet.modules() if isinstance(module, nn.BatchNorm2d)}
    handles = [module.register_forward_hook(statistics) for module, statistics in layers.items()]
    try:
        for images in batches:
            subnet(images)
    finally:
        for handle in handles:
            handle.remove()
    for module, statistics in layers.items():
        if statistics.mean is not None and statistics.variance is not None:
            tensors = BatchNormTensors.of(module)
            tensors.mean.copy_(statistics.mean)
            tensors.variance.copy_(statistics.variance)
