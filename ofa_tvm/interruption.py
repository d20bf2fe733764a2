"""Ctrl-C, SIGTERM and SIGHUP: one line and exit code 130, after every ``finally`` has run."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from ofa_tvm.streams import mute_native_code

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

INTERRUPTED = "interrupted: finished work is kept and no file is half-written; the same command can be run again"

AGAIN_S = 0.02
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(slots=True)
class Interruption:
    """How many signals have come; native code may turn the exception of one into another."""

    signals: int = 0


def handle_signals(interruption: Interruption) -> None:
    """Let the first signal interrupt, the second ask for patience, and each later one interrupt the clean-up.

    An interruption is a KeyboardInterrupt, whatever the signal. One that Python ignores, because it came amid a
    destructor or a hook around a fork, is raised again. A signal that is ignored (``nohup``, a background job) stays
    so. Forked children get the default actions: they must neither run their parent's clean-up nor
    survive a SIGTERM in native code.

    Parameters
    ----------
    interruption
        Is told of each signal.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        interruption.signals += 1
        if interruption.signals == 1:
            mute_native_code()
        if interruption.signals == 2:
            sys.stderr.write("interrupted: still cleaning up; once more stops that too\n")
            sys.stderr.flush()
        else:
            raise KeyboardInterrupt

    handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]

    def restore() -> None:
        for number in (*handled, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        sys.unraisablehook = sys.__unraisablehook__

    for number in handled:
        signal.signal(number, interrupt)
    signal.signal(signal.SIGALRM, _interrupt_again)
    sys.unraisablehook = _note_ignored
    os.register_at_fork(after_in_child=restore)


def ignore_signals() -> None:
    """Ignore further ones while the process ends."""
    for number in (*_SIGNALS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def forget_interruption() -> None:
    """Let the exit code be ours.

    CPython notes a KeyboardInterrupt that leaves any ``exec`` of a string, as dataclasses and many imports do, and
    then kills itself by SIGINT at the end although the exception was handled; the next such ``exec`` clears the note.
    """
    exec("")


def _note_ignored(ignored: UnraisableHookArgs) -> None:
    """Told of an exception that Python has no way to pass on."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
    else:
        sys.__unraisablehook__(ignored)


def _interrupt_again(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
