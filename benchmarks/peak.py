"""The machine's peak: what a loop of nothing but fused multiply-adds reaches, measured."""

from __future__ import annotations

import ctypes
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cpp import compile_cpp

_SOURCE = Path(__file__).with_name("peak.cpp")
_OPTIONS = ("-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC")
_SAMPLE_S = 0.001


class Peak:
    """Measures GFLOP/s of float32 on so many threads.

    Raises
    ------
    CompileError
        On creation: there is no compiler, or it fails.
    """

    def __init__(self, threads: int) -> None:
        with tempfile.TemporaryDirectory(prefix="ofa_tvm.") as folder:
            library = Path(folder) / "peak.so"
            compile_cpp(_SOURCE, library, *_OPTIONS)
            self._code = ctypes.CDLL(str(library))
        self._code.run.argtypes = (ctypes.c_long, ctypes.c_float, ctypes.c_float)
        self._code.run.restype = ctypes.c_float
        self._code.operations.restype = ctypes.c_long
        self._threads = threads
        self._rounds = 100_000
        gflops = self.sample_gflops()
        self._rounds = max(1, int(_SAMPLE_S * gflops * 1e9 / threads / self._code.operations()))

    def sample_gflops(self) -> float:
        """Over a millisecond, which falls between the time slices of other processes, after one that is not counted."""
        with ThreadPoolExecutor(self._threads) as pool:  # ctypes lets go of the interpreter's lock
            return sum(pool.map(self._run, range(self._threads)))

    def _run(self, _thread: int) -> float:
        self._code.run(self._rounds, 0.999, 1e-3)
        start_s = time.perf_counter()
        self._code.run(self._rounds, 0.999, 1e-3)
        return float(self._rounds * self._code.operations() / (time.perf_counter() - start_s) / 1e9)
