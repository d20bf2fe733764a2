"""Group the operators of a graph into fused kernels: convolution, bias, activation, residual add.

The squeeze-and-excite between a depthwise convolution and the projection behind it leaves no kernels of its own but
the two products: the first gives the means, the second scales its input.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ofa_tvm.compiler.passes.activations import ActivationMatch, find_activations
from ofa_tvm.compiler.passes.anchors import Anchor, find_anchor
from ofa_tvm.compiler.passes.graph import Graph, Var, broadcasts, is_variable, operator_name, shape
from ofa_tvm.space.workload import Workload


@dataclass(frozen=True, slots=True)
class FusedKernel:
    """A group of operators that one kernel computes.

    Attributes
    ----------
    inputs
        In the kernel's argument order: data, factors of a ``scale`` or of a ``scaled`` kernel, residual.
    members
        The variables it computes, its output last; but for `pooled` nothing else reads the others.
    weight, bias
        `(OC, IC / groups, k, k)` and `(OC,)`, None for a ``pool`` or a ``scale``. A bias is always there with a weight.
    pooled
        The means of its output where the workload is ``pooled``.
    """

    workload: Workload
    inputs: tuple[Var, ...]
    members: tuple[Var, ...]
    weight: np.ndarray | None = field(default=None, compare=False)
    bias: np.ndarray | None = field(default=None, compare=False)
    pooled: Var | None = None

    @property
    def output(self) -> Var:
        """The variable that later operators read."""
        return self.members[-1]

    @property
    def outputs(self) -> tuple[Var, ...]:
        """All variables that later operators read, in the order of the kernel's last arguments."""
        return (self.output,) if self.pooled is None else (self.output, self.pooled)


def find_kernels(graph: Graph) -> dict[Var, FusedKernel]:
    """The fused kernels of a graph by their outputs; operators in none of them are left to TVM's legalisation."""
    activations = find_activations(graph)
    kernels: dict[Var, FusedKernel] = {}
    taken: set[Var] = {member for match in activations.values() for member in match.members}
    for variable in graph.bindings:
        anchor = None if variable in taken else find_anchor(graph, variable)
        if anchor is None or _scales_a_projection(graph, anchor, taken):
            continue
        before = kernels.get(anchor.inputs[0])
        if anchor.workload.kind == "pool" and before is not None and _can_pool(before):
            kernel = _add_pool(before, anchor)
        else:
            kernel = _grow(graph, anchor, activations, taken)
        kernels[kernel.output] = kernel
        taken.update(kernel.members)
    return kernels


def _grow(graph: Graph, anchor: Anchor, activations: dict[Var, ActivationMatch], taken: set[Var]) -> FusedKernel:
    """Take in what follows the anchor, as far as nothing else reads the values between."""
    kernel = FusedKernel(anchor.workload, anchor.inputs, anchor.members, anchor.weight)
    if anchor.weight is None:
        return kernel
    kernel = _take_scale(graph, kernel, taken)
    kernel = _take_bias(graph, kernel, taken)
    kernel = _take_activation(graph, kernel, activations)
    return _take_residual(graph, kernel, taken)


def _scales_a_projection(graph: Graph, anchor: Anchor, taken: set[Var]) -> bool:
    """Whether all that reads a ``scale`` is a pointwise convolution, which then takes it in."""
    reader = graph.only_reader(anchor.members[-1])
    if anchor.workload.kind != "scale" or reader is None or reader in taken:
        return False
    following = find_anchor(graph, reader)
    return following is not None and following.workload.kind == "pointwise"


def _take_scale(graph: Graph, kernel: FusedKernel, taken: set[Var]) -> FusedKernel:
    product = kernel.inputs[0]
    if kernel.workload.kind != "pointwise" or product in taken or product not in graph.bindings:
        return kernel
    scale = find_anchor(graph, product)
    if scale is None or not _scales_a_projection(graph, scale, taken):
        return kernel
    workload = replace(kernel.workload, scaled=True)
    return replace(kernel, workload=workload, inputs=scale.inputs, members=(*scale.members, *kernel.members))


def _can_pool(kernel: FusedKernel) -> bool:
    return kernel.workload.kind == "depthwise" and kernel.pooled is None


def _add_pool(kernel: FusedKernel, pool: Anchor) -> FusedKernel:
    workload = replace(kernel.workload, pooled=True)
    members = (*kernel.members[:-1], *pool.members, kernel.output)
    return replace(kernel, workload=workload, members=members, pooled=pool.members[-1])


def _take_bias(graph: Graph, kernel: FusedKernel, taken: set[Var]) -> FusedKernel:
    channels = kernel.workload.out_channels
    without = replace(kernel, bias=np.zeros(channels, np.float32))
    reader = _following_add(graph, kernel, taken)
    if reader is None:
        return without
    value = next((value for value in map(graph.constant, graph.bindings[reader].args) if value is not None), None)
    sizes = (1, channels, 1, 1)[: len(shape(reader) or ())]
    if value is None or not broadcasts(value.shape, sizes):
        return without
    bias = np.broadcast_to(value, sizes).reshape(channels)
    return replace(kernel, bias=bias, members=(*kernel.members, reader))


def _take_activation(graph: Graph, kernel: FusedKernel, activations: dict[Var, ActivationMatch]) -> FusedKernel:
    match = activations.get(kernel.output)
    if match is None or match.reads != graph.uses(kernel.output) or shape(match.output) != shape(kernel.output):
        return kernel
    inner = tuple(member for member in match.members if not member.same_as(match.output))
    workload = replace(kernel.workload, activation=match.activation)
    return replace(kernel, workload=workload, members=(*kernel.members, *inner, match.output))


def _take_residual(graph: Graph, kernel: FusedKernel, taken: set[Var]) -> FusedKernel:
    reader = _following_add(graph, kernel, taken)
    if reader is None:
        return kernel
    other = next(argument for argument in graph.bindings[reader].args if not argument.same_as(kernel.output))
    if not is_variable(other) or graph.constant(other) is not None or shape(other) != shape(kernel.output):
        return kernel
    workload = replace(kernel.workload, residual=True)
    return replace(kernel, workload=workload, inputs=(*kernel.inputs, other), members=(*kernel.members, reader))


def _following_add(graph: Graph, kernel: FusedKernel, taken: set[Var]) -> Var | None:
    """The sum with something else of the same shape that is all that reads the kernel's output."""
    reader = graph.only_reader(kernel.output)
    is_add = reader is not None and operator_name(graph.bindings[reader]) == "relax.add"
    return reader if is_add and reader not in taken and shape(reader) == shape(kernel.output) else None
