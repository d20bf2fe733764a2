"""TVM's runtime without torch.

tvm_ffi 0.1.14 imports torch whenever it is installed, as a work-around for Windows (`tvm_ffi/__init__.py`),
and has no switch against it. That costs seconds and hundreds of megabytes, and a bundle must not depend on it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ofa_tvm.errors import InvalidBundleError

Float32Array = npt.NDArray[np.float32]


def load_main(library: Path, threads: int = 1) -> Callable[[Float32Array], Float32Array]:
    """The function ``main`` of a Relax VM library with its parameters inside.

    Parameters
    ----------
    threads
        That its kernels share their work among, unless the environment says ``TVM_NUM_THREADS``: TVM would take half
        of what some hosts have.

    Raises
    ------
    InvalidBundleError
        The file is no such library, or TVM's runtime here is not the one that it was built with.
    """
    if threads > 1:
        os.environ.setdefault("TVM_NUM_THREADS", str(threads))
    with _torch_absent():
        import tvm.runtime
        from tvm.runtime.vm import VirtualMachine
    try:
        main = VirtualMachine(tvm.runtime.load_module(str(library.resolve())), tvm.runtime.cpu())["main"]
    except (RuntimeError, ValueError, AttributeError, OSError) as error:
        raise InvalidBundleError(
            f"{library} cannot be loaded as a Relax VM library: {_last_line(error)}; "
            "install the versions that the manifest names, or write the bundle again"
        ) from error

    def call(array: Float32Array) -> Float32Array:
        try:
            output: Any = main(tvm.runtime.tensor(np.ascontiguousarray(array, np.float32)))
            return np.asarray(output.numpy(), np.float32)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise InvalidBundleError(f"{library} cannot be run: {_last_line(error)}; write the bundle again") from error

    return call


@contextlib.contextmanager
def _torch_absent() -> Iterator[None]:
    """Let ``import torch`` fail inside, as if it were not installed; no effect once torch is loaded.

    None in ``sys.modules`` is the import system's documented way to say that a module is not there.
    """
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["torch"]


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
