from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ofa_tvm.errors import CompileError
from ofa_tvm.lowering.check import relative_error
from ofa_tvm.lowering.onnx_export import export_onnx
from ofa_tvm.lowering.outputs import onnx_logits, random_image, torch_logits


@pytest.mark.parametrize(("seed", "resolution"), [(0, 32), (1, 44), (2, 64)])
def test_onnx_computes_what_the_subnet_computes(
    ofa_subnet: Callable[[int], nn.Module], seed: int, resolution: int
) -> None:
    subnet, image = ofa_subnet(seed), random_image(resolution, seed)
    model = export_onnx(subnet, resolution)
    assert relative_error(torch_logits(subnet, image), onnx_logits(model, image)) < 5e-6
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["logits"]


def test_a_training_subnet_is_exported_in_evaluation_mode_and_stays_in_training() -> None:
    subnet = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 5))
    subnet.train()
    subnet[2].eval()
    image = random_image(8, 0)
    model = export_onnx(subnet, 8)
    assert relative_error(torch_logits(subnet, image), onnx_logits(model, image)) < 5e-6
    assert [module.training for module in subnet] == [True, True, False, True, True]


def test_a_batch_normalisation_that_cannot_be_folded_is_an_error() -> None:
    subnet = nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1))
    with pytest.raises(CompileError, match=r"1 batch normalisations .* remain"):
        export_onnx(subnet, 8)


class _Untraceable(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(image).real


def test_a_subnet_that_pytorch_cannot_export_is_one_line() -> None:
    with pytest.raises(CompileError, match=r"cannot export the subnet at 8 px") as caught:
        export_onnx(_Untraceable(), 8)
    assert "\n" not in str(caught.value)


def test_exporting_is_quiet() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(nn.Conv2d(3, 4, 1), 8)


def test_the_exporter_is_imported_with_the_module() -> None:
    """Were it imported amid an export, the handler of errors would import it anew, loudly, after an interrupt."""
    exporter = "torch.onnx._internal.torchscript_exporter.utils"
    code = f"import sys, ofa_tvm.lowering.onnx_export; sys.exit({exporter!r} not in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
