"""The search: candidates of MetaSchedule's schedule space for each function, measured until time is up."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tvm
from tvm.s_tir import meta_schedule as ms

from ofa_tvm.compiler.general_search.builder import FunctionBuilder
from ofa_tvm.compiler.general_search.database import TuningDatabase
from ofa_tvm.compiler.general_search.functions import extract_tasks
from ofa_tvm.compiler.general_search.intrinsics import register_intrinsics
from ofa_tvm.compiler.general_search.runner import FarmRunner
from ofa_tvm.compiler.general_search.scheduler import NEVER_RAN_S, GradientScheduler
from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.pipeline import simplify_and_pack
from ofa_tvm.cpuinfo import usable_cpus
from ofa_tvm.reporting import Say

BATCH = 32
"""Candidates that are built, measured and learned from at a time."""

POPULATION = 64
"""Schedules that evolve into a batch. TVM's 512 take a minute of CPU time, in which a device can try hundreds."""

LEFTOVER_TRIALS = 128
"""Candidates of a function."""

UNLIMITED = 2**31 - 1


@dataclass(slots=True)
class SearchReport:
    """What a search did.

    Attributes
    ----------
    functions, known
        How many distinct functions were to be searched, and how many of them had been, earlier.
    trials
        Candidates tried now, failed ones included.
    seconds
        It took.
    latencies_ms
        Of the best candidate known for each function, by its name.
    """

    functions: int = 0
    known: int = 0
    trials: int = 0
    seconds: float = 0.0
    latencies_ms: dict[str, float] = field(default_factory=dict)

    @property
    def trials_per_minute(self) -> float:
        """Including the time MetaSchedule takes to think."""
        return 60 * self.trials / self.seconds if self.seconds else 0.0


def search(
    tasks: Sequence[ms.ExtractedTask],
    bench: KernelBench,
    folder: Path,
    trials: int,
    minutes: float = math.inf,
    say: Say = lambda _line: None,
) -> SearchReport:
    """Search the functions of these tasks that have not been searched with so many trials.

    Parameters
    ----------
    folder
        Of the database.
    trials
        A function, at most.
    minutes
        Time limit; the batch under way is finished.
    say
        Told, a line a batch, how it goes.

    Raises
    ------
    CompileError
        The compiler that links the candidates is missing or fails.
    MeasurementError, DeviceError, NumericalMismatchError
        As `Farm.measure_many`. A candidate that fails is a record.
    InvalidRecordError, OutputError
        The database is damaged or can't be written.
    """
    database = TuningDatabase(folder)
    open_tasks = [task for task in tasks if not database.has_ended(task.dispatched[0], trials)]
    report = SearchReport(functions=len(tasks), known=len(tasks) - len(open_tasks))
    if open_tasks and trials > 0 and bench.farm.needs_library:
        _search(open_tasks, bench, database, trials, time.monotonic() + 60 * minutes, report, say)
    for task in tasks:
        if (latency_ms := database.best_ms(task.dispatched[0])) is not None:
            report.latencies_ms[str(task.task_name)] = latency_ms
    return report


def search_leftovers(
    mod: tvm.IRModule,
    bench: KernelBench,
    trials: int = LEFTOVER_TRIALS,
    minutes: float = math.inf,
    say: Say = lambda _line: None,
) -> SearchReport:
    """Search schedules for the operators of a subnet that no template computes; they go to the bench's database.

    Parameters
    ----------
    mod
        As `ofa_tvm.lowering.relax_import.import_onnx` gives it.

    Raises
    ------
    CompileError, MeasurementError, DeviceError, NumericalMismatchError, InvalidRecordError, OutputError
        As `search`.
    """
    toolchain = bench.toolchain
    packed = simplify_and_pack(mod, toolchain.machine.lanes)
    return search(extract_tasks(packed.mod, toolchain.tvm_target), bench, bench.searched, trials, minutes, say)


def _search(
    tasks: Sequence[ms.ExtractedTask],
    bench: KernelBench,
    database: TuningDatabase,
    trials: int,
    deadline_s: float,
    report: SearchReport,
    say: Say,
) -> None:
    start_s = time.monotonic()

    def on_batch(task: str, count: int, best_s: float) -> None:
        report.trials += count
        report.seconds = time.monotonic() - start_s
        best = f"{1e3 * best_s:.4g} ms" if best_s < NEVER_RAN_S else "none works yet"
        say(f"{task}: {best}; {report.trials} trials, {report.trials_per_minute:.0f} a minute")

    weights = [float(task.weight) for task in tasks]
    with tempfile.TemporaryDirectory(prefix="ofa_tvm_candidates.") as scratch:
        builder = FunctionBuilder(Path(scratch), bench.toolchain.cross_compiler)
        runner = FarmRunner(bench.farm, bench.reference, bench.target.measurement)
        scheduler = GradientScheduler(weights, deadline_s, on_batch)
        try:
            scheduler.tune(
                [_context(task, number) for number, task in enumerate(tasks)],
                task_weights=weights,
                max_trials_global=UNLIMITED,  # each task ends by its own number
                max_trials_per_task=trials,
                num_trials_per_iter=min(BATCH, trials),
                builder=builder,
                runner=runner,
                measure_callbacks=[ms.measure_callback.AddToDatabase(), ms.measure_callback.UpdateCostModel()],
                database=database.records,
                cost_model=ms.cost_model.XGBModel(num_tuning_cores=1, tree_method="auto"),
            )
        except BaseException:
            for stage in (builder, runner):
                if stage.error is not None:
                    raise stage.error from None
            raise
    for number, task in enumerate(tasks):
        if scheduler.exhausted(number):
            database.end(task.dispatched[0], trials)


def _context(task: ms.ExtractedTask, number: int) -> ms.TuneContext:
    register_intrinsics()
    return ms.TuneContext(
        mod=task.dispatched[0],
        target=task.target,
        space_generator="post-order-apply",
        search_strategy=ms.search_strategy.EvolutionarySearch(population_size=POPULATION, init_min_unmeasured=BATCH),
        task_name=task.task_name,
        rand_state=1 + number,
        num_threads=usable_cpus(),
    ).clone()
