"""Where the commands keep what they measure and derive: one folder a target."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofa_tvm.errors import InvalidRecordError, UsageError
from ofa_tvm.files import output_errors, write_json
from ofa_tvm.names import check_plain

DEFAULT_ROOT = Path("runs")

_BESIDE_TARGETS = ("supernets",)
_BESIDE_SUPERNETS = ("records.jsonl", "records.lock", "kernels", "metaschedule")


@dataclass(frozen=True, slots=True)
class Workspace:
    """The files of one target and one supernet; the name of the supernet may be empty where only the target counts.

    ::

        <root>/<target>/records.jsonl                   measured kernels and subnets: the truth
        <root>/<target>/records.lock                    of the command that measures for them
        <root>/<target>/kernels/                        their object code, compiled again where it is missing
        <root>/<target>/metaschedule/<settings>/        what its search found for operators without a kernel template
        <root>/<target>/<supernet>/latency_predictor/   derived from them by profile
        <root>/<target>/<supernet>/<command>.json       options of the latest run of a command
        <root>/<target>/<supernet>/deployed-<budget>ms/ bundles

    Accuracy depends on no target: `supernet.accuracy_files` says what is in ``<root>/supernets/``.

    Raises
    ------
    UsageError
        On creation: a name is a path, and would lead somewhere else; or the name of something that lies there.
    """

    root: Path
    target: str
    supernet: str

    def __post_init__(self) -> None:
        check_plain(self.target, "target")
        _check_free(self.target, "target", _BESIDE_TARGETS)
        if self.supernet:
            check_plain(self.supernet, "supernet")
            _check_free(self.supernet, "supernet", _BESIDE_SUPERNETS)

    @property
    def records(self) -> Path:
        """JSON Lines of all measurements on the target; kernels serve every supernet."""
        return self.root / self.target / "records.jsonl"

    @property
    def latency_predictor(self) -> Path:
        """Folder of the latency predictor."""
        return self._folder / "latency_predictor"

    def check_profiled(self, options: str) -> None:
        """Make sure that the target was profiled.

        Parameters
        ----------
        options
            What to give profile, such as ``--target rasp4``.

        Raises
        ------
        InvalidRecordError
            There is no latency predictor; the message has the command that makes one.
        """
        if not self.latency_predictor.exists():
            raise InvalidRecordError(
                f"no latency predictor for {self.target} in {self.latency_predictor}; "
                f"run python -m ofa_tvm.profile {options} first"
            )

    def check_writable(self) -> None:
        """Make sure that records and results can be written, before the long work that makes them.

        Raises
        ------
        OutputError
            They can't.
        """
        for folder in (self.records.parent, self._folder):
            existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
            with output_errors(folder), tempfile.TemporaryFile(dir=existing):
                pass

    def bundle(self, budget_ms: float) -> Path:
        """Default folder of the bundle for a latency budget."""
        return self._folder / f"deployed-{budget_ms:g}ms"

    def write_options(self, command: str, options: Mapping[str, Any]) -> None:
        """Keep the resolved options of a run beside its results.

        Raises
        ------
        OutputError
            The folder can't be written.
        """
        write_json(self._folder / f"{command}.json", {name: _plain(value) for name, value in options.items()})

    @property
    def _folder(self) -> Path:
        return self.root / self.target / self.supernet


def _check_free(name: str, what: str, taken: tuple[str, ...]) -> None:
    if name in taken:
        raise UsageError(f"{what} {name!r}: the folder of that name holds something else; give the {what} another name")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
