"""What holds for every test."""

from __future__ import annotations

import fcntl
import importlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import settings

# A busy machine is no fault of what is tested.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# As the commands do: ONNX Runtime is to send nothing to its maker, from tests neither.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenMP's threads wait by turning in circles, for as long as there are cores for them, which there aren't beside other
# workers: three deploys at once take half the time if they sleep instead. Read once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A state of each worker's own: they would take turns where they measure on this computer.
os.environ["OFA_TVM_STATE"] = str(Path(tempfile.gettempdir()) / f"ofa_tvm_tests_{os.getpid()}")

# A background job or nohup ignores these signals, and so would every command that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

TESTS = Path(__file__).parent
LONGEST = (
    "end_to_end/boards/test_boards.py",
    "boards/test_lifecycle.py",
    "end_to_end/test_local.py",
    "end_to_end/test_null.py",
    "end_to_end/boards",
    "end_to_end",
    "rpc/test_server_faults.py",
    "rpc/test_server_contract.py",
    "benchmarks",
    "boards",
    "measurement",
    "compiler",
)
"""Files and folders whose files take longest, the longest first: a worker that began one of them last would end last.
What waits for boards and processes lies between what computes, to wait while others compute."""

SLOW_LIMIT_S = 900
"""For tests that take a minute where nothing else runs, with fixtures that another worker may be making meanwhile."""

TORCHVISION = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional", "torchvision.datasets")


class Stub(ModuleType):
    """A module in which every public name is a class of its own, to be inherited from or left alone."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def pytest_sessionfinish() -> None:
    shutil.rmtree(os.environ["OFA_TVM_STATE"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        places = [item.path, *item.path.parents]
        return next((number for number, name in enumerate(LONGEST) if TESTS / name in places), len(LONGEST))

    items.sort(key=rank)  # which leaves a file's tests in their order
    for item in items:
        if "slow" in item.keywords or TESTS / "end_to_end" in item.path.parents:
            item.add_marker(pytest.mark.timeout(SLOW_LIMIT_S))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """A folder by its name. The first of pytest's workers to ask for it fills it; the others wait, and only read it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def get(name: str, fill: Callable[[Path], None]) -> Path:
        folder, complete = root / "shared" / name, root / "shared" / f"{name}.complete"
        folder.parent.mkdir(exist_ok=True)
        with (root / "shared" / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not complete.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                fill(folder)
                complete.touch()
        return folder

    return get


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
