"""One system in a process of its own, driven through its standard input: ``python system_worker.py SYSTEM THREADS``.

Each line is a request, each answer a line: ``{"load": folder, "setting": ...}``, ``{"runs": n}``.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from systems.loaded import LOGITS, Loaded

from ofa_tvm.lowering.check import check_outputs


def serve(system: str, threads: int) -> None:
    """Answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print
    loaded: Loaded | None = None
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any]
        try:
            if "load" in request:
                folder = Path(request["load"])
                loaded = importlib.import_module(f"systems.{system}").load(folder, threads, request["setting"])
                loaded.run()
                error = check_outputs(system, np.load(folder / LOGITS), loaded.logits())
                answer = {"relative_error": error}
            else:
                assert loaded is not None
                answer = {"ms": sample_ms(loaded.run, request["runs"])}
        except Exception as error:  # of another system: any kind may come, and all end the same way
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


def sample_ms(run: Callable[[], object], runs: int) -> float:
    """What one of `runs` runs in a row takes, after as many that bring what it needs back into the caches."""
    for _ in range(runs):
        run()
    start_s = time.perf_counter()
    for _ in range(runs):
        run()
    return (time.perf_counter() - start_s) * 1e3 / runs


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
