"""What holds for every test."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace

import pytest

# As the commands do: ONNX Runtime is to send nothing to its maker, from tests neither.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A background job or nohup ignores these signals, and so would every command that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

TORCHVISION = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets")


class Stub(ModuleType):
    """A module in which every public name is a class of its own, to be inherited from or left alone."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


@pytest.fixture(scope="session")
def official() -> Iterator[SimpleNamespace]:
    """The official Once-for-All code, PyPI's `ofa`: an oracle. It imports torchvision, but needs none of it here."""
    with pytest.MonkeyPatch.context() as patch:
        stubs = {name: Stub(name) for name in TORCHVISION}
        for name, stub in stubs.items():
            patch.setitem(sys.modules, name, stub)
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(stubs[parent], child, stub)
        elastic_nn = "ofa.imagenet_classification.elastic_nn"
        networks = importlib.import_module(f"{elastic_nn}.networks")
        yield SimpleNamespace(
            mobilenet_v3=networks.OFAMobileNetV3,
            proxyless=networks.OFAProxylessNASNets,
            calibrate=importlib.import_module(f"{elastic_nn}.utils").set_running_statistics,
        )
