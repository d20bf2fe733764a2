"""The passes from an imported Relax module to one that TVM's virtual machine runs, by phase."""

from __future__ import annotations

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

# 3. One function for all of them: `sequence`.

# 4. Operators without a template. Not run where there are none.
LEGALISE = tvm.transform.Sequential([relax.transform.LegalizeOps()], name="legalise")

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


def to_packed_kernels(mod: tvm.IRModule, lanes: int) -> PackedModule:
    """Phases 1 to 4: from an imported module to one of nothing but calls of kernels.

    Parameters
    ----------
    mod
        As `ofa_tvm.lowering.relax_import.import_onnx` gives it.
    lanes
        Channels packed innermost.
    """
    packed = pack(SIMPLIFY(mod), lanes)
    sequenced = sequence(packed.mod)
    if packed.leftovers:
        sequenced = LEGALISE(sequenced)
    return PackedModule(sequenced, packed.workloads, packed.leftovers)
