"""The jobs that no device has yet, shared out so that all devices finish together."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from ofa_tvm.measurement.chunk import Task
from ofa_tvm.measurement.job import Job

CHUNK_JOBS = 16


class TaskQueue:
    """Tasks in the order of their jobs; those that failed somewhere come first, to learn whose fault it was."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._tasks = deque(Task(index, job) for index, job in enumerate(jobs))

    def __len__(self) -> int:
        return len(self._tasks)

    def take(self, device: str, others: Iterable[str]) -> list[Task]:
        """The next chunk for a device: smaller towards the end if there are other devices to finish with.

        A task that failed on this device is left to the others, unless it failed on all of them.
        """
        others = set(others)
        size = CHUNK_JOBS if not others else min(CHUNK_JOBS, max(1, len(self._tasks) // (2 * (len(others) + 1))))
        chunk: list[Task] = []
        passed: list[Task] = []
        while self._tasks and len(chunk) < size:
            task = self._tasks.popleft()
            left_to_others = task.failed_on(device) and any(not task.failed_on(other) for other in others)
            (passed if left_to_others else chunk).append(task)
        self._tasks.extendleft(reversed(passed))
        return chunk

    def put_back(self, tasks: Iterable[Task]) -> None:
        """Not measured after all: next in turn."""
        self._tasks.extendleft(reversed(list(tasks)))

    def retry(self, task: Task, elsewhere: bool) -> None:
        """Failed once: at once on another device, or else after all others."""
        (self._tasks.appendleft if elsewhere else self._tasks.append)(task)
