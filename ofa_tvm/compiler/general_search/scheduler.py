"""MetaSchedule's gradient task scheduler, with a time limit and without results that are still to be fetched.

TVM's own sends every task through builder and runner once before it takes in the first result, so that a search of
many tasks that is interrupted early has nothing in its database.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.task_scheduler import PyTaskScheduler

ALPHA, WINDOW = 0.2, 3
"""As in TVM: the weight of what a task has gained lately in what it is expected to gain, and the batches of lately."""

NEVER_RAN_S = 1e9

MAX_FAILED_BATCHES = 2
"""A task of which so many batches failed as a whole comes after all others."""

OnBatch = Callable[[str, int, float], None]
"""Called with a task's name, its number of new trials, and its best latency in seconds."""


@derived_object
class GradientScheduler(PyTaskScheduler):  # type: ignore[misc]
    """Gives the next batch of trials to the task that is expected to gain most by it, weighted by its uses.

    Parameters
    ----------
    deadline_s
        On `time.monotonic`: no batch is begun after it.
    """

    def __init__(self, weights: list[float], deadline_s: float, on_batch: OnBatch) -> None:
        super().__init__()
        self._weights = weights
        self._deadline_s = deadline_s
        self._on_batch = on_batch
        self._best_s: list[list[float]] = [[] for _ in weights]
        self._running: int | None = None
        self._open = set(range(len(weights)))

    def exhausted(self, task: int) -> bool:
        """Whether a task has had all its trials, or its space has no further candidate."""
        return task not in self._open

    def next_task_id(self) -> int:
        """The task of the next batch, -1 to end."""
        scheduler: Any = self._outer()
        if self._running is not None and not scheduler.tasks_[self._running].is_terminated:
            self._join(self._running)
        self._open = {task for task, record in enumerate(scheduler.tasks_) if not record.is_terminated}
        out_of_time = time.monotonic() > self._deadline_s
        self._running = None if out_of_time else max(self._open, key=self._expected_gain_s, default=None)
        return -1 if self._running is None else self._running

    def _join(self, task: int) -> None:
        """Take in the results of a batch."""
        scheduler: Any = self._outer()
        results = ms.task_scheduler.TaskScheduler.join_running_task(scheduler, task)
        latencies_s = [min(float(s) for s in result.run_secs) for result in results if result.run_secs]
        previous_s = self._best_s[task][-1] if self._best_s[task] else NEVER_RAN_S
        self._best_s[task].append(min([previous_s, *latencies_s]))
        self._on_batch(str(scheduler.tasks_[task].ctx.task_name), len(results), self._best_s[task][-1])

    def _expected_gain_s(self, task: int) -> float:
        """Seconds of a run of the whole network that one more batch is expected to save."""
        best_s = self._best_s[task]
        if not best_s:
            return NEVER_RAN_S
        if best_s[-1] >= NEVER_RAN_S:
            return NEVER_RAN_S if len(best_s) < MAX_FAILED_BATCHES else 0.0
        lately_s = (best_s[-1 - WINDOW] - best_s[-1]) / WINDOW if len(best_s) > WINDOW else 0.0
        return self._weights[task] * (ALPHA * lately_s + (1 - ALPHA) * best_s[-1] / len(best_s))
