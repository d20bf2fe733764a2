"""Supernets with weights like trained ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.network import Supernet


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def supernet_of() -> Callable[[float], Supernet]:
    """Makes a supernet of a width with weights as training leaves them: none at its initial value."""

    def make(width: float) -> Supernet:
        torch.manual_seed(7)
        supernet = Supernet(SearchSpace(width, 10, (64,))).train()
        with torch.no_grad():
            for name, parameter in supernet.named_parameters():
                if name.endswith("_matrix"):
                    parameter += 0.1 * torch.randn_like(parameter)
                elif name.endswith("bn.weight"):
                    parameter *= 0.5 + torch.rand_like(parameter)
                elif name.endswith("bias"):
                    parameter += 0.1 * torch.randn_like(parameter)
            rng = np.random.default_rng(7)
            for architecture in [supernet.space.largest()] * 10 + [supernet.space.sample(rng) for _ in range(10)]:
                supernet(torch.randn(8, 3, 64, 64), architecture)
        return supernet.eval()

    return make


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    return torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def small_space() -> SearchSpace:
    return SearchSpace(0.25, 10, (32, 36))


@pytest.fixture
def sampled() -> Callable[[SearchSpace, int], list[Architecture]]:
    def sample(space: SearchSpace, count: int) -> list[Architecture]:
        rng = np.random.default_rng(11)
        return [space.sample(rng) for _ in range(count)]

    return sample
