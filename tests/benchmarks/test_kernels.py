from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ofa_tvm.compiler.kernel_check import reference_inputs, reference_outputs
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.lowering.check import relative_error
from ofa_tvm.space.workload import Workload

from .conftest import REPOSITORY

MACHINES = [
    Machine(lanes=16, vector_registers=32, multiply_adds_per_cycle=2),
    Machine(lanes=8, vector_registers=16, multiply_adds_per_cycle=2),
]


@pytest.mark.slow
def test_the_heaviest_kernels_come_first(run_benchmark, supernet: Path) -> None:
    options = ("--supernet", str(supernet), "--subnets", "1", "--repeats", "2", "--top", "3")
    code, result, errors = run_benchmark("kernels.py", *options)
    assert code == 0, errors
    rows = result["kernels"]
    assert len(rows) == 3
    shares = [row["share"] for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) < 1
    for row in rows:
        assert row["ratio"] == pytest.approx(row["onnxruntime_ms"] / row["ms"])
        assert row["share_of_peak"] == pytest.approx(row["gflops"] / row["peak_gflops"])
        assert row["parameters"] == "modelled"


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    module = importlib.import_module("layers")
    module.block_size.cache_clear()
    yield module
    module.block_size.cache_clear()


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: f"{machine.lanes}c")
@pytest.mark.parametrize(
    "workload",
    [
        Workload("conv", 3, 16, 12, 12, 3, 2, "h_swish"),
        Workload("pointwise", 24, 40, 5, 5, activation="relu6"),
        Workload("pointwise", 56, 24, 5, 5, activation="h_swish"),
        Workload("pointwise", 40, 24, 5, 5, residual=True, scaled=True),
        Workload("pointwise", 24, 40, 1, 1, activation="h_sigmoid"),
        Workload("pointwise", 40, 10, 1, 1),
        Workload("depthwise", 24, 24, 9, 9, 5, 2, "h_swish", pooled=True),
        Workload("pool", 24, 24, 5, 5),
        Workload("scale", 24, 24, 5, 5),
    ],
    ids=lambda workload: workload.key,
)
def test_onnx_runtime_gets_the_same_layer(workload: Workload, machine: Machine, layers: ModuleType) -> None:
    inputs = reference_inputs(workload, machine)
    operands = _operands(workload, machine)
    model = layers.layer(workload, operands)
    expected = layers.unpacked(workload, reference_outputs(workload, machine, inputs)[0])
    assert relative_error(expected, layers.layer_output(workload, model, operands)) < 1e-5
    layers.blocked_run(model)()


def test_onnx_runtime_says_how_many_channels_it_blocks(layers: ModuleType) -> None:
    """The only size with which its own blocked graph runs, on any CPU."""
    block = layers.block_size()
    assert block in (1, 4, 8, 16)
    workload = Workload("pointwise", 56, 24, 5, 5)
    model = layers._optimised(layers.layer(workload, _operands(workload, MACHINES[0])))
    assert layers._without_reorders(model, block) in (
        {model.graph.input[0].name: (1, -(-56 // block) * block, 5, 5)},
        {"data": (1, 56, 5, 5)},
    )


@pytest.mark.parametrize("block", [1, 8, 16])
def test_the_block_is_the_one_of_the_optimised_graph(
    block: int, layers: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a CPU with AVX2, or on one for which ONNX Runtime has no blocked layout."""

    def optimised(model: onnx.ModelProto) -> onnx.ModelProto:
        (weight,) = model.graph.initializer
        padding = ((0, -weight.dims[0] % block), (0, 0), (0, 0), (0, 0))
        weight.CopyFrom(numpy_helper.from_array(np.pad(numpy_helper.to_array(weight), padding), weight.name))
        return model

    monkeypatch.setattr(layers, "_optimised", optimised)
    assert layers.block_size() == block


@pytest.mark.parametrize(("block", "channels"), [(8, 56), (16, 64)])
def test_within_a_network_no_layout_changes(block: int, channels: int, layers: ModuleType) -> None:
    workload = Workload("pointwise", 56, 56, 4, 4, activation="relu", residual=True)
    reorder = onnx.helper.make_node("ReorderInput", ["data"], ["blocked"], domain="com.microsoft.nchwc")
    model = layers.layer(workload, _operands(workload, MACHINES[0]))
    model.graph.node.insert(0, reorder)
    model.graph.node[1].input[0] = "blocked"
    shapes = layers._without_reorders(model, block)
    assert shapes["blocked"] == (1, channels, 4, 4)
    assert "data" not in shapes
    assert all(node.op_type != "ReorderInput" for node in model.graph.node)


def _operands(workload: Workload, machine: Machine) -> dict[str, np.ndarray]:
    inputs = reference_inputs(workload, machine)
    return dict(zip(TEMPLATES[workload.kind].argument_shapes(workload, machine), inputs, strict=False))


def test_the_peak_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    peak = importlib.import_module("peak")
    one = peak.Peak(1)
    assert one.sample_gflops() > 0.1
    assert one._code.run(200, 0.5, 1.0) % 2 == 0  # each register's sum has come to the fixed point of x * 0.5 + 1


def test_without_a_compiler_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from ofa_tvm.errors import CompileError

    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    peak = importlib.import_module("peak")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CompileError, match=r"g\+\+ is not installed; run scripts/setup.sh"):
        peak.Peak(1)
