"""Export of a subnet to ONNX, with batch normalisation folded into the convolutions."""

from __future__ import annotations

import contextlib
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
import torch.onnx  # torch's own lazy import, interrupted amid an export, would start anew in the handler of errors

from ofa_tvm.errors import CompileError

INPUT_NAME = "image"
OUTPUT_NAME = "logits"
OPSET = 18


def export_onnx(subnet: torch.nn.Module, resolution: int) -> onnx.ModelProto:
    """Export a subnet in evaluation mode; its training flags are left as they were.

    Parameters
    ----------
    subnet
        Takes images `(1, 3, resolution, resolution)` float32, gives logits `(1, classes)`.
    resolution
        Height and width of the image in pixels; the exported shapes are static.

    Returns
    -------
    onnx.ModelProto
        With one input ``image`` and one output ``logits``, and without batch normalisation.

    Raises
    ------
    CompileError
        PyTorch can't export the subnet, or a batch normalisation could not be folded.
    """
    parameter = next(subnet.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    image = torch.zeros(1, 3, resolution, resolution, device=device)
    with tempfile.TemporaryDirectory() as folder, evaluation_mode(subnet), warnings.catch_warnings():
        # The TorchScript exporter is chosen on purpose: it folds batch normalisation while exporting.
        warnings.filterwarnings("ignore", message=".*legacy TorchScript-based ONNX export", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.onnx\.")
        path = Path(folder) / "subnet.onnx"
        try:
            torch.onnx.export(
                subnet,
                (image,),
                path,
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise CompileError(f"PyTorch cannot export the subnet at {resolution} px to ONNX: {reason}") from error
        model = onnx.load(path)
    unfolded = [node.name for node in model.graph.node if node.op_type == "BatchNormalization"]
    if unfolded:
        raise CompileError(
            f"{len(unfolded)} batch normalisations of the subnet do not follow a convolution and remain in the ONNX "
            f"graph, the first is {unfolded[0]}; place each behind a convolution"
        )
    return model


@contextlib.contextmanager
def evaluation_mode(subnet: torch.nn.Module) -> Iterator[None]:
    """Put a subnet in evaluation mode for a while, each module back in its own mode after."""
    training = {module: module.training for module in subnet.modules()}
    subnet.eval()
    try:
        yield
    finally:
        for module, flag in training.items():
            module.training = flag
