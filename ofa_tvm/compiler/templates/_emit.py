"""Emitting TIR: whole-vector loads, stores, accumulators and the fused epilogue.

Kernels are emitted as loops over whole vectors rather than scheduled from an expression: tiles may then
overlap at an edge, and windows be clipped at compile time, neither of which a schedule can say. LLVM
keeps the accumulators in registers (they are only ever indexed by constants) and contracts the
multiplications and additions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tvm import tirx
from tvm.ir import Expr
from tvm.script.ir_builder import IRBuilder
from tvm.script.ir_builder import tirx as T
from tvm.tirx import Buffer, PrimFunc

from ofa_tvm.compiler.templates._base import Shape
from ofa_tvm.compiler.templates._loops import Index
from ofa_tvm.space.workload import Activation


def emit_function(shapes: Mapping[str, Shape], emit: Callable[[dict[str, Buffer]], None]) -> PrimFunc:
    """A function of float32 buffers whose body `emit` writes."""
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        # Scheduled: no default schedule of a later pass may touch it. noalias: outputs are fresh tensors.
        T.func_attr({"tirx.noalias": True, "tirx.is_scheduled": True})
        emit({name: T.arg(name, T.buffer(shape, "float32", buffer_name=name)) for name, shape in shapes.items()})
    return builder.get()


def load(buffer: Buffer, *index: Index, lanes: int) -> Expr:
    """The vector of `lanes` elements at `index` of all axes but the last."""
    return tirx.BufferLoad(buffer, [*index, tirx.Ramp(0, 1, lanes)])


def store(buffer: Buffer, value: Expr, *index: Index, lanes: int) -> None:
    """Store a vector of `lanes` elements at `index` of all axes but the last."""
    T.buffer_store(buffer, value, [*index, tirx.Ramp(0, 1, lanes)])


def prefetch(buffer: Buffer, element: Index) -> None:
    """Ask for an element's cache line. The element, counted from the start, may lie behind the end: nothing is read."""
    read, near, data = 0, 3, 1
    address = tirx.address_of(tirx.BufferLoad(buffer, [*(0 for _ in buffer.shape[1:]), element]))
    T.evaluate(tirx.call_intrin("void", "tirx.prefetch", address, read, near, data))


def splat(value: Expr | float, lanes: int) -> Expr:
    """A vector of equal elements."""
    return tirx.Broadcast(tirx.FloatImm("float32", value) if isinstance(value, float) else value, lanes)


def splat_lane(buffer: Buffer, *index: Index, lane: Index, lanes: int, from_register: bool) -> Expr:
    """A vector of element `lane` of the vector at `index`, repeated.

    Either read from memory, or taken from a register: then the whole vector is loaded, once for all its elements, and
    `lane` must be constant once loops are unrolled.
    """
    if from_register:
        return tirx.Shuffle([load(buffer, *index, lanes=lanes)], [lane] * lanes)
    return splat(tirx.BufferLoad(buffer, [*index, lane]), lanes)


def twice(half: Expr, lanes: int) -> Expr:
    """A vector of half as many elements, repeated."""
    return tirx.Shuffle([half, half], [*range(lanes)])


def halves(low: Expr, low_side: int, high: Expr, high_side: int, lanes: int) -> Expr:
    """A vector of a half of each of two others: the first (0) or the second (1)."""
    half = lanes // 2
    first, second = low_side * half, lanes + high_side * half
    return tirx.Shuffle([low, high], [*range(first, first + half), *range(second, second + half)])


def opaque(value: Expr, lanes: int) -> Expr:
    """A vector of which LLVM does not know how it came about, on x86.

    Halves of two vectors of equal elements it would otherwise take by a permutation of all elements, for which a core
    has fewer units than for a blend.
    """
    return tirx.call_llvm_pure_intrin(f"float32x{lanes}", "llvm.arithmetic.fence", value)


def balanced_sum(values: Sequence[Expr]) -> Expr:
    """The sum as a balanced tree: additions that wait for each other are few."""
    if len(values) == 1:
        return values[0]
    half = len(values) // 2
    return balanced_sum(values[:half]) + balanced_sum(values[half:])


class Accumulators:
    """Vectors that stay in registers, indexed by constants and by variables of unrolled loops only."""

    def __init__(self, count: int, lanes: int) -> None:
        self.lanes = lanes
        keep = {"disable_lower_builtin": True}  # on the stack, from where LLVM takes it into registers
        self._buffer = T.alloc_buffer((count * lanes,), "float32", scope="local", annotations=keep)

    def __getitem__(self, number: Index) -> Expr:
        return tirx.BufferLoad(self._buffer, [self._vector(number)])

    def __setitem__(self, number: Index, value: Expr) -> None:
        T.buffer_store(self._buffer, value, [self._vector(number)])

    def _vector(self, number: Index) -> Expr:
        return tirx.Ramp(number * self.lanes, 1, self.lanes)


def activate(value: Expr, activation: Activation, lanes: int) -> Expr:
    """The activation of a vector."""

    def relu6(x: Expr) -> Expr:
        return tirx.Min(tirx.Max(x, splat(0.0, lanes)), splat(6.0, lanes))

    def h_sigmoid(x: Expr) -> Expr:
        slope = x * splat(1.0 / 6.0, lanes) + splat(0.5, lanes)  # one multiply-add
        return tirx.Min(tirx.Max(slope, splat(0.0, lanes)), splat(1.0, lanes))

    match activation:
        case "none":
            return value
        case "relu":
            return tirx.Max(value, splat(0.0, lanes))
        case "relu6":
            return relu6(value)
        case "h_sigmoid":
            return h_sigmoid(value)
        case "h_swish":
            return value * h_sigmoid(value)
