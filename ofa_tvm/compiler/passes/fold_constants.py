"""Evaluate shape-only operators on constants with numpy.

TVM's own `FoldConstant` builds and runs a kernel a constant, which takes seconds for a subnet's eighty biases.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tvm
from tvm import relax

from ofa_tvm.compiler.passes.graph import constant, operator_name


def _reshape(call: relax.Call, values: list[np.ndarray]) -> np.ndarray | None:
    """None where the shape is only known at run time."""
    sizes = call.args[1]
    if not isinstance(sizes, relax.ShapeExpr) or not all(isinstance(size, tvm.tirx.IntImm) for size in sizes.values):
        return None
    return values[0].reshape([int(size) for size in sizes.values])


def _permute(call: relax.Call, values: list[np.ndarray]) -> np.ndarray:
    axes = call.attrs.axes
    return np.transpose(values[0], None if axes is None else [int(axis) for axis in axes])


_EVALUATE: dict[str, Callable[[relax.Call, list[np.ndarray]], np.ndarray | None]] = {
    "relax.reshape": _reshape,
    "relax.permute_dims": _permute,
    "relax.isnan": lambda _, values: np.asarray(np.isnan(values[0])),
    "relax.where": lambda _, values: np.where(*values),
}


@tvm.transform.module_pass(opt_level=0, name="FoldConstants")
class FoldConstants:
    """Replace reshape, permute_dims, isnan and where of constants by their values."""

    def transform_module(self, mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Fold the constants of ``main``."""
        folder = _Folder(mod)
        folder.builder_.update_func(mod.get_global_var("main"), folder.visit_expr(mod["main"]))
        return folder.builder_.get()


@relax.expr_functor.mutator
class _Folder(relax.PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: relax.Call) -> tvm.ir.Expr:
        """Fold one call if its tensors are all constants."""
        call = self.visit_expr_post_order(call)
        evaluate = _EVALUATE.get(operator_name(call))
        if evaluate is None:
            return call
        tensors = [self._resolve(argument) for argument in call.args if isinstance(argument.ty, relax.TensorType)]
        values = [constant(tensor) for tensor in tensors]
        known = [value for value in values if value is not None]
        result = evaluate(call, known) if len(known) == len(values) else None
        return call if result is None else relax.const(result)

    def _resolve(self, expr: tvm.ir.Expr) -> tvm.ir.Expr:
        definition = self.lookup_binding(expr) if isinstance(expr, tvm.ir.Var) else None
        return expr if definition is None else definition
