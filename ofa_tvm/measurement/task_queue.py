"""The jobs that no device has yet, shared out so that all devices finish together."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from ofa_tvm.measurement.job import Job
from ofa_tvm.measurement.task import Task

CHUNK_JOBS = 16
LEAST_JOBS = 8
"""Chunks don't get smaller towards the end: the reference kernel, twice a chunk, would take most of the time."""


class TaskQueue:
    """Tasks in the order of their jobs; those that failed somewhere come first, to learn whose fault it was."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._tasks = deque(Task(index, job) for index, job in enumerate(jobs))
        self._jobs = len(jobs)

    def __len__(self) -> int:
        return len(self._tasks)

    def take(self, devices: int, is_for_others: Callable[[Task], bool]) -> list[Task]:
        """The next chunk for one of so many devices: smaller towards the end if there are others to finish with."""
        least = min(LEAST_JOBS, math.ceil(self._jobs / devices))  # no fewer, but something for everybody
        size = CHUNK_JOBS if devices < 2 else min(CHUNK_JOBS, max(least, len(self._tasks) // (2 * devices)))
        chunk: list[Task] = []
        passed: list[Task] = []
        while self._tasks and len(chunk) < size:
            task = self._tasks.popleft()
            (passed if is_for_others(task) else chunk).append(task)
        self._tasks.extendleft(reversed(passed))
        return chunk

    def put_back(self, tasks: Iterable[Task]) -> None:
        """Not measured after all: next in turn."""
        self._tasks.extendleft(reversed(list(tasks)))

    def retry(self, task: Task, elsewhere: bool) -> None:
        """Failed: at once on another device, or else after all others."""
        (self._tasks.appendleft if elsewhere else self._tasks.append)(task)
