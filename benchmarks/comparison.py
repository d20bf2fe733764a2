"""Our library and ONNX Runtime on one subnet, taking turns."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnxruntime
import tvm
from subjects import Subject

from ofa_tvm.lowering.check import check_outputs
from ofa_tvm.lowering.onnx_export import INPUT_NAME, OUTPUT_NAME

SAMPLE_MS = 1.0
WARM_UP_RUNS = 5

Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Median and fastest latencies in milliseconds, and the relative error of our output against ONNX Runtime's."""

    ours_ms: float
    ours_fastest_ms: float
    onnxruntime_ms: float
    onnxruntime_fastest_ms: float
    relative_error: float


def compare(subject: Subject, repeats: int, threads: int) -> Comparison:
    """Check that the outputs agree, then time both.

    Both get their input as a tensor of their own and leave their output in one, so neither copies.

    Raises
    ------
    NumericalMismatchError
        The outputs differ.
    """
    session = _session(subject, threads)
    binding = session.io_binding()
    binding.bind_ortvalue_input(INPUT_NAME, onnxruntime.OrtValue.ortvalue_from_numpy(subject.image))
    binding.bind_output(OUTPUT_NAME, "cpu")
    image = tvm.runtime.tensor(subject.image, tvm.cpu())
    session.run_with_iobinding(binding)
    error = check_outputs(
        "library", np.asarray(binding.copy_outputs_to_cpu()[0]), np.asarray(subject.main(image).numpy())
    )
    ours, theirs = take_turns(lambda: subject.main(image), lambda: session.run_with_iobinding(binding), repeats)
    return Comparison(statistics.median(ours), min(ours), statistics.median(theirs), min(theirs), error)


def take_turns(first: Run, second: Run, repeats: int) -> tuple[list[float], list[float]]:
    """Samples in milliseconds of both, one of each in turn, so that what disturbs one disturbs the other too.

    A sample is the mean of as many runs as last a millisecond.
    """
    runs = (first, second)
    counts = [max(1, math.ceil(SAMPLE_MS / _sample_ms(run, WARM_UP_RUNS))) for run in runs]
    samples: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for run, count, taken in zip(runs, counts, samples, strict=True):
            taken.append(_sample_ms(run, count))
    return samples


def _sample_ms(run: Run, count: int) -> float:
    start_s = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start_s) * 1e3 / count


def _session(subject: Subject, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # All graph optimisations are on by default.
    return onnxruntime.InferenceSession(subject.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
