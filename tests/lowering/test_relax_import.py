from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper
from torch import nn

from ofa_tvm.errors import CompileError
from ofa_tvm.lowering.check import relative_error
from ofa_tvm.lowering.onnx_export import export_onnx
from ofa_tvm.lowering.outputs import onnx_logits, random_image, relax_logits
from ofa_tvm.lowering.relax_import import import_onnx


def test_relax_computes_what_onnx_runtime_computes() -> None:
    subnet = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    model, image = export_onnx(subnet, 12), random_image(12, 0)
    mod = import_onnx(model)
    assert len(mod["main"].params) == 1  # the weights are constants
    assert relative_error(onnx_logits(model, image), relax_logits(mod, image)) < 5e-6


def _model(operator: str, height: int | str) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(operator, ["image"], ["logits"])],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, height, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_shapes_must_be_static() -> None:
    with pytest.raises(CompileError, match=r"'image' has the shape \[1, 3, 'rows', 8\]"):
        import_onnx(_model("Relu", "rows"))


@pytest.mark.filterwarnings("ignore")  # of the importer, about the same operator
def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(CompileError, match="NoSuchOperator") as caught:
        import_onnx(_model("NoSuchOperator", 8))
    assert "\n" not in str(caught.value)
