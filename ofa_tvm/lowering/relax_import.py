"""Import of an ONNX graph into TVM Relax."""

from __future__ import annotations

import onnx
import tvm
from tvm.relax.frontend.onnx import from_onnx

from ofa_tvm.errors import CompileError


def import_onnx(model: onnx.ModelProto) -> tvm.IRModule:
    """Import an ONNX graph as a Relax module whose function ``main`` holds the parameters as constants.

    Raises
    ------
    CompileError
        A shape is not static, or TVM's importer does not know an operator.
    """
    for value in model.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        if not all(dimension.HasField("dim_value") and dimension.dim_value > 0 for dimension in dimensions):
            shape = [dimension.dim_param or dimension.dim_value for dimension in dimensions]
            raise CompileError(f"input {value.name!r} has the shape {shape}; export it with static sizes")
    try:
        module: tvm.IRModule = from_onnx(model, keep_params_in_input=False)
    except Exception as error:  # the importer raises whatever the converter of an operator trips over
        reason = str(error).strip().partition("\n")[0]
        raise CompileError(f"TVM cannot import the ONNX graph: {reason or type(error).__name__}") from error
    return module
