"""A child that reports, one that is silent, and one that is neither."""

from __future__ import annotations

import os
import sys

import pytest

from ofa_tvm.bundle.watched import SilentError, run_watched

PRELUDE = "import os, sys, time; report = lambda line: os.write(int(sys.argv[1]), line + b'\\n')\n"


def run(program: str, limit_s: float = 60.0):
    return run_watched([sys.executable, "-c", PRELUDE + program], os.environ, limit_s)


def test_a_child_that_goes_on_reporting_may_take_longer_than_the_limit():
    ended = run("for number in range(8):\n    report(b'%d' % number); time.sleep(0.5)", limit_s=3.0)
    assert (ended.code, ended.reports) == (0, tuple("01234567"))


def test_a_child_that_falls_silent_is_ended():
    with pytest.raises(SilentError) as caught:
        run("report(b'loaded'); report(b'%d' % os.getpid()); time.sleep(1000)", limit_s=2.0)
    first, pid = caught.value.reports
    assert first == "loaded"
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_child_that_hangs_after_its_last_report_is_ended():
    with pytest.raises(SilentError):
        run("os.close(int(sys.argv[1])); time.sleep(1000)", limit_s=1.0)


def test_what_it_prints_is_no_report_and_its_log_is_kept():
    ended = run("print('noise' * 100000); report(b'one'); sys.stderr.buffer.write(b'why \\xff\\n'); sys.exit(3)")
    assert (ended.code, ended.reports, ended.log) == (3, ("one",), "why \ufffd\n")
