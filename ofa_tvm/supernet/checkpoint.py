"""A supernet's weights on disk, as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from ofa_tvm.errors import InvalidCheckpointError
from ofa_tvm.files import sha256, write_atomic, write_json
from ofa_tvm.supernet.metadata import (
    METADATA_FILE,
    WEIGHTS_FILE,
    SupernetDescription,
    SupernetFolder,
    SupernetMetadata,
)
from ofa_tvm.supernet.network import Supernet

_NOT_KEPT = "num_batches_tracked"  # BN's counter, of no use at a fixed momentum


def load_supernet(folder: SupernetFolder) -> Supernet:
    """The network with its weights, in evaluation mode.

    Raises
    ------
    InvalidCheckpointError
        The weights are missing, damaged, not finite, or do not fit the search space.
    """
    path = folder.weights
    if not path.is_file():
        raise InvalidCheckpointError(f"{path} is missing; copy the supernet again, or train one")
    if (digest := sha256(path)) != folder.metadata.weights_sha256:
        raise InvalidCheckpointError(
            f"{path} is damaged: its SHA-256 is {digest[:12]}..., {METADATA_FILE} says "
            f"{folder.metadata.weights_sha256[:12]}...; copy the supernet again"
        )
    supernet = Supernet(folder.metadata.space)
    try:
        tensors = safetensors.torch.load_file(path)
        missing, unexpected = supernet.load_state_dict(tensors, strict=False)
    except (safetensors.SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidCheckpointError(f"{path} does not fit the search space: {reason}") from error
    if fault := first_unusable(tensors):
        raise InvalidCheckpointError(f"{path}: {fault}; copy the supernet again, or train one")
    missing = [name for name in missing if not name.endswith(_NOT_KEPT)]
    if missing or unexpected:
        raise InvalidCheckpointError(
            f"{path} does not fit the search space: missing {missing[:1]}, unexpected {unexpected[:1]}"
        )
    return supernet.eval()


def first_unusable(tensors: Mapping[str, Tensor]) -> str | None:
    """What is wrong with the first tensor that no network can compute with; None if all are fine."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            return f"{name} holds NaN or infinity"
        if name.endswith("running_var") and (tensor < 0).any():
            return f"{name} holds a negative variance"
    return None


def save_supernet(folder: Path, supernet: Supernet, description: SupernetDescription) -> SupernetFolder:
    """Write weights and metadata below `folder`; the metadata last, so that it never names other weights.

    Raises
    ------
    OutputError
        The folder can't be written.
    """
    tensors = {
        name: tensor.contiguous() for name, tensor in supernet.state_dict().items() if not name.endswith(_NOT_KEPT)
    }
    write_atomic(folder / WEIGHTS_FILE, safetensors.torch.save(tensors))
    metadata = SupernetMetadata(
        format=1,
        search_space=supernet.space.to_dict(),
        weights_sha256=sha256(folder / WEIGHTS_FILE),
        **dict(description),
    )
    write_json(folder / METADATA_FILE, metadata.model_dump(mode="json"))
    return SupernetFolder(folder, metadata)
