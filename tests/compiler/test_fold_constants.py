from __future__ import annotations

import numpy as np
from tvm import relax
from tvm.relax import TensorType

from ofa_tvm.compiler.passes.fold_constants import FoldConstants
from ofa_tvm.compiler.passes.graph import Graph, constant, operator_name


def test_a_reshape_of_a_constant_is_folded() -> None:
    builder = relax.BlockBuilder()
    with builder.function("main", [relax.Var("image", TensorType((1,), "float32"))]):
        with builder.dataflow():
            reshaped = builder.emit(relax.op.reshape(relax.const(np.arange(6)), (2, 3)))
            output = builder.emit_output(reshaped)
        builder.emit_func_output(output)
    folded = [constant(value) for value in Graph(FoldConstants()(builder.get())["main"]).bindings.values()]
    assert np.array_equal(folded[0], np.arange(6).reshape(2, 3))


def test_a_constant_of_a_shape_known_at_run_time_is_not_folded() -> None:
    builder = relax.BlockBuilder()
    sizes = relax.Var("sizes", TensorType((2,), "int64"))
    with builder.function("main", [sizes]):
        with builder.dataflow():
            at_run_time = builder.emit(relax.op.tensor_to_shape(sizes))
            output = builder.emit_output(relax.op.reshape(relax.const(np.arange(6)), at_run_time))
        builder.emit_func_output(output)
    bindings = Graph(FoldConstants()(builder.get())["main"]).bindings
    assert "relax.reshape" in [operator_name(value) for value in bindings.values()]
