"""ExecuTorch with its XNNPACK back end.

The program does not depend on the number of threads, which is that of ExecuTorch's own pool; it is made once a subnet.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np

from systems.loaded import Loaded, sample_image, torch_subnet

PACKAGE = "executorch"
SETTINGS = ("contiguous", "channels last")


def environment(threads: int, folder: Path) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(threads)}


def load(folder: Path, threads: int, setting: str) -> Loaded:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    import torch
    from executorch.extension.pybindings import portable_lib

    torch.set_num_threads(threads)
    portable_lib._unsafe_reset_threadpool(threads)  # before the program, which keeps the pool it finds
    memory_format = torch.channels_last if setting == "channels last" else torch.contiguous_format
    image = torch.from_numpy(sample_image(folder)).to(memory_format=memory_format)
    program = folder / f"{setting.replace(' ', '_')}.pte"
    if not program.exists():
        program.write_bytes(_program(folder, image))
    module = portable_lib._load_for_executorch(str(program))

    def run() -> torch.Tensor:
        logits: torch.Tensor = module.forward((image,), clone_outputs=False)[0]
        return logits

    return Loaded(run, lambda: np.array(run().numpy(), np.float32))


def _program(folder: Path, image: object) -> bytes:
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    exported = torch.export.export(torch_subnet(folder), (image,), strict=False)
    program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
    return bytes(program.buffer)
