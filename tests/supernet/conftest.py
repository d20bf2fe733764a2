"""The official Once-for-All code as oracle, and supernets with weights like trained ones."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.supernet.network import Supernet

TORCHVISION = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets")


class Stub(ModuleType):
    """A module in which every public name is a class of its own, to be inherited from or left alone."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def official():
    """What the tests use of PyPI `ofa`, which imports torchvision but needs none of it here."""
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("torchvision") is None:
            stubs = {name: Stub(name) for name in TORCHVISION}
            for name, stub in stubs.items():
                patch.setitem(sys.modules, name, stub)
                parent, _, child = name.rpartition(".")
                if parent:
                    setattr(stubs[parent], child, stub)
        from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
        from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics
    return SimpleNamespace(network=OFAMobileNetV3, calibrate=set_running_statistics)


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
