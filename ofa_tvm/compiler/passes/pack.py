"""Emit fused kernels on packed tensors; whatever they leave over stays an operator on plain tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax, tirx

from ofa_tvm.compiler import layout
from ofa_tvm.compiler.passes.fuse import FusedKernel, find_kernels
from ofa_tvm.compiler.passes.graph import Expr, Graph, Var, is_variable, operator_name, shape
from ofa_tvm.compiler.passes.layout_change import pack_kernel, packed_shape, unpack_kernel
from ofa_tvm.space.workload import Kind, Workload

_PACK_WEIGHT: dict[Kind, Callable[[np.ndarray, int], np.ndarray]] = {
    "conv": layout.pack_conv_weight,
    "pointwise": layout.pack_pointwise_weight,
    "depthwise": layout.pack_depthwise_weight,
}


@dataclass(frozen=True, slots=True)
class PackedModule:
    """A Relax module of calls to kernels on packed tensors.

    Attributes
    ----------
    mod
        Its function ``main`` takes and returns plain tensors; the parameters are packed constants in it. It calls the
        kernel of a workload by the symbol `Workload.key`, and does not hold it.
    workloads
        Of the fused kernels, in execution order, with repetition.
    leftovers
        Names of the operators without a template, in execution order; TVM's legalisation computes them.
    """

    mod: tvm.IRModule
    workloads: tuple[Workload, ...]
    leftovers: tuple[str, ...]


def pack(mod: tvm.IRModule, lanes: int) -> PackedModule:
    """Rewrite ``main`` to calls of fused kernels that hand each other packed tensors.

    The layout changes only where the image comes in, where the logits go out, and around an operator without a
    template. Equal workloads share one kernel; the arguments are those of the kernel templates.

    Parameters
    ----------
    mod
        A simplified module (`ofa_tvm.compiler.pipeline`).
    lanes
        Channels packed innermost.
    """
    graph = Graph(mod["main"])
    kernels = find_kernels(graph)
    inner = {member for kernel in kernels.values() for member in kernel.members[:-1]}
    emitter = _Emitter(mod, lanes)
    leftovers: list[str] = []
    with emitter.builder.function("main", list(graph.parameters)):
        with emitter.builder.dataflow():
            for variable, value in graph.bindings.items():
                if variable in kernels:
                    emitter.emit_kernel(kernels[variable])
                elif variable not in inner and not emitter.keep_packed(variable, value):
                    emitter.emit_operator(variable, value)
                    if isinstance(value, tvm.ir.Call):
                        leftovers.append(operator_name(value))
            output = emitter.builder.emit_output(emitter.plain(graph.output))
        emitter.builder.emit_func_output(output)
    workloads = tuple(kernels[variable].workload for variable in graph.bindings if variable in kernels)
    return PackedModule(emitter.builder.get(), workloads, tuple(leftovers))


class _Emitter:
    """Builds the new function; knows of each variable of the old one where its plain and packed values are."""

    def __init__(self, mod: tvm.IRModule, lanes: int) -> None:
        self.builder = relax.BlockBuilder()
        self._mod = mod
        self._lanes = lanes
        self._plain: dict[Var, Expr] = {}
        self._packed: dict[Var, Expr] = {}
        self._functions: dict[str, tvm.ir.GlobalVar] = {}

    def emit_kernel(self, kernel: FusedKernel) -> None:
        """Call a fused kernel on packed inputs; a dense convolution reads its data plain."""
        workload = kernel.workload
        data, *others = kernel.inputs
        arguments = [self.plain(data) if workload.kind == "conv" else self.packed(data)]
        if kernel.weight is not None and kernel.bias is not None:
            arguments.append(relax.const(_PACK_WEIGHT[workload.kind](kernel.weight, self._lanes)))
            arguments.append(relax.const(layout.pack_bias(kernel.bias, self._lanes)))
        arguments.extend(self.packed(other) for other in others)
        types = [self._packed_type(output) for output in kernel.outputs]
        if len(types) == 1:
            self._packed[kernel.output] = self.builder.emit(relax.call_dps_packed(workload.key, arguments, types[0]))
            return
        results = self.builder.emit(relax.call_dps_packed(workload.key, arguments, types))
        for number, output in enumerate(kernel.outputs):
            self._packed[output] = self.builder.emit(relax.TupleGetItem(results, number))

    def keep_packed(self, variable: Var, value: Expr) -> bool:
        """Let a reshape between ``(1, C, 1, 1)`` and ``(1, C)`` keep its packed value, in which nothing moves.

        One of height and width keeps the plain order of its elements, but not the packed shape, which names both.
        """
        if operator_name(value) != "relax.reshape" or value.args[0] not in self._packed:
            return False
        before, after = shape(value.args[0]), shape(variable)
        if before is None or after is None or len(after) not in (2, 4):
            return False
        if packed_shape(before, self._lanes) != packed_shape(after, self._lanes) or before[:2] != after[:2]:
            return False
        self._packed[variable] = self._packed[value.args[0]]
        return True

    def emit_operator(self, variable: Var, value: Expr) -> None:
        """Keep an operator, or a tuple or a part of one, on plain tensors."""
        self._plain[variable] = self.builder.emit(self.plain(value))

    def plain(self, expr: Expr) -> Expr:
        """An expression of the old function on the plain values of the new one."""
        if is_variable(expr):
            if expr not in self._plain and expr in self._packed:
                self._plain[expr] = self._change_layout("unpack", unpack_kernel, expr, self._packed[expr])
            return self._plain.get(expr, expr)
        if isinstance(expr, tvm.ir.GlobalVar):
            return self._function(expr.name_hint, lambda: self._mod[expr])
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.plain(part) for part in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            return relax.TupleGetItem(self.plain(expr.tuple_value), expr.index)
        if isinstance(expr, tvm.ir.Call):
            return relax.Call(expr.op, [self.plain(part) for part in expr.args], expr.attrs, expr.ty_args)
        return expr

    def packed(self, variable: Var) -> Expr:
        """The packed value of a variable of the old function."""
        if variable not in self._packed:
            self._packed[variable] = self._change_layout("pack", pack_kernel, variable, self.plain(variable))
        return self._packed[variable]

    def _packed_type(self, variable: Var) -> relax.TensorType:
        logical = shape(variable)
        assert logical is not None, "kernels read and write float32 tensors of static shape"
        return relax.TensorType(packed_shape(logical, self._lanes), "float32")

    def _change_layout(
        self, verb: str, kernel: Callable[[tuple[int, ...], int], tirx.PrimFunc], variable: Var, value: Expr
    ) -> Expr:
        logical = shape(variable)
        assert logical is not None, "kernels read and write float32 tensors of static shape"
        name = f"{verb}_{'x'.join(map(str, logical[1:]))}"
        function = self._function(name, lambda: kernel(logical, self._lanes))
        sizes = packed_shape(logical, self._lanes) if verb == "pack" else logical
        return self.builder.emit(relax.call_tir(function, [value], relax.TensorType(sizes, "float32")))

    def _function(self, name: str, make: Callable[[], tirx.PrimFunc]) -> tvm.ir.GlobalVar:
        if name not in self._functions:
            self._functions[name] = self.builder.add_func(make().with_attr("global_symbol", name), name)
        return self._functions[name]
