"""One candidate of the search, built and measured: the numbered steps from architecture to latency."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

from ofa_tvm.compiler.kernel_bench import KernelBench
from ofa_tvm.compiler.tuning import TuningReport, tune
from ofa_tvm.deployment.attempt import Attempt
from ofa_tvm.deployment.latency import bound_ms, measure_steadily
from ofa_tvm.errors import NumericalMismatchError
from ofa_tvm.evolution.front import Candidate
from ofa_tvm.lowering.check import check_outputs, relative_error
from ofa_tvm.lowering.lower import LoweredSubnet, check_import, lower
from ofa_tvm.lowering.outputs import onnx_classifier
from ofa_tvm.measurement.farm import Ran
from ofa_tvm.measurement.job import SubnetJob
from ofa_tvm.measurement.speeds import Speeds
from ofa_tvm.profiling.subnet_history import SubnetHistory
from ofa_tvm.reporting import Reporter
from ofa_tvm.space.mobilenet_v3 import workloads
from ofa_tvm.training.evaluation import Evaluator


class CandidateBuilder:
    """Builds and measures candidates, on whichever device is free.

    Parameters
    ----------
    budget_ms
        Where a measurement has to be exact: it is made again if its drift leaves open whether the budget is met.
    tune_minutes
        Time limit of tuning a candidate: its kernels first, in what is left operators that have no kernel template; 0
        for not at all.
    """

    def __init__(
        self, evaluator: Evaluator, bench: KernelBench, budget_ms: float, tune_minutes: float, reporter: Reporter
    ) -> None:
        self._evaluator = evaluator
        self._bench = bench
        self._budget_ms = budget_ms
        self._tune_minutes = tune_minutes
        self._reporter = reporter
        self._built = 0

    def build(self, candidate: Candidate) -> Attempt:
        """From a candidate's architecture to its measured latency, which is recorded.

        Raises
        ------
        NumericalMismatchError
            A step computes something else than the one before it.
        CompileError, MeasurementError, DeviceError, OutputError
            As the steps raise them.
        """
        architecture, bench, say = candidate.architecture, self._bench, self._reporter.say
        say(
            f"candidate {architecture}: predicted {candidate.predicted_latency_ms:.4g} ms "
            f"and {candidate.predicted_accuracy:.1%}"
        )
        with self._reporter.progress(self._evaluator.batches, "calibration and accuracy") as bar:
            # 1. Extract the subnet, and calibrate its BN statistics.
            subnet = self._evaluator.calibrated(architecture, bar.advance)
            # 2. Lower it: PyTorch and ONNX give the same output. All that follows begins with what is lowered here.
            lowered = lower(subnet, self._evaluator.sample(architecture.resolution).contiguous().numpy())
            # 3. Measure the accuracy of what was exported.
            accuracy = self._evaluator.accuracy(architecture, onnx_classifier(lowered.model), bar.advance)
        # 4. Tune its kernels.
        deadline_s = time.monotonic() + 60 * self._tune_minutes
        tuning = tune(bench, workloads(self._evaluator.space, architecture), self._tune_minutes, self._reporter)
        say(_told(tuning, self._tune_minutes))
        # 5. Compile it with the kernels of now; search operators without a template, if there are any and time is left.
        history = SubnetHistory(self._evaluator.space, bench.store, bench.toolchain.machine)
        compiled = bench.compile(lowered.imported, history.schedules)
        if compiled.leftovers and self._tune_minutes and self._searched(lowered, compiled.leftovers, deadline_s):
            compiled = bench.compile(lowered.imported, history.schedules)
        # 6. Link it. Each library gets a name of its own: a loader gives back an old one of the same name.
        self._built += 1
        job = SubnetJob(bench.folder / f"library_{self._built}.so", lowered.sample_input.shape, compiled.workloads)
        compiled.export(job.library)
        # 7. Run it on a device: the same output again.
        ran = self._run(job, lowered)
        # 8. Measure it, if there are several devices perhaps on another, and record what was measured.
        speeds = Speeds(record.measurement for record in bench.store)
        measurements = measure_steadily(bench, job, self._budget_ms, speeds)
        for measurement in measurements:
            history.record({architecture: measurement})
        say(
            f"measured {measurement.median_ms:.4g} ms (spread {measurement.spread:.1%}, drift {measurement.drift:.1%}) "
            f"and {accuracy.accuracy:.1%}; relative error {relative_error(lowered.sample_output, ran.output):.1e}"
            + f"; measured on {measurement.device}, checked on {ran.device}"
            * (ran.device != measurement.device)
        )
        comparable_ms, known_ms = speeds.comparable_ms(measurement), bound_ms(measurement, speeds)
        return Attempt(candidate, accuracy, tuning, measurement, comparable_ms, known_ms, lowered, job.library)

    def _searched(self, lowered: LoweredSubnet, leftovers: Iterable[str], deadline_s: float) -> bool:
        """Search for schedules of operators, if there is time left."""
        minutes = (deadline_s - time.monotonic()) / 60
        what = f"no kernel template for {', '.join(sorted(set(leftovers)))}"
        if minutes <= 0:
            self._reporter.say(f"{what}: compiled by default, for tuning the kernels took all the time")
            return False
        from ofa_tvm.compiler.general_search.search import search_leftovers  # brings MetaSchedule

        self._reporter.say(f"{what}: searched by MetaSchedule")
        search_leftovers(lowered.imported, self._bench, minutes=minutes, say=self._reporter.say)
        return True

    def _run(self, job: SubnetJob, lowered: LoweredSubnet) -> Ran:
        """The library's output on a device, which is PyTorch's."""
        check = partial(check_outputs, "library", lowered.sample_output)
        try:
            return self._bench.farm.run(job, lowered.sample_input, check)
        except NumericalMismatchError:
            check_import(lowered)  # takes seconds, so it is only asked whether the import or a kernel is at fault
            raise


def _told(tuning: TuningReport, minutes: float) -> str:
    """What to say of tuning."""
    known = f"{tuning.measured} of {tuning.candidates} kernel candidates known"
    if not minutes and tuning.measured < tuning.candidates:
        return f"tuning: off; {known}"
    change = f"sum of the kernels {tuning.before_ms:.4g} ms as modelled, {tuning.after_ms:.4g} ms as tuned"
    return f"tuning: {known}; {change}"
