from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from ofa_tvm.errors import CompileError, NumericalMismatchError
from ofa_tvm.lowering import lower as lower_module
from ofa_tvm.lowering.lower import check_import, lower
from ofa_tvm.lowering.outputs import random_image, torch_logits
from ofa_tvm.lowering.relax_import import import_onnx


def _subnet() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Hardswish(), nn.Flatten(), nn.Linear(144, 5))


def _with_a_wrong_weight(model: onnx.ModelProto) -> onnx.ModelProto:
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    weight = next(tensor for tensor in wrong.graph.initializer if len(tensor.dims) == 4)
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] += 0.05
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return wrong


def test_the_logits_are_the_subnets() -> None:
    subnet = _subnet()
    lowered = lower(subnet, random_image(8, seed=3))
    np.testing.assert_array_equal(lowered.sample_output, torch_logits(subnet, lowered.sample_input))
    assert check_import(lowered) < 5e-6


def test_a_wrong_weight_in_the_export_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    export = lower_module.export_onnx
    monkeypatch.setattr(lower_module, "export_onnx", lambda *arguments: _with_a_wrong_weight(export(*arguments)))
    with pytest.raises(NumericalMismatchError, match=r"^ONNX: relative error"):
        lower(_subnet(), random_image(8, seed=0))


def test_a_wrong_weight_in_the_import_is_noticed() -> None:
    lowered = lower(_subnet(), random_image(8, seed=0))
    with pytest.raises(NumericalMismatchError, match=r"^Relax: relative error"):
        check_import(dataclasses.replace(lowered, imported=import_onnx(_with_a_wrong_weight(lowered.model))))


class _TwoOutputs(nn.Module):
    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return image, -image


def test_a_subnet_of_two_outputs_is_one_line() -> None:
    with pytest.raises(CompileError, match=r"^the subnet gives a tuple; let it give one tensor"):
        lower(_TwoOutputs(), random_image(8, seed=0))
