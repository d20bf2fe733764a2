"""Operators as functions of loops, in the form in which they are searched for and found again."""

from __future__ import annotations

import tvm
from tvm import relax, s_tir, tirx
from tvm.s_tir import meta_schedule as ms

from ofa_tvm.compiler.general_search.default_schedule import blocks


@tvm.transform.module_pass(opt_level=0, name="HideFunctions")
class HideFunctions:
    """Let nobody but ``main`` call the loops of a module, so that they can be fused, changed and dropped."""

    def transform_module(self, mod: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
        """Take their public names away."""
        functions = {
            name: function.without_attr("global_symbol") if isinstance(function, tirx.PrimFunc) else function
            for name, function in mod.functions_items()
        }
        return tvm.IRModule(functions, attrs=mod.attrs, global_infos=mod.global_infos)


# Functions as they are searched for, which is how they are found in the database when a subnet is compiled. Weights
# are marked as free to be laid out anew.
PREPARE = tvm.transform.Sequential(
    [
        HideFunctions(),
        relax.transform.LegalizeOps(),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.AttachAttrLayoutFreeBuffers(),
        relax.transform.DeadCodeElimination(["main"]),
    ],
    name="prepare",
)


def extract_tasks(mod: tvm.IRModule, target: tvm.target.Target) -> list[ms.ExtractedTask]:
    """The distinct functions of a packed module that are worth a search, with their number of uses."""
    with target:
        tasks = ms.relax_integration.extract_tasks(PREPARE(mod), target)
    return [task for task in tasks if is_searched(task.dispatched[0])]


def is_searched(mod: tvm.IRModule) -> bool:
    """Whether a function sums or compares, and all its arguments are float32 tensors of static shape.

    For what computes each element on its own the default schedule is as good as any.
    """
    (function,) = mod.functions.values()
    if not all(_is_plain(parameter) for parameter in function.params):
        return False
    schedule = s_tir.Schedule(function)
    return any(schedule.get(schedule.get_sblock(name)).init is not None for name in blocks(schedule))


def _is_plain(parameter: tirx.Var) -> bool:
    """A float32 tensor of static shape."""
    shape = getattr(parameter, "shape", None)
    return shape is not None and str(parameter.dtype) == "float32" and all(isinstance(s, tirx.IntImm) for s in shape)
