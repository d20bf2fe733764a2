"""A library of ours, compiled for this number of threads; a setting is a library's name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from systems.loaded import LIBRARY, Loaded, sample_image

PACKAGE = "apache-tvm"
SETTINGS = (LIBRARY,)


def environment(threads: int, folder: Path) -> dict[str, str]:
    return {"TVM_NUM_THREADS": str(threads)}


def load(folder: Path, threads: int, setting: str) -> Loaded:
    import tvm
    from tvm.runtime.vm import VirtualMachine

    main = VirtualMachine(tvm.runtime.load_module(str(folder / setting)), tvm.cpu())["main"]
    image = tvm.runtime.tensor(sample_image(folder), tvm.cpu())
    return Loaded(lambda: main(image), lambda: np.asarray(main(image).numpy()))
