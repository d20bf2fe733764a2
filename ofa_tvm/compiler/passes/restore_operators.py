"""Turn the kernels that TVM's ONNX importer emits for Clip back into operators.

The importer lowers `Clip` at once to two loops, an element-wise maximum and a minimum, in which no later pass could
see an activation function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import relax, topi

from ofa_tvm.compiler.passes.graph import broadcasts, operator_name, shape

_OPERATORS: tuple[tuple[Callable[..., Any], Callable[..., Any]], ...] = (
    (topi.maximum, relax.op.maximum),
    (topi.minimum, relax.op.minimum),
)


@tvm.transform.module_pass(opt_level=0, name="RestoreOperators")
class RestoreOperators:
    """Replace a call of a kernel by ``relax.maximum`` or ``relax.minimum`` if the loops compute just that."""

    def transform_module(self, mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Restore the operators of ``main``; kernels that are no longer called are left to dead code elimination."""
        restorer = _Restorer(mod)
        restorer.builder_.update_func(mod.get_global_var("main"), restorer.visit_expr(mod["main"]))
        return restorer.builder_.get()


@relax.expr_functor.mutator
class _Restorer(relax.PyExprMutator):  # type: ignore[misc]
    def __init__(self, mod: tvm.IRModule) -> None:
        super().__init__(mod)
        self._mod = mod

    def visit_call_(self, call: relax.Call) -> tvm.ir.Expr:
        """Restore one call."""
        call = self.visit_expr_post_order(call)
        if operator_name(call) != "relax.call_tir" or not _may_be_restored(call):
            return call
        kernel, operands = call.args[0], list(call.args[1].fields)
        for compute, operator in _OPERATORS:
            builder = relax.BlockBuilder()
            reference = builder.call_te(compute, *operands).args[0]
            if tvm_ffi.structural_equal(builder.get()[reference], self._mod[kernel]):
                return operator(*operands)
        return call


def _may_be_restored(call: relax.Call) -> bool:
    """Whether two float32 tensors are broadcast to one: topi refuses to compare others at all."""
    sizes = [shape(operand) for operand in call.args[1].fields]
    result = shape(relax.Var("result", call.ty_args[0]))
    return len(sizes) == 2 and result is not None and all(s is not None and broadcasts(s, result) for s in sizes)
