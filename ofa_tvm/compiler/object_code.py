"""From a module of TIR functions to object code."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import tvm
from tvm.tirx import transform

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
        return object_file(tvm.tirx.build(mod, target))


def build_kernels(mod: tvm.IRModule, target: tvm.target.Target) -> tvm.runtime.Module:
    """Machine code of functions as the kernel templates emit them, or as plain loops of calls.

    TVM's pipeline is for whatever schedules make: blocks, threads of GPUs, copies to be planned. A template's function
    is plain loops over vectors, and a fifth of the time to compile it went into passes that find nothing in it. Common
    subexpressions are left to LLVM, which finds them anyway. Buffers stay as the templates allocate them: those of
    accumulators are marked to lie on the stack.

    Raises
    ------
    RuntimeError, ValueError, TypeError
        TVM can't generate code for them.
    """
    passes = tvm.transform.Sequential(
        [
            transform.BindTarget(target.with_host(target)),
            transform.FlattenBuffer(),
            transform.NarrowDataType(32),
            transform.VectorizeLoop(True),
            transform.UnrollLoop(),
            transform.StmtSimplify(),
            transform.RemoveNoOp(),
            transform.AnnotateEntryFunc(),
            transform.SplitHostDevice(),
            transform.MakePackedAPI(),
            transform.LowerTVMBuiltin(),
            transform.LowerIntrin(),
            transform.SkipAssert(),
        ]
    )
    with tvm.transform.PassContext(opt_level=3, config=UNCHECKED):
        return tvm.get_global_func("target.build.llvm")(passes(mod), target)


def object_file(built: tvm.runtime.Module) -> bytes:
    """The object file of what was built for LLVM."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "code.o"
        built.write_to_file(str(path))
        return path.read_bytes()
