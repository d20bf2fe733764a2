"""TVM without torch.

tvm_ffi 0.1.14 imports torch whenever it is installed, as a work-around for Windows (`tvm_ffi/__init__.py`),
and has no switch against it. That costs seconds and hundreds of megabytes. None in ``sys.modules`` is the import
system's documented way to say that a module is not there.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

_importing = threading.Lock()


def keep_tvm_light() -> None:
    """Leave torch and TVM's compiler out of this process for good."""
    os.environ["TVM_USE_RUNTIME_LIB"] = "1"
    sys.modules["torch"] = None  # type: ignore[assignment]


@contextlib.contextmanager
def torch_absent() -> Iterator[None]:
    """Let ``import torch`` fail inside, as if it were not installed; no effect once torch is loaded.

    It holds for the whole process: threads in here take turns, so that none lets torch in again while another still
    imports TVM, and a thread that imports torch meanwhile fails.
    """
    with _importing:
        if "torch" in sys.modules:
            yield
            return
        sys.modules["torch"] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            del sys.modules["torch"]
