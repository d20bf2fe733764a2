"""A subnet lowered to ONNX, with an input and the output that every later stage must reproduce."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import torch

from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.lowering.onnx_export import export_onnx
from ofa_tvm.lowering.outputs import Array, onnx_logits, relax_logits, torch_logits
from ofa_tvm.lowering.relax_import import import_onnx


@dataclass(frozen=True, slots=True)
class LoweredSubnet:
    """A subnet as ONNX, checked.

    Attributes
    ----------
    sample_input
        float32 (1, 3, R, R).
    sample_output
        The subnet's logits for it in PyTorch, float32 (1, classes).
    """

    model: onnx.ModelProto
    sample_input: Array
    sample_output: Array


def lower(subnet: torch.nn.Module, sample_input: Array) -> LoweredSubnet:
    """Export a subnet and check that ONNX Runtime computes what PyTorch does.

    Parameters
    ----------
    sample_input
        float32 (1, 3, R, R); its size is the one that is exported.

    Raises
    ------
    CompileError
        The subnet can't be exported, or gives something else than one tensor.
    NumericalMismatchError
        ONNX Runtime computes something else.
    """
    expected = torch_logits(subnet, sample_input)
    model = export_onnx(subnet, sample_input.shape[-1])
    check_outputs("ONNX", expected, onnx_logits(model, sample_input))
    return LoweredSubnet(model, sample_input, expected)


def check_import(lowered: LoweredSubnet) -> float:
    """Compare what TVM imports, run by TVM's default kernels on this host, with the subnet.

    It takes seconds, so it is for a library whose outputs differ: it tells an import gone wrong from a wrong kernel.

    Returns
    -------
    float
        The relative error.

    Raises
    ------
    CompileError
        TVM can't import the graph.
    NumericalMismatchError
        The import computes something else.
    """
    logits = relax_logits(import_onnx(lowered.model), lowered.sample_input)
    return check_outputs("Relax", lowered.sample_output, logits)
