"""Recognise the operators that fused kernels grow from, and name what each computes as a workload."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ofa_tvm.compiler.passes.graph import Expr, Graph, Var, is_variable, operator_name, shape
from ofa_tvm.space.workload import Kind, Workload


@dataclass(frozen=True, slots=True)
class Anchor:
    """An operator that a kernel computes, before bias, activation and residual add.

    Attributes
    ----------
    inputs
        The tensors it reads: the data, and the factors of a ``scale``.
    weight
        `(OC, IC / groups, k, k)` of a convolution, None without one.
    members
        The variables it computes, its output last.
    """

    workload: Workload
    inputs: tuple[Var, ...]
    members: tuple[Var, ...]
    weight: np.ndarray | None = field(default=None, compare=False)


def find_anchor(graph: Graph, variable: Var) -> Anchor | None:
    """The anchor whose first operator computes `variable`, None where no kernel covers the operator."""
    call = graph.bindings[variable]
    recognise = _RECOGNISE.get(operator_name(call))
    return None if recognise is None or shape(variable) is None else recognise(graph, variable, call)


def _convolution(graph: Graph, output: Var, call: Expr) -> Anchor | None:
    data, weight = call.args[0], graph.constant(call.args[1])
    sizes, attrs = shape(data), call.attrs
    if not is_variable(data) or sizes is None or weight is None or sizes[0] != 1:
        return None
    if (str(attrs.data_layout), str(attrs.kernel_layout), str(attrs.out_layout)) != ("NCHW", "OIHW", "NCHW"):
        return None
    out_channels, _, kernel_size, kernel_width = weight.shape
    strides, groups = [int(stride) for stride in attrs.strides], int(attrs.groups)
    kind = _convolution_kind(sizes[1], out_channels, kernel_size, strides[0], groups)
    square = kernel_size == kernel_width and kernel_size % 2 == 1 and strides[0] == strides[1]
    padded_by_half = all(int(padding) == kernel_size // 2 for padding in attrs.padding)
    dilated = any(int(dilation) != 1 for dilation in attrs.dilation)
    if kind is None or not square or not padded_by_half or dilated:
        return None
    workload = Workload(kind, sizes[1], out_channels, sizes[2], sizes[3], kernel_size, strides[0])
    return Anchor(workload, (data,), (output,), weight)


def _convolution_kind(channels: int, out_channels: int, kernel_size: int, stride: int, groups: int) -> Kind | None:
    if groups == 1:
        return "pointwise" if kernel_size == stride == 1 else "conv"
    return "depthwise" if groups == channels == out_channels else None


def _linear(graph: Graph, output: Var, call: Expr) -> Anchor | None:
    data, matrix = call.args[0], graph.constant(call.args[1])
    sizes = shape(data)
    if not is_variable(data) or sizes is None or len(sizes) != 2 or sizes[0] != 1 or matrix is None or matrix.ndim != 2:
        return None
    workload = Workload("pointwise", matrix.shape[0], matrix.shape[1], 1, 1)
    return Anchor(workload, (data,), (output,), matrix.T[:, :, None, None])


def _pool(graph: Graph, output: Var, call: Expr) -> Anchor | None:
    """A mean over height and width, in one operator or in two."""
    data = call.args[0]
    sizes = shape(data)
    if not is_variable(data) or sizes is None or len(sizes) != 4 or sizes[0] != 1:
        return None
    axes, members = _mean_axes(call, list(range(4))), [output]
    follower = graph.only_reader(output)
    if axes != {2, 3} and follower is not None and operator_name(graph.bindings[follower]) == "relax.mean":
        left = [axis for axis in range(4) if bool(call.attrs.keepdims) or axis not in axes]
        axes, members = axes | _mean_axes(graph.bindings[follower], left), [output, follower]
    if axes != {2, 3} or shape(members[-1]) not in ((1, sizes[1]), (1, sizes[1], 1, 1)):
        return None
    return Anchor(Workload("pool", sizes[1], sizes[1], sizes[2], sizes[3]), (data,), tuple(members))


def _mean_axes(call: Expr, axes: list[int]) -> set[int]:
    """Which of the data's `axes` a mean is over."""
    chosen = call.attrs.axis
    return set(axes) if chosen is None else {axes[int(axis)] for axis in chosen}


def _scale(_graph: Graph, output: Var, call: Expr) -> Anchor | None:
    sizes = shape(output)
    if sizes is None or len(sizes) != 4 or sizes[0] != 1:
        return None
    for data, factors in (tuple(call.args), tuple(call.args)[::-1]):
        shapes_fit = shape(data) == sizes and shape(factors) == (1, sizes[1], 1, 1)
        if is_variable(data) and is_variable(factors) and shapes_fit:
            return Anchor(Workload("scale", sizes[1], sizes[1], sizes[2], sizes[3]), (data, factors), (output,))
    return None


_RECOGNISE: dict[str, Callable[[Graph, Var, Expr], Anchor | None]] = {
    "relax.nn.conv2d": _convolution,
    "relax.matmul": _linear,
    "relax.mean": _pool,
    "relax.multiply": _scale,
}
