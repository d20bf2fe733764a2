"""The order of a network's weights in memory."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def channels_last(network: Network) -> Network:
    """Lay out the network's convolution weights channels last, in place: the fastest order on CPUs."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # documented, but not in torch's types
    return network
