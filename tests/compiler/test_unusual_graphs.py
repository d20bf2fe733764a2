"""Graphs that no MobileNetV3 has, compiled and compared with PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import tvm
from torch import nn
from torch.nn import functional as F
from tvm import relax
from tvm.target import Target

from ofa_tvm.compiler.library import CompiledSubnet, compile_subnet
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import TEMPLATES
from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.lowering.onnx_export import export_onnx
from ofa_tvm.lowering.outputs import random_image
from ofa_tvm.lowering.relax_import import import_onnx

RESOLUTION = 12


class _Net(nn.Module):
    """A convolution to `(1, 8, 12, 12)`, then whatever a test does with that and with layers of its own."""

    def __init__(self, forward: Callable[..., object], *layers: nn.Module) -> None:
        super().__init__()
        self.stem, self.layers = nn.Conv2d(3, 8, 3, padding=1), nn.ModuleList(layers)
        self.rest = forward

    def forward(self, image: torch.Tensor) -> object:
        return self.rest(self.stem(image), *self.layers)


Compute = Callable[..., CompiledSubnet]


@pytest.fixture
def computed(host: Target, machine: Machine, tmp_path: Path) -> Compute:
    """The network compiled, after its outputs were found to be PyTorch's."""

    def compute(forward: Callable[..., object], *layers: nn.Module) -> CompiledSubnet:
        torch.manual_seed(0)
        net, image = _Net(forward, *layers).eval(), random_image(RESOLUTION, seed=0)
        compiled = compile_subnet(
            import_onnx(export_onnx(net, RESOLUTION)), host, machine, lambda w: TEMPLATES[w.kind].default(w, machine)
        )
        compiled.export(tmp_path / "library.so")
        library = tvm.runtime.load_module(str(tmp_path / "library.so"))
        outputs = relax.VirtualMachine(library, tvm.cpu())["main"](tvm.runtime.tensor(image))
        with torch.inference_mode():
            expected = net(torch.from_numpy(image))
        if isinstance(expected, torch.Tensor):
            outputs, expected = [outputs], [expected]
        for output, wanted in zip(outputs, expected, strict=True):
            assert check_outputs("library", wanted.numpy(), output.numpy()) < 5e-6
        return compiled

    return compute


def _depthwise() -> nn.Module:
    return nn.Conv2d(8, 8, 3, padding=1, groups=8)


def test_means_of_what_nothing_else_reads(computed: Compute) -> None:
    compiled = computed(
        lambda x, depthwise, head: F.softmax(head(depthwise(x).mean((2, 3))), 1), _depthwise(), nn.Linear(8, 5)
    )
    assert any(workload.pooled for workload in compiled.workloads)
    assert compiled.leftovers == ("relax.nn.softmax",)


def test_means_of_what_an_operator_without_template_reads(computed: Compute) -> None:
    def forward(x: torch.Tensor, depthwise: nn.Module, project: nn.Module) -> torch.Tensor:
        y = depthwise(x)
        return torch.tanh(y) * torch.sigmoid(project(y.mean((2, 3), keepdim=True)))

    compiled = computed(forward, _depthwise(), nn.Conv2d(8, 8, 1))
    assert any(workload.pooled for workload in compiled.workloads)


@pytest.mark.parametrize(
    "forward",
    [
        lambda x, project: project(x).view(1, 8, 144, 1),
        lambda x, project: torch.tanh(project(x).view(1, 8, 1, 144)),
        lambda x, project: project(project(x).view(1, 8, 6, 24)),
    ],
)
def test_a_reshape_of_height_and_width(computed: Compute, forward: Callable[..., torch.Tensor]) -> None:
    assert "relax.reshape" in computed(forward, nn.Conv2d(8, 8, 1)).leftovers


def test_an_einsum(computed: Compute) -> None:
    """The importer makes loops of two tensors of it, as it does of Clip, but of no shapes that one could compare."""
    weight = nn.Linear(6, 8)
    compiled = computed(lambda x, layer: torch.einsum("nchw,cd->ndhw", x, layer.weight), weight)
    assert compiled.leftovers == ("relax.call_tir",)


def test_tensors_of_six_axes(computed: Compute) -> None:
    def forward(x: torch.Tensor) -> torch.Tensor:
        blocks = x.view(1, 2, 2, 2, 12, 12).permute(0, 1, 4, 2, 5, 3)
        return F.softmax(F.softmax(blocks, 5), 4).reshape(1, 2, 24, 24)

    assert computed(forward).leftovers.count("relax.nn.softmax") == 2


def test_two_outputs_are_no_operator(computed: Compute) -> None:
    assert computed(lambda x, project: (x, project(x)), nn.Conv2d(8, 8, 1)).leftovers == ()


def test_the_parts_of_a_split_are_no_operators(computed: Compute) -> None:
    compiled = computed(lambda x, project: project(torch.split(x, 4, 1)[1]), nn.Conv2d(4, 8, 1))
    assert compiled.leftovers == ("relax.split",)
