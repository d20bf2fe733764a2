"""A subnet as a system has loaded it, and the files that all systems load it from."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ofa_tvm.supernet.subnet import Subnet

MODEL, WEIGHTS, IMAGE, LOGITS, ARCHITECTURE = (
    "subnet.onnx",
    "subnet.safetensors",
    "image.npy",
    "logits.npy",
    "architecture.json",
)
LIBRARY = "library.so"


@dataclass(frozen=True)
class Loaded:
    """A subnet, ready to run.

    Attributes
    ----------
    run
        Computes the logits of the sample image once; what it takes is what is compared.
    logits
        Float32 (1, classes) of the last run.
    """

    run: Callable[[], object]
    logits: Callable[[], npt.NDArray[np.float32]]


def sample_image(folder: Path) -> npt.NDArray[np.float32]:
    """Float32 (1, 3, R, R)."""
    image: npt.NDArray[np.float32] = np.load(folder / IMAGE)
    return image


def torch_subnet(folder: Path) -> Subnet:
    """The module that the ONNX graph was exported from, in evaluation mode."""
    import safetensors.torch

    from ofa_tvm.space.architecture import Architecture
    from ofa_tvm.space.search_space import SearchSpace
    from ofa_tvm.supernet.network import Supernet

    content: dict[str, Any] = json.loads((folder / ARCHITECTURE).read_text())
    space = SearchSpace.from_dict(content["space"])
    subnet = Supernet(space).extract(Architecture.from_dict(content["architecture"]))
    subnet.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    return subnet.eval()
