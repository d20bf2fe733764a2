"""A Relax function read as a graph: what defines each variable, and who uses it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from typing import TypeAlias

import numpy as np
import tvm
from tvm import relax

from ofa_tvm.errors import CompileError

# Relax expressions and variables have no types of their own that mypy could see.
Expr: TypeAlias = tvm.ir.Expr
Var: TypeAlias = tvm.ir.Var


class Graph:
    """The bindings of a function of one dataflow block, in execution order.

    Attributes
    ----------
    parameters
        The function's inputs.
    bindings
        What each variable is bound to, in execution order.
    output
        The expression that the function returns.

    Raises
    ------
    CompileError
        The function branches.
    """

    def __init__(self, function: relax.Function) -> None:
        body = function.body
        self.parameters: tuple[Var, ...] = tuple(function.params)
        self.bindings: dict[Var, Expr] = {}
        self.output: Expr = body.body
        self._readers: defaultdict[Var, list[Var | None]] = defaultdict(list)
        for block in body.blocks:
            for binding in block.bindings:
                if isinstance(binding.value, relax.If):
                    raise CompileError("the subnet branches at run time; only graphs without branches are compiled")
                self.bindings[binding.var] = binding.value
                for variable in operands(binding.value):
                    self._readers[variable].append(binding.var)
        for variable in operands(self.output):
            self._readers[variable].append(None)

    def definition(self, expr: Expr) -> Expr:
        """What a variable is bound to; an input, a constant or an operator stands for itself."""
        return self.bindings.get(expr, expr) if is_variable(expr) else expr

    def uses(self, variable: Var) -> int:
        """How often a variable is read, by operators or as the function's output."""
        return len(self._readers[variable])

    def only_reader(self, variable: Var) -> Var | None:
        """The variable computed from this one, if there is exactly one and this one is not the function's output."""
        readers = self._readers[variable]
        return readers[0] if len(readers) == 1 else None

    def is_read_only_by(self, variable: Var, readers: Container[Var]) -> bool:
        """Whether nothing but what defines these variables reads this one."""
        return all(reader is not None and reader in readers for reader in self._readers[variable])

    def constant(self, expr: Expr) -> np.ndarray | None:
        """The value of a constant tensor, None for anything else."""
        return constant(self.definition(expr))

    def number(self, expr: Expr) -> float | None:
        """The value of a number or of a tensor that holds just one, None for anything else."""
        if isinstance(expr, tvm.tirx.IntImm | tvm.tirx.FloatImm):
            return float(expr.value)
        value = self.constant(expr)
        return None if value is None or value.size != 1 else float(value.reshape(()))


def is_variable(expr: object) -> bool:
    """Whether an expression is a variable."""
    return isinstance(expr, tvm.ir.Var)


def operands(expr: Expr) -> list[Var]:
    """The variables that an operator reads, with repetition."""
    if isinstance(expr, relax.Tuple):
        parts = list(expr.fields)
    elif isinstance(expr, relax.TupleGetItem):
        parts = [expr.tuple_value]
    elif isinstance(expr, tvm.ir.Call):
        parts = list(expr.args)
    else:
        parts = [expr]
    found: list[Var] = []
    for part in parts:
        if is_variable(part):
            found.append(part)
        elif isinstance(part, relax.Tuple):
            found.extend(operands(part))
    return found


def operator_name(expr: Expr) -> str:
    """Such as ``relax.add``; empty for what is no call of an operator."""
    return str(expr.op.name) if isinstance(expr, tvm.ir.Call) and isinstance(expr.op, tvm.ir.Op) else ""


def constant(expr: Expr) -> np.ndarray | None:
    """The value of a constant tensor, None for anything else."""
    return np.asarray(expr.value.numpy()) if isinstance(expr, tvm.ir.GenericConst) else None


def shape(expr: Expr) -> tuple[int, ...] | None:
    """Shape of a float32 tensor if it is static, else None."""
    kind = expr.ty
    if not isinstance(kind, relax.TensorType) or not isinstance(kind.shape, relax.ShapeExpr) or kind.dtype != "float32":
        return None
    sizes = list(kind.shape.values)  # once: each element of TVM's array is a call
    if not all(isinstance(size, tvm.tirx.IntImm) for size in sizes):
        return None
    return tuple(int(size) for size in sizes)


def broadcasts(sizes: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether a tensor of these sizes can be repeated to the sizes of the target."""
    tail = target[max(len(target) - len(sizes), 0) :]
    return len(sizes) == len(tail) and all(size in (1, wanted) for size, wanted in zip(sizes, tail, strict=True))
