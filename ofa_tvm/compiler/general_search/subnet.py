"""A whole subnet by MetaSchedule's general search alone: what kernel templates are compared with."""

from __future__ import annotations

from pathlib import Path

import onnx
import tvm
from tvm import relax

from ofa_tvm.compiler.general_search.apply import apply
from ofa_tvm.compiler.general_search.functions import extract_tasks
from ofa_tvm.compiler.general_search.search import SearchReport, search
from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.kernels import last_line
from ofa_tvm.compiler.linking import link_library
from ofa_tvm.compiler.passes.fold_constants import FoldConstants
from ofa_tvm.errors import CompileError
from ofa_tvm.lowering.relax_import import import_onnx
from ofa_tvm.reporting import Say

LIBRARY = "subnet.so"
TRIALS = 1000
"""A function: time ends before."""

# As relax.pipeline.static_shape_tuning_pipeline begins.
SIMPLIFY = tvm.transform.Sequential(
    [
        FoldConstants(),
        relax.transform.DecomposeOpsForInference(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.DeadCodeElimination(["main"]),
    ],
    name="simplify",
)


def search_subnet(
    model: onnx.ModelProto, bench: KernelBench, folder: Path, minutes: float, say: Say = lambda _line: None
) -> tuple[Path, SearchReport]:
    """Search for so long, and compile the subnet with what the folder's database knows then.

    Tasks get their trials by how much the whole subnet is expected to gain from them.

    Parameters
    ----------
    folder
        Of the database, which a further call adds to, and of the library.

    Returns
    -------
    library
        Its function ``main`` takes an image and gives logits, as `ofa_tvm.compiler.library.CompiledSubnet` does.

    Raises
    ------
    CompileError
        A stage of the compiler fails.
    MeasurementError, DeviceError, NumericalMismatchError, InvalidRecordError, OutputError
        As `search`.
    """
    mod, target = SIMPLIFY(import_onnx(model)), bench.toolchain.tvm_target
    report = search(extract_tasks(mod, target), bench, folder, TRIALS, minutes, say)
    try:
        executable = relax.build(apply(mod, target, folder), target, relax_pipeline="default_build")
    except (RuntimeError, ValueError, TypeError) as error:
        raise CompileError(f"TVM cannot build the subnet for {target}: {last_line(error)}") from error
    library = folder / LIBRARY
    link_library(library, {}, bench.toolchain.cross_compiler, executable)
    return library, report
