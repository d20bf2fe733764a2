from __future__ import annotations

import os
import signal
import threading

import pytest

from ofa_tvm.measurement.deferral import interrupts_deferred


def test_an_interrupt_comes_at_the_end():
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        with interrupts_deferred():
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_comes_with_the_interrupt():
    with pytest.raises(KeyboardInterrupt) as caught, interrupts_deferred():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("disk full")
    assert isinstance(caught.value.__context__, ValueError)


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interrupts_deferred():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_have_nothing_to_defer():
    entered = []

    def enter() -> None:
        with interrupts_deferred():
            entered.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert entered == [signal.default_int_handler]
