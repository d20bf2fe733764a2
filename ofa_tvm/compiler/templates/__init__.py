"""Kernel templates: for each kind of workload a family of kernels on packed layouts, a few parameters each."""

from __future__ import annotations

from collections.abc import Iterable

import tvm

from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates._base import Parameters, Template
from ofa_tvm.compiler.templates.conv import ConvTemplate
from ofa_tvm.compiler.templates.depthwise import DepthwiseTemplate
from ofa_tvm.compiler.templates.pointwise import PointwiseTemplate
from ofa_tvm.compiler.templates.pool import PoolTemplate
from ofa_tvm.compiler.templates.scale import ScaleTemplate
from ofa_tvm.space.workload import Kind, Workload

__all__ = ["TEMPLATES", "Parameters", "Template", "kernel_module"]

TEMPLATES: dict[Kind, Template] = {
    "conv": ConvTemplate(),
    "pointwise": PointwiseTemplate(),
    "depthwise": DepthwiseTemplate(),
    "pool": PoolTemplate(),
    "scale": ScaleTemplate(),
}


def kernel_module(entries: Iterable[tuple[str, Workload, Parameters]], machine: Machine) -> tvm.IRModule:
    """One module of many kernels, to be compiled and exported as one library.

    Parameters
    ----------
    entries
        Symbol, workload and parameters of each kernel; the symbols are distinct C identifiers.
    """
    return tvm.IRModule(
        {
            symbol: TEMPLATES[workload.kind].prim_func(workload, parameters, machine).with_attr("global_symbol", symbol)
            for symbol, workload, parameters in entries
        }
    )
