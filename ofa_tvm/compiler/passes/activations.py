"""Find the activation functions of a graph, in each form in which exporters write them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ofa_tvm.compiler.passes.graph import Expr, Graph, Var, is_variable, operator_name
from ofa_tvm.space.workload import Activation

# A pattern is the activation's input, a number, or an operator with the patterns of its operands.
INPUT = "input"
Pattern: TypeAlias = "str | float | tuple[Pattern, ...]"

_CLIP_0_6: Pattern = ("minimum", ("maximum", ("add", INPUT, 3.0), 0.0), 6.0)
_CLIP_OPERATOR_0_6: Pattern = ("clip", ("add", INPUT, 3.0), 0.0, 6.0)
_LINE: Pattern = ("add", ("multiply", INPUT, 1 / 6), 0.5)
_H_SIGMOID: tuple[Pattern, ...] = (
    ("divide", _CLIP_0_6, 6.0),
    ("divide", _CLIP_OPERATOR_0_6, 6.0),
    ("clip", _LINE, 0.0, 1.0),
    ("minimum", ("maximum", _LINE, 0.0), 1.0),
)
FORMS: tuple[tuple[Activation, Pattern], ...] = (
    ("h_swish", ("divide", ("multiply", INPUT, _CLIP_0_6), 6.0)),
    ("h_swish", ("divide", ("multiply", INPUT, _CLIP_OPERATOR_0_6), 6.0)),
    *(("h_swish", ("multiply", INPUT, h_sigmoid)) for h_sigmoid in _H_SIGMOID),
    *(("h_sigmoid", h_sigmoid) for h_sigmoid in _H_SIGMOID),
    ("relu6", ("minimum", ("maximum", INPUT, 0.0), 6.0)),
    ("relu6", ("clip", INPUT, 0.0, 6.0)),
    ("relu", ("nn.relu", INPUT)),
    ("relu", ("maximum", INPUT, 0.0)),
)
_COMMUTATIVE = frozenset({"add", "multiply", "maximum", "minimum"})


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
    for activation, pattern in FORMS:
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
        if pattern == INPUT:
            return self._match_input(expr)
        if isinstance(pattern, float):
            return _is_number(self._graph, expr, pattern)
        if not is_variable(expr):
            return False
        call = self._graph.definition(expr)
        operator, *operands = pattern
        if operator_name(call) != f"relax.{operator}" or len(call.args) != len(operands):
            return False
        self.reads_of[expr] = self.reads_of.get(expr, 0) + 1
        return self._match_operands(list(call.args), operands, operator in _COMMUTATIVE)

    def _match_operands(self, arguments: list[Expr], patterns: list[Pattern], commutative: bool) -> bool:
        state = (self.input, self.reads, dict(self.reads_of))
        for order in (arguments, arguments[::-1]) if commutative else (arguments,):
            if all(map(self.match, order, patterns)):
                return True
            self.input, self.reads, self.reads_of = state[0], state[1], dict(state[2])
        return False

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


def _is_number(graph: Graph, expr: Expr, number: float) -> bool:
    value = graph.number(expr)
    return value is not None and bool(np.isclose(value, number, rtol=1e-6, atol=0.0))
