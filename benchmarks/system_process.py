"""A system that runs a subnet in a process of its own."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import math
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from systems import TITLES

LOAD_S, SAMPLE_S = 1200.0, 60.0
SAMPLE_MS, MIN_RUNS = 10.0, 4

_OURS_ALONE = ("OPENBLAS_NUM_THREADS",)  # what our commands set for themselves


class SystemFailedError(Exception):
    """A system can't load or run a subnet; the message is one line."""


class SystemProcess:
    """One system with one subnet, one setting and one number of threads; a context that ends the process.

    Parameters
    ----------
    folder
        The subnet's files (`systems.loaded`).

    Attributes
    ----------
    relative_error
        Of its output against PyTorch's.

    Raises
    ------
    SystemFailedError
        The system can't load the subnet, or computes something else.
    """

    def __init__(self, system: str, setting: str, folder: Path, threads: int) -> None:
        self.system, self.setting = system, setting
        environment = importlib.import_module(f"systems.{system}").environment(threads, folder)
        worker = Path(__file__).with_name("system_worker.py")
        self._process = subprocess.Popen(
            [sys.executable, str(worker), system, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if name not in _OURS_ALONE} | environment,
            start_new_session=True,  # to end it with all it has started
        )
        try:
            answer = self._ask({"load": str(folder), "setting": setting}, LOAD_S)
            self.relative_error: float = answer["relative_error"]
            self._runs = 1
            self._runs = max(MIN_RUNS, math.ceil(SAMPLE_MS / self.sample_ms()))
        except BaseException:
            self._end()
            raise

    def sample_ms(self) -> float:
        """What a run takes: the mean of several after as many that are not counted.

        Raises
        ------
        SystemFailedError
            The process ended, or does not answer.
        """
        return float(self._ask({"runs": self._runs}, SAMPLE_S)["ms"])

    def __enter__(self) -> SystemProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def _ask(self, request: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        """Its answer. Until it is asked again it is stopped: its threads would spin while others have their turn."""
        self._send(signal.SIGCONT)
        try:
            return self._answer(request, limit_s)
        finally:
            self._send(signal.SIGSTOP)

    def _answer(self, request: Mapping[str, Any], limit_s: float) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.write((json.dumps(request) + "\n").encode())
            stdin.flush()
        answered = select.select([stdout], [], [], limit_s)[0]
        if not answered:
            raise SystemFailedError(f"{TITLES[self.system]} does not answer within {limit_s:.0f} s")
        line = stdout.readline()
        if not line:
            raise SystemFailedError(f"{TITLES[self.system]} ended with code {self._process.wait(timeout=SAMPLE_S)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise SystemFailedError(f"{TITLES[self.system]}: {' '.join(answer['error'].split())[:300]}")
        return answer

    def _send(self, number: signal.Signals) -> None:
        """A signal to the system with all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _end(self) -> None:
        self._send(signal.SIGKILL)
        self._process.communicate()


def installed(systems: tuple[str, ...]) -> dict[str, str]:
    """Versions of those that are installed, by their names."""
    found = {}
    for system in systems:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[system] = importlib.metadata.version(importlib.import_module(f"systems.{system}").PACKAGE)
    return found
