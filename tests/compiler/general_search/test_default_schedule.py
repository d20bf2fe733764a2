from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import tvm
from tvm import te, topi
from tvm.target import Target

from ofa_tvm.compiler.general_search.apply import apply
from ofa_tvm.compiler.general_search.default_schedule import schedule_function
from ofa_tvm.compiler.machine import resolve_tvm_target
from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.lowering.outputs import onnx_logits

from .conftest import run

Compute = Callable[[te.Tensor], te.Tensor]

CASES: dict[str, tuple[tuple[int, ...], Compute]] = {
    "elements of a prime number": ((37, 41), lambda x: topi.tanh(x)),
    "one element": ((1,), lambda x: topi.exp(x)),
    "transposition": ((5, 24, 7), lambda x: topi.transpose(x, (2, 0, 1))),
    "mean over pixels": ((1, 20, 7, 7), lambda x: topi.sum(x, (2, 3)) / 49.0),
    "maximum over channels": ((1, 20, 7, 7), lambda x: topi.max(x, 1)),
    "softmax": ((3, 50), lambda x: topi.nn.softmax(x, axis=1)),
    "maximum pooling": (
        (1, 6, 9, 9),
        lambda x: topi.nn.pool2d(x, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), "max", False, "NCHW"),
    ),
    "matrix times itself": ((40, 40), lambda x: topi.nn.matmul(x, x)),
    "sums of pixels spread out": ((1, 6, 5, 5), lambda x: x * topi.sum(x, (2, 3), keepdims=True)),
    "sums of channels spread out": ((1, 6, 5, 5), lambda x: x * topi.sum(x, 1, keepdims=True)),
    "everything summed": ((30, 30), lambda x: topi.sum(x, (0, 1), keepdims=True)),
    "a prime number summed": ((3, 37), lambda x: topi.sum(x, 1)),
    "cumulative": ((4, 8), lambda x: topi.cumsum(x, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_scheduled_function_computes_what_it_did(host: Target, name: str) -> None:
    shape, compute = CASES[name]
    source = te.placeholder(shape, "float32", "source")
    result = compute(source)
    plain = te.create_prim_func([source, result])
    scheduled = schedule_function(plain, host)
    data = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    outputs = []
    for function in (plain, scheduled):
        output = tvm.runtime.empty([int(size) for size in result.shape], "float32")
        tvm.compile(tvm.IRModule({"main": function}), target=host)["main"](tvm.runtime.tensor(data), output)
        outputs.append(output.numpy())
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)
    assert "T.vectorized" in scheduled.script() or name in ("one element", "a prime number summed", "cumulative")


@pytest.mark.parametrize("threads", [1, 2])
def test_operators_that_nobody_searched_for_are_scheduled(
    threads: int, mod: tvm.IRModule, model: onnx.ModelProto, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ofa_tvm.compiler.general_search.default_schedule.SHARED_MACS", 500)
    target = resolve_tvm_target("host", threads)
    mod = apply(mod, target, None)
    functions = [function for function in mod.functions.values() if isinstance(function, tvm.tirx.PrimFunc)]
    assert len(functions) == 3
    assert all("T.vectorized" in function.script() for function in functions)
    assert all(("T.parallel" in function.script()) == (threads > 1) for function in functions)
    check_outputs("scheduled", onnx_logits(model, image), run(mod, target, image))
