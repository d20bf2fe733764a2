"""MetaSchedule's builder: candidates compiled in forked workers and linked as one library."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tvm
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.transform import RemoveWeightLayoutRewriteBlock

from ofa_tvm.compiler.kernels import last_line
from ofa_tvm.compiler.linking import link_library
from ofa_tvm.compiler.object_code import UNCHECKED, object_code
from ofa_tvm.compiler.workers import map_in_workers
from ofa_tvm.errors import CompileError

BUILD_LIMIT_S = 15
"""CPU time; a candidate that takes longer to compile has failed: some unroll a loop a hundred thousand times."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A candidate in a library of many, as the path that MetaSchedule hands from builder to runner."""

    library: Path
    symbol: str

    def __str__(self) -> str:
        return f"{self.library}#{self.symbol}"

    @classmethod
    def parse(cls, text: str) -> Artifact:
        """The opposite of ``str``."""
        library, _, symbol = text.rpartition("#")
        return cls(Path(library), symbol)


@dataclass(frozen=True, slots=True, eq=False)
class ScheduledFunction:
    """A scheduled function to be compiled."""

    symbol: str
    mod: tvm.IRModule
    target: tvm.target.Target


@dataclass(frozen=True, slots=True)
class Built:
    """Object code, or why there is none."""

    code: bytes = b""
    error: str | None = None


@derived_object
class FunctionBuilder(ms.builder.PyBuilder):  # type: ignore[misc]
    """Builds a batch of candidates at a time.

    Parameters
    ----------
    folder
        For the libraries; the one of a batch goes when the next is built.
    """

    def __init__(self, folder: Path, cross_compiler: str) -> None:
        super().__init__()
        self._folder = folder
        self._cross_compiler = cross_compiler
        self._batches = 0
        self.error: BaseException | None = None

    def build(self, build_inputs: list[ms.builder.BuilderInput]) -> list[ms.builder.BuilderResult]:
        """One result a candidate: a candidate that can't be built is a result with an error."""
        try:
            return self._build([(given.mod, given.target) for given in build_inputs])
        except BaseException as error:  # to be raised as it is: through TVM it would be another
            self.error = error
            raise

    def _build(self, inputs: Sequence[tuple[tvm.IRModule, tvm.target.Target]]) -> list[ms.builder.BuilderResult]:
        candidates = [
            ScheduledFunction(f"candidate_{number}", mod, target) for number, (mod, target) in enumerate(inputs)
        ]
        outcomes = build_all(candidates)
        built = {c.symbol: outcome.code for c, outcome in zip(candidates, outcomes, strict=True) if not outcome.error}
        (self._folder / f"candidates_{self._batches}.so").unlink(missing_ok=True)
        self._batches += 1
        library = self._folder / f"candidates_{self._batches}.so"
        if built:
            link_library(library, built, self._cross_compiler)
        return [
            ms.builder.BuilderResult(str(Artifact(library, c.symbol)) if not outcome.error else None, outcome.error)
            for c, outcome in zip(candidates, outcomes, strict=True)
        ]


def build_all(candidates: Sequence[ScheduledFunction]) -> list[Built]:
    """Compile candidates, on every CPU; one that kills its worker is left out, and the others are compiled again."""
    fatal: dict[ScheduledFunction, Built] = {}
    while True:
        rest = [candidate for candidate in candidates if candidate not in fatal]
        try:
            built = dict(zip(rest, map_in_workers(_compile, rest, _describe, may_kill=True), strict=True))
        except CompileError as error:
            fatal[_culprit(rest, error)] = Built(error=str(error))
        else:
            return [fatal.get(candidate) or built[candidate] for candidate in candidates]


def _culprit(candidates: Sequence[ScheduledFunction], error: CompileError) -> ScheduledFunction:
    """The candidate that is named as what a worker died of."""
    for candidate in candidates:
        if _describe(candidate) in str(error).split():
            return candidate
    raise error


def _compile(candidate: ScheduledFunction) -> Built:
    signal.setitimer(signal.ITIMER_PROF, BUILD_LIMIT_S)  # kills the worker
    try:
        return Built(_object_code(candidate))
    except Exception as error:  # whatever TVM raises for a schedule that has no code
        return Built(error=last_line(error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _object_code(candidate: ScheduledFunction) -> bytes:
    mod = RemoveWeightLayoutRewriteBlock(skip_tensor_rewrite=True)(candidate.mod)
    (function,) = mod.functions.values()
    mod = tvm.IRModule({candidate.symbol: function.with_attr("global_symbol", candidate.symbol)})
    return object_code(mod, candidate.target, UNCHECKED)


def _describe(candidate: ScheduledFunction) -> str:
    return candidate.symbol
