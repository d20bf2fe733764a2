from __future__ import annotations

import math

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import TensorType

from ofa_tvm.compiler.passes.graph import Graph, operator_name
from ofa_tvm.compiler.passes.layout_change import pack_kernel, unpack_kernel
from ofa_tvm.compiler.passes.sequence import sequence
from ofa_tvm.compiler.pipeline import LOWER

LOGICAL = (1, 5, 3, 4)
LANES = 4


def _kernels(builder: relax.BlockBuilder) -> tuple[tvm.ir.GlobalVar, tvm.ir.GlobalVar]:
    pack, unpack = pack_kernel(LOGICAL, LANES), unpack_kernel(LOGICAL, LANES)
    return (
        builder.add_func(pack.with_attr("global_symbol", "pack"), "pack"),
        builder.add_func(unpack.with_attr("global_symbol", "unpack"), "unpack"),
    )


def _round_trips(builder: relax.BlockBuilder, value: relax.Var, count: int) -> relax.Var:
    """Pack and unpack so often: in the end, the same values."""
    pack, unpack = _kernels(builder)
    for _ in range(count):
        packed = builder.emit(relax.call_tir(pack, [value], TensorType((2, 3, 4, LANES), "float32")))
        value = builder.emit(relax.call_tir(unpack, [packed], TensorType(LOGICAL, "float32")))
    return value


def _run(mod: tvm.IRModule, image: np.ndarray) -> np.ndarray:
    executable = relax.build(relax.transform.LegalizeOps()(mod), tvm.target.Target("llvm"), relax_pipeline=LOWER)
    main = relax.VirtualMachine(executable, tvm.cpu())["main"]
    return main(tvm.runtime.tensor(image)).numpy()


def _module(with_operator: bool) -> tvm.IRModule:
    builder, image = relax.BlockBuilder(), relax.Var("image", TensorType(LOGICAL, "float32"))
    with builder.function("main", [image]):
        with builder.dataflow():
            value = _round_trips(builder, image, 2)
            if with_operator:  # no kernel, so it parts the calls before it from those behind it
                value = builder.emit(relax.op.negative(value))
                value = _round_trips(builder, value, 1)
            constant = relax.const(np.full(LOGICAL, 2, np.float32))
            pack, unpack = _kernels(builder)
            packed = builder.emit(relax.call_tir(pack, [constant], TensorType((2, 3, 4, LANES), "float32")))
            twos = builder.emit(relax.call_tir(unpack, [packed], TensorType(LOGICAL, "float32")))
            output = builder.emit_output(builder.emit(relax.op.add(value, twos)))
        builder.emit_func_output(output)
    return builder.get()


@pytest.mark.parametrize("with_operator", [False, True])
def test_the_same_values_by_one_call_a_run(with_operator: bool) -> None:
    mod = sequence(_module(with_operator))
    calls = [operator_name(value) for value in Graph(mod["main"]).bindings.values()]
    assert calls.count("relax.call_tir") == (2 if with_operator else 1)
    image = np.arange(math.prod(LOGICAL), dtype=np.float32).reshape(LOGICAL)
    assert np.array_equal(_run(mod, image), (-image if with_operator else image) + 2)


def test_values_between_calls_share_memory() -> None:
    mod = sequence(_module(with_operator=False))
    (call,) = [value for value in Graph(mod["main"]).bindings.values() if operator_name(value) == "relax.call_tir"]
    workspace = call.ty_args[0].fields[-1]
    # Of six values two are read outside; a packed and a plain one of the rest are in use at once.
    assert int(workspace.shape.values[0]) <= 2 * 3 * 4 * LANES + 64
