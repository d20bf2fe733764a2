"""A subnet lowered to ONNX and Relax, with an input and the output that every later stage must reproduce."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import torch
import tvm

from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.lowering.onnx_export import export_onnx
from ofa_tvm.lowering.outputs import Array, onnx_logits, relax_logits, torch_logits
from ofa_tvm.lowering.relax_import import import_onnx


@dataclass(frozen=True, slots=True)
class LoweredSubnet:
    """A subnet as ONNX, checked, and as TVM imports it.

    Attributes
    ----------
    imported
        As `ofa_tvm.lowering.relax_import.import_onnx` gives it; all that is compiled or searched begins with this.
    sample_input
        float32 (1, 3, R, R).
    sample_output
        The subnet's logits for it in PyTorch, float32 (1, classes).
    """

    model: onnx.ModelProto
    imported: tvm.IRModule
    sample_input: Array
    sample_output: Array


def lower(subnet: torch.nn.Module, sample_input: Array) -> LoweredSubnet:
    """Export a subnet, check that ONNX Runtime computes what PyTorch does, and import it into Relax.

    Parameters
    ----------
    sample_input
        float32 (1, 3, R, R); its size is the one that is exported.

    Raises
    ------
    CompileError
        The subnet can't be exported or imported, or gives something else than one tensor.
    NumericalMismatchError
        ONNX Runtime computes something else.
    """
    expected = torch_logits(subnet, sample_input)
    model = export_onnx(subnet, sample_input.shape[-1])
    check_outputs("ONNX", expected, onnx_logits(model, sample_input))
    return LoweredSubnet(model, import_onnx(model), sample_input, expected)


def check_import(lowered: LoweredSubnet) -> float:
    """Compare what TVM imports, run by TVM's default kernels on this host, with the subnet.

    It takes seconds, so it is for a library whose outputs differ: it tells an import gone wrong from a wrong kernel.

    Returns
    -------
    float
        The relative error.

    Raises
    ------
    NumericalMismatchError
        The import computes something else.
    """
    logits = relax_logits(lowered.imported, lowered.sample_input)
    return check_outputs("Relax", lowered.sample_output, logits)
