"""MetaSchedule's JSON database of tuning records, and which searches in it came to their end."""

from __future__ import annotations

import tempfile
from pathlib import Path

import tvm
import tvm_ffi
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from tvm.s_tir import meta_schedule as ms

from ofa_tvm.compiler.kernels import last_line
from ofa_tvm.errors import InvalidRecordError
from ofa_tvm.files import NotANumberError, append_json_lines, output_errors, parse_json, read_json_lines
from ofa_tvm.measurement.plausible import MAX_LATENCY_MS
from ofa_tvm.schema_errors import first_fault

FAILED_S = 1e10
"""MetaSchedule's latency of a candidate that failed."""

WORKLOADS, RECORDS, ENDED = "database_workload.json", "database_tuning_record.json", "searches.jsonl"


class EndedSearch(BaseModel):
    """A search that was not interrupted.

    Attributes
    ----------
    workload
        Structural hash of the function.
    trials
        How many were asked for. Its space may have held fewer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    workload: str = Field(min_length=1)
    trials: int = Field(ge=0)


class TuningDatabase:
    """The database in a folder, to search; the folder is created.

    Use it on a bench: benches for one target take turns, and what an interruption left of a line is cut off. To only
    read, `found_schedules`.

    Attributes
    ----------
    records
        MetaSchedule's; a record is on the disk when the commit returns. A candidate that failed has one of `FAILED_S`.

    Raises
    ------
    InvalidRecordError
        A file is damaged before its last line, or has a latency that can't be.
    OutputError
        The folder can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with output_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name in (WORKLOADS, RECORDS):
                _remove_torn_line(folder / name)
        self.records = _read(folder, folder)
        self._trials = _ended_searches(folder / ENDED)

    def has_ended(self, mod: tvm.IRModule, trials: int) -> bool:
        """Whether a search of at least so many trials came to its end."""
        return trials <= self._trials.get(_hash(mod), -1)

    def end(self, mod: tvm.IRModule, trials: int) -> None:
        """Note that a search came to its end.

        Raises
        ------
        OutputError
            The file can't be written.
        """
        search = EndedSearch(workload=_hash(mod), trials=trials)
        append_json_lines(self._folder / ENDED, [search.model_dump()])
        self._trials[search.workload] = max(trials, self._trials.get(search.workload, -1))

    def best_ms(self, mod: tvm.IRModule) -> float | None:
        """Latency of the best candidate known, None if there is none."""
        if not self.records.has_workload(mod):
            return None
        best = list(self.records.get_top_k(self.records.commit_workload(mod), 1))
        return 1e3 * sum(float(s) for s in best[0].run_secs) / len(best[0].run_secs) if best else None


def found_schedules(folder: Path) -> ms.database.Database:
    """What is in the folder's database now; nothing is written there, for a search may be doing so.

    Raises
    ------
    InvalidRecordError
        A file is damaged before its last line.
    """
    with tempfile.TemporaryDirectory(prefix="ofa_tvm_schedules.") as name:
        for file in (WORKLOADS, RECORDS):
            content = (folder / file).read_bytes() if (folder / file).exists() else b""
            (Path(name) / file).write_bytes(content[: content.rfind(b"\n") + 1])
        return _read(Path(name), folder)


def _read(copy: Path, folder: Path) -> ms.database.Database:
    for number, line in enumerate(_lines(copy / RECORDS), start=1):
        if fault := _fault(line):
            raise InvalidRecordError(f"{folder / RECORDS}, line {number}: {fault}; remove the line")
    try:
        return ms.database.JSONDatabase(work_dir=str(copy))
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise InvalidRecordError(f"{folder}: {last_line(error)}; remove the folder to search anew") from error


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []


def _fault(line: bytes) -> str | None:
    """What is wrong with the latency in a tuning record; None if nothing is, or if TVM is to say it."""
    try:
        _, (_, runs_s, *_) = parse_json(line)
        runs_s = [float(seconds) for seconds in runs_s]
    except NotANumberError as error:
        return str(error)
    except (ValueError, TypeError):
        return None
    odd = [s for s in runs_s if s != FAILED_S and not 0 < s <= MAX_LATENCY_MS / 1e3]
    if odd or not runs_s:
        return f"ran for {odd[0]!r} s, which is no time between 0 and an hour" if odd else "has no latency"
    return None


def _hash(mod: tvm.IRModule) -> str:
    return f"{tvm_ffi.structural_hash(mod) & (1 << 64) - 1:016x}"


def _ended_searches(path: Path) -> dict[str, int]:
    """Trials by workload."""
    trials: dict[str, int] = {}
    for line, content in enumerate(read_json_lines(path), start=1):
        try:
            search = EndedSearch.model_validate(content)
        except ValidationError as error:
            raise InvalidRecordError(f"{path}, line {line}: {first_fault(error)}; remove the line") from error
        trials[search.workload] = max(search.trials, trials.get(search.workload, -1))
    return trials


def _remove_torn_line(path: Path) -> None:
    """What an interruption left of the last line."""
    if not path.exists():
        return
    with path.open("r+b") as stream:
        content = stream.read()
        if content and not content.endswith(b"\n"):
            stream.truncate(content.rfind(b"\n") + 1)
