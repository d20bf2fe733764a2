"""A bench on a local device, a subnet with operators that have no template, and a search that takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from onnx import TensorProto, helper, numpy_helper
from tvm import relax
from tvm.target import Target

from ofa_tvm.compiler.general_search import search
from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.open_bench import open_bench
from ofa_tvm.compiler.pipeline import simplify_and_pack
from ofa_tvm.lowering.relax_import import import_onnx
from ofa_tvm.targets import load_target

CHANNELS, SIDE, LANES = 8, 10, 16


@pytest.fixture(scope="module")
def one_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KernelBench]:
    target = load_target("local")
    quick = target.measurement.model_copy(update={"repeats": 2, "min_repeat_ms": 0.1, "max_drift": 1e6})
    target = target.model_copy(update={"measurement": quick})
    with open_bench(target, tmp_path_factory.mktemp("bench") / "records.jsonl") as bench:
        yield bench


@pytest.fixture
def bench(one_bench: KernelBench, tmp_path: Path) -> KernelBench:
    """The bench, with nothing searched yet."""
    one_bench.searched = tmp_path / "metaschedule"
    return one_bench


@pytest.fixture(autouse=True)
def a_short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "BATCH", 4)
    monkeypatch.setattr(search, "POPULATION", 4)


@pytest.fixture(scope="session")
def model() -> onnx.ModelProto:
    """A dilated convolution with bias and relu, an average pooling, a convolution of two groups, and tanh."""
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.standard_normal(shape).astype(np.float32) / 8, name)

    weights = [
        weight("dilated", CHANNELS, CHANNELS, 3, 3),
        weight("bias", CHANNELS),
        weight("grouped", CHANNELS, CHANNELS // 2, 3, 3),
    ]
    nodes = [
        helper.make_node("Conv", ["image", "dilated", "bias"], ["a"], pads=[2] * 4, dilations=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("AveragePool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["c", "grouped", "bias"], ["d"], pads=[1] * 4, group=2),
        helper.make_node("Tanh", ["d"], ["logits"]),
    ]
    sizes = {"image": [1, CHANNELS, SIDE, SIDE], "logits": [1, CHANNELS, SIDE // 2, SIDE // 2]}
    image, logits = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sizes.items())
    graph = helper.make_graph(nodes, "uncovered", [image], [logits], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 10
    return model


@pytest.fixture(scope="session")
def mod(model: onnx.ModelProto) -> tvm.IRModule:
    return simplify_and_pack(import_onnx(model), LANES).mod


@pytest.fixture(scope="session")
def image() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((1, CHANNELS, SIDE, SIDE)).astype(np.float32)


def run(mod: tvm.IRModule, target: Target, image: np.ndarray) -> np.ndarray:
    """Output of a module whose functions are scheduled."""
    executable = relax.build(mod, target, relax_pipeline="default_build")
    return relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(image)).numpy()
