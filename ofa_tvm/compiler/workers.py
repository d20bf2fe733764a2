"""Work shared among forked processes, which start warm and never outlive the process that forked them."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Any, TypeVar

from ofa_tvm.cpuinfo import usable_cpus
from ofa_tvm.errors import CompileError

Item = TypeVar("Item")
Result = TypeVar("Result")

PR_SET_PDEATHSIG = 1


def map_in_workers(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    describe: Callable[[Item], str],
    may_kill: bool = False,
) -> list[Result]:
    """``[function(item) for item in items]``, on every CPU that this process may use (`usable_cpus`).

    Workers are forked for this call, so they have what is imported and what `function` refers to; only results
    are sent. The workers are gone when it returns, raises or is interrupted; should this process be killed, the
    kernel kills them. For a single item or CPU, and in a worker, it all happens in this process.

    Parameters
    ----------
    describe
        What an item is, for the message if the worker dies of it.
    may_kill
        Items may kill the process that works on them: a single one, or a single CPU, gets a worker, too.

    Raises
    ------
    CompileError
        A worker died, such as by a crash in native code or for want of memory.
    Exception
        What `function` raised first.
    """
    count = min(len(items), usable_cpus())
    if count < (1 if may_kill else 2) or multiprocessing.parent_process() is not None:
        return [function(item) for item in items]
    results: dict[int, Result] = {}
    with _workers(count, function, items) as workers:
        waiting = iter(range(len(items)))
        for worker in workers.values():
            worker.start_next(waiting)
        while len(results) < len(items):
            busy = {pipe: (worker, worker.index) for pipe, worker in workers.items() if worker.index is not None}
            for pipe in connection.wait(list(busy)):
                worker, index = busy[pipe]
                results[index] = worker.result(describe(items[index]))
                worker.start_next(waiting)
    return [results[index] for index in range(len(items))]


@dataclass(slots=True)
class _Worker:
    """A process and this side of the pipe to it."""

    process: ForkProcess
    pipe: Connection
    index: int | None = None

    def start_next(self, waiting: Iterator[int]) -> None:
        """Let it work on the next item, if there is one."""
        self.index = next(waiting, None)
        if self.index is not None:
            with contextlib.suppress(BrokenPipeError):  # it has died: waiting for its result says so
                self.pipe.send(self.index)

    def result(self, description: str) -> Any:
        """What it has sent."""
        try:
            value, error = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise CompileError(
                f"the process that built {description} died ({_cause(self.process.exitcode)}); "
                "free some memory, or report it if it happens again"
            ) from None
        if error is not None:
            raise error
        return value


@contextlib.contextmanager
def _workers(count: int, function: Callable[[Item], Any], items: Sequence[Item]) -> Iterator[dict[Any, _Worker]]:
    """So many workers by their pipe, killed at the end: they hold nothing that would need a clean end."""
    fork = multiprocessing.get_context("fork")
    workers: dict[Any, _Worker] = {}
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="ofa_tvm_workers."))
        stack.callback(_kill, workers)
        for _ in range(count):
            pipe, theirs = fork.Pipe()
            process = fork.Process(target=_work, args=(function, items, theirs, os.getpid(), scratch), daemon=True)
            workers[pipe] = _Worker(process, pipe)
            process.start()
            theirs.close()  # before the next fork: nobody but the worker holds it, so its death closes the pipe
        yield workers


def _kill(workers: dict[Any, _Worker]) -> None:
    for worker in workers.values():
        if worker.process.pid is not None:
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()


def _work(function: Callable[[Item], Any], items: Sequence[Item], pipe: Connection, parent: int, scratch: str) -> None:
    """A worker's life. Its temporary files lie in `scratch`, which the parent removes: it is killed amid its work."""
    tempfile.tempdir = scratch
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which kills its workers
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    while os.getppid() == parent:  # otherwise it died before prctl, and no signal will come
        index = pipe.recv()
        try:
            pipe.send((function(items[index]), None))
        except Exception as error:
            error.add_note(f"In a worker process:\n{traceback.format_exc()}")
            pipe.send((None, error))


def _cause(exit_code: int | None) -> str:
    return signal.Signals(-exit_code).name if exit_code is not None and exit_code < 0 else f"exit code {exit_code}"
