"""The passes from an imported Relax module to one that TVM's virtual machine runs, by phase."""

from __future__ import annotations

from pathlib import Path

import tvm
from tvm import relax

from ofa_tvm.compiler.passes.fold_constants import FoldConstants
from ofa_tvm.compiler.passes.pack import PackedModule, pack
from ofa_tvm.compiler.passes.restore_operators import RestoreOperators
from ofa_tvm.compiler.passes.sequence import sequence

# 1. Say in operators what the importer said in loops.
SIMPLIFY = tvm.transform.Sequential(
    [
        FoldConstants(),
        relax.transform.CanonicalizeBindings(),
        RestoreOperators(),
        relax.transform.DeadCodeElimination(["main"]),
    ],
    name="simplify",
)

# 2. Fused kernels on packed tensors: `pack`.

# 3. Operators without a template, where there are any: `apply`, which MetaSchedule's search has records for or not.

# 4. One function that calls them all: `sequence`.

# 5. Memory planned at compile time, then the virtual machine's instructions. TVM's default build pipeline without
# what concerns operators, sampling, GPUs and reshapes (that pass expects kernels which are not lowered yet).
LOWER = tvm.transform.Sequential(
    [
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.CallTIRRewrite(),
        relax.transform.StaticPlanBlockMemory(),
        relax.transform.LowerAllocTensor(),
        relax.transform.KillAfterLastUse(),
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(),
        relax.transform.AttachGlobalSymbol(),
    ],
    name="lower",
)


def simplify_and_pack(mod: tvm.IRModule, lanes: int) -> PackedModule:
    """Phases 1 and 2: from an imported module to calls of kernels, and operators where there is no template.

    Parameters
    ----------
    mod
        As `ofa_tvm.lowering.relax_import.import_onnx` gives it.
    lanes
        Channels packed innermost.
    """
    return pack(SIMPLIFY(mod), lanes)


def to_packed_kernels(
    mod: tvm.IRModule, lanes: int, target: tvm.target.Target, searched: Path | None = None
) -> PackedModule:
    """Phases 1 to 4: from an imported module to one of nothing but calls of kernels.

    Parameters
    ----------
    mod, lanes
        As of `simplify_and_pack`.
    target
        What operators without a template are scheduled for.
    searched
        Folder of what MetaSchedule's search has found for them; None where there was none.
    """
    packed = simplify_and_pack(mod, lanes)
    calls = packed.mod
    if packed.leftovers:
        from ofa_tvm.compiler.general_search.apply import apply  # brings MetaSchedule, which nothing else needs

        calls = apply(calls, target, searched)
    return PackedModule(sequence(calls), packed.workloads, packed.leftovers)
