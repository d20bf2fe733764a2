"""What a subnet computes at each stage of lowering, for the checks between them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import torch
import tvm
from numpy.typing import NDArray
from tvm import relax

from ofa_tvm.errors import CompileError
from ofa_tvm.lowering.onnx_export import INPUT_NAME, OUTPUT_NAME, evaluation_mode

Array = NDArray[np.float32]


def random_image(resolution: int, seed: int) -> Array:
    """A normally distributed image `(1, 3, resolution, resolution)` float32, as normalised photographs roughly are."""
    return np.random.default_rng(seed).standard_normal((1, 3, resolution, resolution), dtype=np.float32)


def torch_logits(subnet: torch.nn.Module, image: Array) -> Array:
    """Logits `(1, classes)` of a subnet in evaluation mode; its training flags are left as they were.

    Raises
    ------
    CompileError
        The subnet gives something else than one tensor.
    """
    parameter = next(subnet.parameters(), None)
    data = torch.from_numpy(image).to("cpu" if parameter is None else parameter.device)
    with evaluation_mode(subnet), torch.inference_mode():
        logits = subnet(data)
    if not isinstance(logits, torch.Tensor):
        raise CompileError(f"the subnet gives a {type(logits).__name__}; let it give one tensor, the logits")
    return np.asarray(logits.cpu().numpy(), np.float32)


def onnx_logits(model: onnx.ModelProto, image: Array, threads: int = 1) -> Array:
    """Logits `(1, classes)` of an exported subnet, by ONNX Runtime."""
    return _logits(_session(model, threads), image)


def onnx_classifier(model: onnx.ModelProto) -> Callable[[torch.Tensor], torch.Tensor]:
    """An exported subnet as ONNX Runtime computes it: from images `(N, 3, R, R)` float32 to logits `(N, classes)`."""
    session = _session(model, threads=1)

    def classify(images: torch.Tensor) -> torch.Tensor:
        batch = images.contiguous().numpy()
        return torch.from_numpy(np.concatenate([_logits(session, batch[n : n + 1]) for n in range(len(batch))]))

    return classify


def _session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _logits(session: onnxruntime.InferenceSession, image: Array) -> Array:
    return np.asarray(session.run([OUTPUT_NAME], {INPUT_NAME: image})[0], np.float32)


def relax_logits(mod: tvm.IRModule, image: Array) -> Array:
    """Logits `(1, classes)` of an imported subnet, by TVM's default kernels on this host.

    Takes seconds, nearly all of it code generation; meant for finding the stage at fault, not for every subnet.
    """
    target = tvm.target.Target({"kind": "llvm", "opt-level": 0})
    machine = relax.VirtualMachine(relax.build(mod, target), tvm.cpu())
    return np.asarray(machine["main"](tvm.runtime.tensor(image)).numpy(), np.float32)
