"""What a person sees: results on stdout as a table or JSON, progress and remarks on stderr."""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Table

from ofa_tvm.printable import printable
from ofa_tvm.reporting import Progress

_PLAIN_INTERVAL_S = 10.0
_ESTIMATE_FROM = 0.05


def say(text: str) -> None:
    """Tell the person at the terminal something, on stderr; control characters of foreign texts are spelled out."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def print_result(values: Mapping[str, Any], as_json: bool, table: Table | None = None) -> None:
    """Print a command's result on stdout.

    Parameters
    ----------
    values
        The result as plain JSON values.
    as_json
        Print `values` as JSON, which knows no NaN and no infinity: these are null there.
    table
        What to print otherwise; a row for each of `values` if there is none.
    """
    shown = _rows(values) if table is None else table
    sys.stdout.write(json.dumps(_finite(values), indent=2) + "\n" if as_json else _render(shown))
    sys.stdout.flush()


@contextlib.contextmanager
def progress(total: int, description: str, done: int = 0) -> Iterator[Progress]:
    """Show on stderr how far a loop is: a bar on a terminal, else a line now and then.

    Parameters
    ----------
    total
        Count at the end.
    done
        Count that an earlier run reached; it is left out of the estimate of the time left.
    """
    if not sys.stderr.isatty():
        plain = _PlainProgress(total, description, done)
        try:
            yield plain
        finally:
            plain.close()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with RichProgress(*columns, console=Console(stderr=True), redirect_stdout=False) as bars:
        yield _Bar(bars, total, description, done)


class Terminal:
    """The `ofa_tvm.reporting.Reporter` of the commands."""

    def say(self, text: str) -> None:
        """Tell a line, on stderr."""
        say(text)

    def progress(self, total: int, description: str, done: int = 0) -> contextlib.AbstractContextManager[Progress]:
        """As `progress`."""
        return progress(total, description, done)


TERMINAL = Terminal()


class _Bar:
    def __init__(self, bars: RichProgress, total: int, description: str, done: int) -> None:
        self._bars = bars
        self._task = bars.add_task(description, total=total, completed=done)

    def advance(self, count: int = 1) -> None:
        self._bars.advance(self._task, count)


class _PlainProgress:
    def __init__(self, total: int, description: str, done: int) -> None:
        self._total, self._description, self._first, self._done = total, description, done, done
        self._start_s = self._shown_s = time.monotonic()
        self._shown = -1
        self._show()

    def advance(self, count: int = 1) -> None:
        self._done += count
        if time.monotonic() - self._shown_s >= _PLAIN_INTERVAL_S:
            self._show()

    def close(self) -> None:
        if self._shown != self._done:
            self._show()

    def _show(self) -> None:
        self._shown_s, self._shown = time.monotonic(), self._done
        counted, remaining = self._done - self._first, self._total - self._done
        # The first few say little about the rest: what takes long may come in batches.
        known = remaining and counted >= _ESTIMATE_FROM * (self._total - self._first)
        left = f", {duration(remaining * (self._shown_s - self._start_s) / counted)} left" if known else ""
        say(f"{self._description}: {self._done}/{self._total}{left}")


def duration(seconds: float) -> str:
    """A time span for people: ``45 s``, ``2 min``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = math.ceil(seconds)
    hours, minutes = divmod(whole // 60, 60)
    if hours:
        return f"{hours} h {minutes} min"
    parts = [f"{minutes} min"] * bool(minutes) + [f"{whole % 60} s"] * bool(whole % 60 or not minutes)
    return " ".join(parts)


def _render(table: Table) -> str:
    """The table as text, as wide as the terminal; in a pipe as wide as it needs, so that nothing is cut off."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 1000
    text = io.StringIO()
    console = Console(file=text, width=width, markup=False, highlight=False)
    if table.title:  # as a line of its own, for rich would break it where the table ends
        console.print(table.title)
        table.title = None
    console.print(table)
    # Not splitlines(), which takes more characters than rich for the end of a line.
    return "".join(f"{printable(line.rstrip())}\n" for line in text.getvalue().removesuffix("\n").split("\n"))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _rows(values: Mapping[str, Any]) -> Table:
    table = Table("", "", show_header=False)
    for name, value in values.items():
        table.add_row(name, str(value))
    return table
