"""What tests look for, they find beside others' processes, and beside those that have ended."""

from __future__ import annotations

import signal
import subprocess
import sys

import psutil
import pytest

from .processes import await_true, below, free_port, listening, lives, send, words_of


def test_a_process_that_nobody_has_waited_for_is_none():
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        process = psutil.Process(child.pid)
        await_true(lambda: process.status() == psutil.STATUS_ZOMBIE)
        with pytest.raises(psutil.ZombieProcess):
            process.cmdline()
        assert (words_of(process), lives(process), listening(process)) == ([], False, set())
        assert process not in below()
    assert (words_of(process), lives(process), listening(process)) == ([], False, set())
    assert below(process) == set()
    send([process])


def test_what_lives_is_found_with_where_it_listens():
    port = free_port()
    script = f"import socket, time; listener = socket.create_server(('127.0.0.1', {port})); time.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", script]) as child:
        process = psutil.Process(child.pid)
        await_true(lambda: listening(process) == {("127.0.0.1", port)})
        assert script in words_of(process)
        assert process in below()
        send([process])
    assert child.returncode == -signal.SIGKILL
