"""From a module of TIR functions to object code."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import tvm

# Without checks of every argument's type, shape and strides, which double a small kernel's code and its time to
# build: the program that calls the kernels is typed, and checks its own input.
UNCHECKED = {"tirx.disable_assert": True}


def object_code(mod: tvm.IRModule, target: tvm.target.Target, options: Mapping[str, bool] | None = None) -> bytes:
    """An object file of a module's functions.

    Parameters
    ----------
    options
        Of TVM's pass context.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        TVM can't generate code for them.
    """
    with tvm.transform.PassContext(opt_level=3, config=dict(options or {})):
        built = tvm.tirx.build(mod, target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "code.o"
        built.write_to_file(str(path))
        return path.read_bytes()
