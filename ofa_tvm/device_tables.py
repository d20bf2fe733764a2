"""What ``python -m ofa_tvm.devices`` shows: a bar while it copies, tables of devices, boards and what is there."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.table import Table

from ofa_tvm.display import progress
from ofa_tvm.reporting import Progress

if TYPE_CHECKING:
    from ofa_tvm.boards.check import DeviceReport
    from ofa_tvm.boards.inventory import BoardStatus, Inventory
    from ofa_tvm.boards.registry import Board
    from ofa_tvm.measurement.device_info import DeviceInfo


class CopyBar:
    """Shows how many MiB have been copied, from the first one on."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._bar: Progress | None = None
        self._shown = 0

    def __enter__(self) -> CopyBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def show(self, done: int, total: int) -> None:
        """Bytes that have arrived, and bytes in all."""
        if self._bar is None:
            self._bar = self._stack.enter_context(progress(total >> 20, "copied, MiB"))
        self._bar.advance((done >> 20) - self._shown)
        self._shown = done >> 20
        if done == total:
            self._stack.close()


def inventory_table(inventory: Inventory) -> Table:
    """The tracker's keys, and below each the boards known here that register under it."""
    table = Table(title=inventory.trouble or f"Tracker {inventory.tracker}")
    for column in ("key", "devices", "free", "busy", "waiting", "board", "at", "state"):
        table.add_column(column)
    boards: dict[str, list[BoardStatus | None]] = defaultdict(list)
    for status in inventory.boards:
        boards[status.board.key].append(status)
    counts = {count.key: count for count in inventory.keys}
    for key in sorted(counts.keys() | boards.keys()):
        count = counts.get(key)
        figures = [str(count.registered), str(count.free), str(count.busy), str(count.waiting)] if count else ["0"] * 4
        first = [key, *figures]
        for found in boards.get(key) or [None]:
            known = [found.board.name, str(found.board.address), found.state] if found else ["", "", ""]
            table.add_row(*first, *known)
            first = [""] * len(first)
    return table


def check_table(target: str, reports: list[DeviceReport]) -> Table:
    """A column for each device."""
    table = Table(title=f"Devices of {target}")
    table.add_column("")
    for report in reports:
        table.add_column(report.name + (" (emulated)" if report.emulated else ""))
    for name, cell in _CHECKED.items():
        table.add_row(name, *(cell(report) for report in reports))
    return table


def board_table(title: str, boards: list[Board]) -> Table:
    """A row for each board."""
    table = Table(title=title)
    for column in ("board", "key", "at", "runtime", "emulated"):
        table.add_column(column)
    for board in boards:
        table.add_row(board.name, board.key, str(board.address), board.runtime, "yes" if board.emulated else "no")
    return table


def _number(value: float | None, unit: str, digits: int = 0) -> str:
    return "unknown" if value is None else f"{value:.{digits}f} {unit}"


def _error(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1e}"


def _of_info(cell: Callable[[DeviceInfo], str]) -> Callable[[DeviceReport], str]:
    return lambda report: cell(report.info) if report.info else "unknown"


_CHECKED: dict[str, Callable[[DeviceReport], str]] = {
    "fit": lambda report: "yes" if report.fit else "NO",
    "problems": lambda report: "\n".join(report.problems) or "none",
    "CPU": _of_info(lambda info: f"{info.cpu_model or 'unknown'}, {info.machine}, {info.cores} cores"),
    "system": _of_info(lambda info: f"{info.hostname}, {info.system}"),
    "RPC server": _of_info(lambda info: info.server or "unknown"),
    "versions": _of_info(lambda info: ", ".join(f"{name} {number}" for name, number in (info.versions or {}).items())),
    "memory": _of_info(
        lambda info: f"{_number(info.memory_available_mib, 'MiB')} free of {_number(info.memory_total_mib, 'MiB')}"
    ),
    "temperature": _of_info(lambda info: _number(info.temperature_c, "degrees Celsius")),
    "clock": _of_info(lambda info: f"{_number(info.clock_mhz, 'MHz')} of {_number(info.max_clock_mhz, 'MHz')}"),
    "governor": _of_info(lambda info: info.governor or "unknown"),
    "RPC round trip": lambda report: _number(report.round_trip_ms, "ms", 3),
    "reference kernel": lambda report: _number(report.kernel_ms, "ms", 4),
    "its error against numpy": lambda report: _error(report.kernel_error),
}
