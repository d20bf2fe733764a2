"""How a stage tells whoever called it what it does: lines, and counts that go up.

A stage takes a `Reporter`; `ofa_tvm.display` has the terminal's. `Say` is enough where there are only lines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

Say = Callable[[str], None]
"""Told, a line at a time, what the user should know."""


class Progress(Protocol):
    """A count that goes up."""

    def advance(self, count: int = 1) -> None:
        """Count `count` more as done."""


class Reporter(Protocol):
    """Whoever is told."""

    def say(self, text: str) -> None:
        """Tell a line."""

    def progress(self, total: int, description: str, done: int = 0) -> AbstractContextManager[Progress]:
        """Show how far a loop is, for as long as the context lasts.

        Parameters
        ----------
        total
            Count at the end.
        done
            Count that an earlier run reached.
        """


class Silent:
    """A `Reporter` that tells nobody."""

    def say(self, text: str) -> None:
        """Do nothing."""

    @contextlib.contextmanager
    def progress(self, total: int, description: str, done: int = 0) -> Iterator[Progress]:
        """Count, and show nothing."""
        yield _Nothing()


class _Nothing:
    def advance(self, count: int = 1) -> None:
        pass
