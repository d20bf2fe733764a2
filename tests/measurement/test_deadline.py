"""Limits for calls that can't be given one, on real connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from ofa_tvm.measurement.deadline import is_connected, shut_connections, within

from ..processes import await_true

Address = tuple[str, int]


def calls() -> set[threading.Thread]:
    """The threads of calls that have not returned."""
    return {thread for thread in threading.enumerate() if thread.name == "rpc-call"}


@pytest.fixture
def silent() -> Iterator[Address]:
    """An address that answers no connection, as a host that is switched off."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


def test_a_connect_that_nobody_answers_is_given_up(silent: Address):
    def connect() -> None:
        with socket.socket() as connection:
            connection.connect(silent)

    before = calls()
    with pytest.raises(TimeoutError):
        within(0.2, connect, lambda: shut_connections(*silent))
    await_true(lambda: calls() <= before)


def test_a_receive_that_waits_is_ended():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as connection, listener.accept()[0]:
            assert is_connected(*address)
            before = calls()
            with pytest.raises(TimeoutError):
                within(0.2, lambda: connection.recv(1), lambda: shut_connections(*address))
            await_true(lambda: calls() <= before)
            assert not is_connected(*address)


def test_a_connection_that_the_other_end_has_closed_is_none():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as connection:
            listener.accept()[0].close()
            assert connection.recv(1) == b""
            assert not is_connected(*address)
