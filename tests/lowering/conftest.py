from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: its threads spin, which on a busy machine is slower by ten times."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def ofa_subnet(official: SimpleNamespace) -> Callable[..., torch.nn.Module]:
    """A sampled subnet of width 0.5, its BN statistics unlike those of a fresh network."""

    def sample(seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        random.seed(seed)
        supernet = official.mobilenet_v3(
            n_classes=10, width_mult=0.5, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
        )
        supernet.sample_active_subnet()
        subnet = supernet.get_active_subnet(preserve_weight=True)
        for module in subnet.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.normal_(module.running_mean, std=0.1)
                torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        return subnet

    return sample
