"""TVM's runtime without torch, which a bundle must not depend on."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ofa_tvm.errors import InvalidBundleError
from ofa_tvm.light_tvm import torch_absent
from ofa_tvm.refusals import may_execute

Float32Array = npt.NDArray[np.float32]

THREADS_VARIABLE = "TVM_NUM_THREADS"

log = logging.getLogger(__name__)


def load_main(library: Path, threads: int = 1) -> Callable[[Float32Array], Float32Array]:
    """The function ``main`` of a Relax VM library with its parameters inside; threads that call it take turns.

    Parameters
    ----------
    threads
        That its kernels share their work among, unless the environment says ``TVM_NUM_THREADS``: TVM would take half
        of what some hosts have. TVM reads the variable when it starts its threads, so the first library's number is
        the whole process's; a library that is given another one is a warning.

    Raises
    ------
    InvalidBundleError
        The file is no such library, or TVM's runtime here is not the one that it was built with.
    """
    if threads > 1:
        _set_threads(library, threads)
    with torch_absent():
        import tvm.runtime
        from tvm.runtime.vm import VirtualMachine
    try:
        main = VirtualMachine(tvm.runtime.load_module(str(library.resolve())), tvm.runtime.cpu())["main"]
    except (RuntimeError, ValueError, AttributeError, OSError) as error:
        raise InvalidBundleError(
            f"{library} cannot be loaded as a Relax VM library: {_last_line(error)}; {_advice(library)}"
        ) from error

    turn = threading.Lock()  # the virtual machine keeps its frames in itself, and Python lets go of its own lock

    def call(array: Float32Array) -> Float32Array:
        try:
            with turn:
                output: Any = main(tvm.runtime.tensor(np.ascontiguousarray(array, np.float32)))
            return np.asarray(output.numpy(), np.float32)
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise InvalidBundleError(f"{library} cannot be run: {_last_line(error)}; write the bundle again") from error

    return call


def _set_threads(library: Path, threads: int) -> None:
    """Let TVM start so many threads, or say that the process has settled on another number."""
    given = os.environ.setdefault(THREADS_VARIABLE, str(threads))
    if given != str(threads):
        log.warning(
            "%s was measured on %d threads, but %s is %s here, by you or by a bundle loaded before; "
            "run it in a process of its own",
            library,
            threads,
            THREADS_VARIABLE,
            given,
        )


def _advice(library: Path) -> str:
    if library.exists() and not may_execute(library.parent):
        return "it lies on a file system that is mounted noexec: copy the bundle to another one"
    return "install the versions that the manifest names, or write the bundle again"


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
