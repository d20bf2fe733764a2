from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ofa_tvm.predictors.accuracy import AccuracyPredictor
from ofa_tvm.predictors.accuracy_training import train
from ofa_tvm.predictors.latency import LatencyPredictor
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.mobilenet_v3 import all_workloads, workloads
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Workload

Draw = Callable[[int, int], list[Architecture]]


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return SearchSpace(0.5, 36, (32, 48, 64))


@pytest.fixture(scope="session")
def draw(space: SearchSpace) -> Draw:
    """Different random architectures of the space."""

    def draw_architectures(count: int, seed: int) -> list[Architecture]:
        rng = np.random.default_rng(seed)
        found: dict[Architecture, None] = {}
        while len(found) < count:
            found[space.sample(rng)] = None
        return list(found)

    return draw_architectures


@pytest.fixture(scope="session")
def kernel_latencies_ms(space: SearchSpace) -> dict[Workload, float]:
    """A device on which kernels run at 50 GMAC/s and 10 GB/s, with 20% scatter."""
    rng = np.random.default_rng(5)
    kernels = [kernel for resolution in space.resolutions for kernel in all_workloads(space, resolution)]
    return {
        kernel: (1e-3 + kernel.macs / 50e6 + kernel.traffic_bytes / 10e6) * float(np.exp(rng.normal(0, 0.2)))
        for kernel in kernels
    }


@pytest.fixture(scope="session")
def device_latency_ms(
    space: SearchSpace, kernel_latencies_ms: dict[Workload, float]
) -> Callable[[Architecture], float]:
    """What that device takes for a subnet: launches cost time, and large activations leave the cache."""

    def latency_ms(architecture: Architecture) -> float:
        kernels = workloads(space, architecture)
        spill = 0.2 if architecture.resolution > 48 else 0.0
        return (1.05 + spill) * sum(kernel_latencies_ms[kernel] for kernel in kernels) + 0.002 * len(kernels) + 0.05

    return latency_ms


@pytest.fixture(scope="session")
def latency_predictor(
    space: SearchSpace,
    draw: Draw,
    kernel_latencies_ms: dict[Workload, float],
    device_latency_ms: Callable[[Architecture], float],
) -> LatencyPredictor:
    architectures = draw(40, 1)
    rng = np.random.default_rng(2)
    measured_ms = [device_latency_ms(a) * float(np.exp(rng.normal(0, 0.01))) for a in architectures]
    return LatencyPredictor.fit(space, architectures, measured_ms, kernel_latencies_ms)


@pytest.fixture(scope="session")
def true_accuracy() -> Callable[[Architecture], float]:
    """A supernet whose accuracy saturates with size, depth helping less at low resolution."""

    def accuracy(architecture: Architecture) -> float:
        logit = 1.2 + 0.04 * (architecture.resolution - 32)
        for index, stage in enumerate(architecture.stages):
            logit += 0.12 * (len(stage) - 2) * architecture.resolution / 48
            for position, block in enumerate(stage):
                gain = 0.02 * (block.kernel_size - 3) + 0.05 * (block.expand_ratio - 3)
                logit += gain * (1 + 0.3 * np.sin(3 * index + position))
        return float(1 / (1 + np.exp(-logit / 1.3)))

    return accuracy


@pytest.fixture(scope="session")
def accuracy_records(draw: Draw, true_accuracy: Callable[[Architecture], float]) -> list[tuple[Architecture, float]]:
    """Accuracies as seen on 5,000 images."""
    rng = np.random.default_rng(3)
    return [(a, rng.binomial(5000, true_accuracy(a)) / 5000) for a in draw(300, 4)]


@pytest.fixture(scope="session")
def accuracy_predictor(
    shared: Callable[..., Path], space: SearchSpace, accuracy_records: list[tuple[Architecture, float]]
) -> AccuracyPredictor:
    """Trained by one of pytest's workers for all of them."""
    folder = shared("accuracy_predictor", lambda folder: train(space, accuracy_records).save(folder / "predictor", {}))
    return AccuracyPredictor.load(folder / "predictor")
