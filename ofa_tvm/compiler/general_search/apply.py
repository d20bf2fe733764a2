"""Operators without a kernel template, compiled as the search has found, else by a default schedule."""

from __future__ import annotations

from pathlib import Path

import tvm
from tvm import relax

from ofa_tvm.compiler.general_search.database import found_schedules
from ofa_tvm.compiler.general_search.default_schedule import DefaultSchedule
from ofa_tvm.compiler.general_search.functions import PREPARE

# What a found schedule does to its weights becomes a function of its own, which is run at once.
LAY_OUT_WEIGHTS = tvm.transform.Sequential(
    [
        relax.transform.SplitLayoutRewritePreproc(),
        relax.transform.FoldConstant(),
        relax.transform.CanonicalizeBindings(),
        relax.transform.DeadCodeElimination(["main"]),
    ],
    name="lay_out_weights",
)

SCHEDULE_THE_REST = tvm.transform.Sequential([DefaultSchedule()], name="schedule_the_rest")


def apply(mod: tvm.IRModule, target: tvm.target.Target, folder: Path | None) -> tvm.IRModule:
    """Schedule the operators of a packed module: as found in the database, else by default.

    Parameters
    ----------
    mod
        As `ofa_tvm.compiler.passes.pack.pack` gives it.
    folder
        Of the database; None where there is none.

    Returns
    -------
    mod
        Calls of kernels and of scheduled functions, without operators.

    Raises
    ------
    InvalidRecordError
        As `found_schedules`.
    """
    with target:
        mod = PREPARE(mod)
        if folder is not None and folder.exists():
            with found_schedules(folder):
                mod = LAY_OUT_WEIGHTS(relax.transform.MetaScheduleApplyDatabase()(mod))
        return SCHEDULE_THE_REST(mod)
