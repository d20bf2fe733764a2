"""Turn runs of kernel calls into one generated function that makes them all.

The virtual machine allocates a tensor for every call and looks up every operand, which costs as much as the
smallest kernels take. A generated function knows every address beforehand: parameters lie in one array, and what
kernels hand each other lies in one workspace that is planned at compile time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax, tirx
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import PrimFunc

from ofa_tvm.compiler.packed_calls import Arguments
from ofa_tvm.compiler.passes.graph import Expr, Graph, Var, constant, is_variable, operator_name, shape
from ofa_tvm.compiler.passes.memory_plan import Lifetime, aligned, plan_memory

Shape = tuple[int, ...]

CALLS = ("relax.call_dps_packed", "relax.call_tir")


@dataclass(frozen=True, slots=True)
class _Call:
    """A kernel's call; `results` are the variables of its outputs, in order."""

    symbol: str
    operands: tuple[Expr, ...]
    results: tuple[Var, ...]
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an operand lies: `offset` float32 elements into a buffer of the generated function."""

    buffer: str
    offset: int
    shape: Shape


def sequence(mod: tvm.IRModule) -> tvm.IRModule:
    """Replace each run of kernel calls in ``main`` by a call of one generated function.

    Parameters
    ----------
    mod
        As `ofa_tvm.compiler.passes.pack` leaves it: one dataflow block.
    """
    graph = Graph(mod["main"])
    rewriter = _Rewriter(graph)
    builder = rewriter.builder
    with builder.function("main", list(graph.parameters)):
        with builder.dataflow():
            for is_call, run in itertools.groupby(graph.bindings, lambda variable: _is_part_of_call(graph, variable)):
                if is_call:
                    rewriter.emit_sequence(list(run))
                else:
                    rewriter.emit_operators(list(run))
            output = builder.emit_output(rewriter.value(graph.output))
        builder.emit_func_output(output)
    rewritten = builder.get()
    rewritten.update(
        {variable: function for variable, function in mod.functions.items() if variable.name_hint != "main"}
    )
    return rewritten


class _Rewriter:
    """Builds the new ``main``; knows the new value of each variable of the old one."""

    def __init__(self, graph: Graph) -> None:
        self.builder = relax.BlockBuilder()
        self._graph = graph
        self._values: dict[Var, Expr] = {}
        self._sequences = 0

    def value(self, expr: Expr) -> Expr:
        """An expression of the old function in variables of the new one."""
        if is_variable(expr):
            return self._values.get(expr, expr)
        if isinstance(expr, relax.Tuple):
            return relax.Tuple([self.value(part) for part in expr.fields])
        if isinstance(expr, relax.TupleGetItem):
            return relax.TupleGetItem(self.value(expr.tuple_value), expr.index)
        if isinstance(expr, tvm.ir.Call):
            return relax.Call(expr.op, [self.value(part) for part in expr.args], expr.attrs, expr.ty_args)
        return expr

    def emit_operators(self, run: Sequence[Var]) -> None:
        """Keep what is no kernel's call."""
        for variable in run:
            self._values[variable] = self.builder.emit(self.value(self._graph.bindings[variable]))

    def emit_sequence(self, run: Sequence[Var]) -> None:
        """One call for a run of them."""
        calls = _calls(self._graph, run)
        made = {variable: shape for call in calls for variable, shape in zip(call.results, call.shapes, strict=True)}
        inside = {*run}
        kept = {v: sizes for v, sizes in made.items() if not self._graph.is_read_only_by(v, inside)}
        read = (operand for call in calls for operand in call.operands if is_variable(operand))
        inputs = {v: _static_shape(v) for v in read if v not in made}
        weights, places = _parameters(calls)
        offsets, workspace = plan_memory(_lifetimes(calls, {v: made[v] for v in made if v not in kept}))
        places |= {v: _Place("workspace", offset, made[v]) for v, offset in offsets.items()}
        places |= {v: _Place(f"input_{n}", 0, sizes) for n, (v, sizes) in enumerate(inputs.items())}
        places |= {v: _Place(f"output_{n}", 0, sizes) for n, (v, sizes) in enumerate(kept.items())}
        results: dict[str, Shape] = {f"output_{n}": sizes for n, sizes in enumerate(kept.values())}
        results["workspace"] = (max(workspace, 1),)
        arguments = {f"input_{n}": sizes for n, sizes in enumerate(inputs.values())} | {"weights": weights.shape}
        made_by = self._call(
            _generate(calls, places, arguments | results),
            [*(self.value(variable) for variable in inputs), relax.const(weights)],
            list(results.values()),
        )
        for number, variable in enumerate(kept):
            self._values[variable] = self.builder.emit(relax.TupleGetItem(made_by, number))

    def _call(self, function: PrimFunc, arguments: Sequence[Expr], results: Sequence[Shape]) -> Expr:
        name = f"sequence_{self._sequences}"
        self._sequences += 1
        variable = self.builder.add_func(function.with_attr("global_symbol", name), name)
        types = [relax.TensorType(sizes, "float32") for sizes in results]
        return self.builder.emit(relax.call_tir(variable, arguments, types))


def _is_part_of_call(graph: Graph, variable: Var) -> bool:
    """Whether a variable is a kernel's output, or the tuple of several; of float32 tensors alone."""
    value = graph.bindings[variable]
    if isinstance(value, relax.TupleGetItem):
        value = graph.definition(value.tuple_value)
    if operator_name(value) not in CALLS:
        return False
    return all(shape(part) is not None for part in (*value.args[1].fields, *_results(value)))


def _results(call: Expr) -> list[relax.Var]:
    """Variables of the types of a call's results."""
    types = call.ty_args[0]
    return [relax.Var("result", kind) for kind in (types.fields if isinstance(types, relax.TupleType) else [types])]


def _calls(graph: Graph, run: Sequence[Var]) -> list[_Call]:
    """The calls behind a run of variables, in order.

    Dead code elimination drops the part of a tuple that nobody reads; the kernel writes it all the same.
    """
    parts = {
        (graph.bindings[v].tuple_value, graph.bindings[v].index): v
        for v in run
        if isinstance(graph.bindings[v], relax.TupleGetItem)
    }
    calls = []
    for variable in run:
        value = graph.bindings[variable]
        if isinstance(value, relax.TupleGetItem):
            continue
        types = value.ty_args[0]
        if isinstance(types, relax.TupleType):
            types = list(types.fields)
            results = tuple(parts.get((variable, n), relax.Var("unread", kind)) for n, kind in enumerate(types))
        else:
            types, results = [types], (variable,)
        shapes = tuple(tuple(int(size) for size in kind.shape.values) for kind in types)
        calls.append(_Call(_symbol(value.args[0]), tuple(value.args[1].fields), results, shapes))
    return calls


def _static_shape(variable: Var) -> Shape:
    sizes = shape(variable)
    assert sizes is not None, "kernels read and write float32 tensors of static shape"
    return sizes


def _symbol(function: Expr) -> str:
    return str(function.name_hint if isinstance(function, tvm.ir.GlobalVar) else function.global_symbol)


def _parameters(calls: Sequence[_Call]) -> tuple[np.ndarray, dict[Expr, _Place]]:
    """All constants in one array, in the order in which they are read, and where each of them lies."""
    arrays, places, end = [], {}, 0
    for operand in (operand for call in calls for operand in call.operands):
        value = constant(operand)
        if value is None:
            continue
        places[operand] = _Place("weights", end, value.shape)
        padding = aligned(value.size) - value.size
        arrays += [value.ravel(), np.zeros(padding, np.float32)]
        end += value.size + padding
    return np.concatenate(arrays, dtype=np.float32) if arrays else np.zeros(1, np.float32), places


def _lifetimes(calls: Sequence[_Call], handed_on: Mapping[Var, Shape]) -> dict[Var, Lifetime]:
    """Of what the calls hand each other."""
    first = {result: step for step, call in enumerate(calls) for result in call.results}
    last = first | {operand: step for step, call in enumerate(calls) for operand in call.operands if operand in first}
    return {v: Lifetime(math.prod(sizes), first[v], last[v]) for v, sizes in handed_on.items()}


def _generate(calls: Sequence[_Call], places: Mapping[Expr, _Place], shapes: Mapping[str, Shape]) -> PrimFunc:
    """The function that makes the calls, on buffers of these shapes."""
    tensors = [[places[operand] for operand in (*call.operands, *call.results)] for call in calls]
    most, axes = max(map(len, tensors)), max(len(place.shape) for place in itertools.chain(*tensors))
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        buffers = {name: T.arg(name, T.buffer(shape, "float32", buffer_name=name)) for name, shape in shapes.items()}
        arguments = Arguments(most, axes)
        for call, given in zip(calls, tensors, strict=True):
            for number, place in enumerate(given):
                buffer = buffers[place.buffer]
                index = [place.offset] if len(buffer.shape) == 1 else [0] * len(buffer.shape)
                arguments.set(number, tirx.BufferLoad(buffer, index), place.shape)
            arguments.call(call.symbol, len(given))
    return builder.get()
