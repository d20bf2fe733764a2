"""torch.compile (Inductor) with frozen weights."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from systems.loaded import Loaded, sample_image, torch_subnet

PACKAGE = "torch"
SETTINGS = tuple(
    f"{mode}{layout}{wrapper}"
    for mode in ("default", "max-autotune-no-cudagraphs")
    for layout in ("", ", channels last")
    for wrapper in ("", ", C++ wrapper")
)


def environment(threads: int, folder: Path) -> dict[str, str]:
    return {
        "OMP_NUM_THREADS": str(threads),
        "TORCHINDUCTOR_FREEZING": "1",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # no processes that outlive this one
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
    }


def load(folder: Path, threads: int, setting: str) -> Loaded:
    warnings.simplefilter("ignore")
    import torch

    from ofa_tvm.training.memory_layout import channels_last

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)  # weights are frozen only then
    mode, *extras = setting.split(", ")
    subnet, image = torch_subnet(folder), torch.from_numpy(sample_image(folder))
    if "channels last" in extras:
        subnet, image = channels_last(subnet), image.to(memory_format=torch.channels_last)
    options: dict[str, Any] = {**torch._inductor.list_mode_options(mode), "cpp_wrapper": "C++ wrapper" in extras}
    compiled = torch.compile(subnet, options=options, dynamic=False)
    return Loaded(lambda: compiled(image), lambda: np.array(compiled(image).numpy(), np.float32))
