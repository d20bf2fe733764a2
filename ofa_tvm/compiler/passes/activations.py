"""Find the activation functions of a graph, in each form in which exporters write them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ofa_tvm.compiler.passes.graph import Expr, Graph, Var, is_variable, operator_name
from ofa_tvm.space.workload import Activation

INPUT = "input"


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator on patterns."""

    operator: str
    operands: tuple[Pattern, ...]


# A pattern is the activation's input, a number, or an operation.
Pattern: TypeAlias = "str | float | Operation"


def _op(operator: str, *operands: Pattern) -> Operation:
    return Operation(f"relax.{operator}", operands)


def _clips(operand: Pattern, low: float, high: float) -> tuple[Operation, Operation]:
    return _op("minimum", _op("maximum", operand, low), high), _op("clip", operand, low, high)


_SIXTHS = _clips(_op("add", INPUT, 3.0), 0.0, 6.0)
_H_SIGMOID = (
    *(_op("divide", sixths, 6.0) for sixths in _SIXTHS),
    *_clips(_op("add", _op("multiply", INPUT, 1 / 6), 0.5), 0.0, 1.0),
)
FORMS: tuple[tuple[Activation, Operation], ...] = (
    *(("h_swish", _op("divide", _op("multiply", INPUT, sixths), 6.0)) for sixths in _SIXTHS),
    *(("h_swish", _op("multiply", INPUT, h_sigmoid)) for h_sigmoid in _H_SIGMOID),
    *(("h_sigmoid", h_sigmoid) for h_sigmoid in _H_SIGMOID),
    *(("relu6", clip) for clip in _clips(INPUT, 0.0, 6.0)),
    ("relu", _op("nn.relu", INPUT)),
    ("relu", _op("maximum", INPUT, 0.0)),
)
_COMMUTATIVE = frozenset({"relax.add", "relax.multiply", "relax.maximum", "relax.minimum"})


@dataclass(frozen=True, slots=True)
class ActivationMatch:
    """An activation function found in a graph.

    Attributes
    ----------
    input, output
        The variables it goes from and to.
    members
        All variables that it computes, the output included; nothing else uses the inner ones.
    reads
        How often the members read the input.
    """

    activation: Activation
    input: Var
    output: Var
    members: frozenset[Var]
    reads: int


def find_activations(graph: Graph) -> dict[Var, ActivationMatch]:
    """The activation functions of a graph by their input, the largest where they nest."""
    found: dict[Var, ActivationMatch] = {}
    taken: set[Var] = set()
    for variable in reversed(graph.bindings):  # from the end, so that h_swish comes before the h_sigmoid inside it
        if variable in taken:
            continue
        match = next(_matches(graph, variable), None)
        if match is not None:
            found[match.input] = match
            taken |= match.members
    return found


def _matches(graph: Graph, output: Var) -> Iterator[ActivationMatch]:
    last = operator_name(graph.definition(output))
    for activation, pattern in FORMS:
        if pattern.operator != last:
            continue
        matcher = _Matcher(graph)
        if matcher.match(output, pattern) and matcher.is_closed(output):
            yield ActivationMatch(activation, matcher.input, output, frozenset(matcher.reads_of), matcher.reads)


class _Matcher:
    """One attempt to match one pattern."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.input: Var | None = None
        self.reads = 0
        self.reads_of: dict[Var, int] = {}

    def match(self, expr: Expr, pattern: Pattern) -> bool:
        if isinstance(pattern, float):
            return self._match_number(expr, pattern)
        if isinstance(pattern, str):
            return self._match_input(expr)
        if not is_variable(expr):
            return False
        call = self._graph.definition(expr)
        if operator_name(call) != pattern.operator:
            return False
        arguments = list(call.args)
        if len(arguments) != len(pattern.operands):
            return False
        self.reads_of[expr] = self.reads_of.get(expr, 0) + 1
        return self._match_operands(arguments, pattern)

    def _match_operands(self, arguments: list[Expr], pattern: Operation) -> bool:
        state = (self.input, self.reads, dict(self.reads_of))
        orders = (arguments, arguments[::-1]) if pattern.operator in _COMMUTATIVE else (arguments,)
        for order in orders:
            if all(map(self.match, order, pattern.operands)):
                return True
            self.input, self.reads, self.reads_of = state[0], state[1], dict(state[2])
        return False

    def _match_number(self, expr: Expr, number: float) -> bool:
        value = self._graph.number(expr)
        return value is not None and bool(np.isclose(value, number, rtol=1e-6, atol=0.0))

    def _match_input(self, expr: Expr) -> bool:
        if not is_variable(expr) or (self.input is not None and not expr.same_as(self.input)):
            return False
        self.input = expr
        self.reads += 1
        return True

    def is_closed(self, output: Var) -> bool:
        """Whether nothing outside reads what the pattern computes on the way to its output."""
        inner = ((variable, reads) for variable, reads in self.reads_of.items() if not variable.same_as(output))
        return all(self._graph.uses(variable) == reads for variable, reads in inner)
