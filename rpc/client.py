"""How a client that was given the offer is recognised, among whoever else may connect."""

from __future__ import annotations

import hmac
import select
import socket
import struct
import sys
import time

from registration import Registration
from tvm.rpc import base

POLL_PERIOD_S = 1.0
UNCLAIMED_PERIODS = 5
GREETING_LIMIT_S = 10.0
MOST_GREETINGS = 8
HEADER = struct.Struct("<ii")
LONGEST_WORDS = 1024
LOST_AFTER_S = 30


class Greeting:
    """What a connection has sent so far of TVM's handshake: magic, length, ``client:<match key>`` and options."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.deadline = time.monotonic() + GREETING_LIMIT_S
        self.data = b""
        self.length = 0
        connection.setblocking(False)

    def read(self) -> bool:
        """Take what has come; whether the greeting is complete. A ValueError if it can be no client's."""
        try:
            chunk = self.connection.recv(HEADER.size + self.length - len(self.data))
        except BlockingIOError:
            return False
        if not chunk:
            raise OSError("connection closed")
        self.data += chunk
        if self.length == 0 and len(self.data) == HEADER.size:
            magic, self.length = HEADER.unpack(self.data)
            if magic != base.RPC_MAGIC or not 0 < self.length < LONGEST_WORDS:
                raise ValueError("not an RPC client")
        return self.length > 0 and len(self.data) == HEADER.size + self.length

    def answer(self, registration: Registration) -> None:
        """Let our client in. A ValueError if it is somebody else."""
        words = self.data[HEADER.size :].split()
        if not words or not hmac.compare_digest(words[0], f"client:{registration.match_key}".encode()):
            self.connection.sendall(struct.pack("<i", base.RPC_CODE_MISMATCH))
            raise ValueError("wrong match key")
        name = f"server:{registration.key}".encode()
        self.connection.sendall(HEADER.pack(base.RPC_CODE_SUCCESS, len(name)) + name)
        self.connection.setblocking(True)
        watch(self.connection)


class Door:
    """The listening socket, and those who have connected and not said yet who they are."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.greetings: list[Greeting] = []
        self.accepts = True

    def next_client(self, registration: Registration, deadline: float) -> socket.socket | None:
        """Our client, or None if it does not come before the deadline."""
        while (now := time.monotonic()) < deadline:
            for late in [greeting for greeting in self.greetings if greeting.deadline <= now]:
                self.turn_away(late, "timed out")
            until = min([deadline, *(greeting.deadline for greeting in self.greetings)])
            sockets = [greeting.connection for greeting in self.greetings] + [self.listener]
            readable, _, _ = select.select(sockets, [], [], max(0.0, until - now))
            for greeting in [greeting for greeting in self.greetings if greeting.connection in readable]:
                if self.is_ours(greeting, registration):
                    self.greetings.remove(greeting)
                    return greeting.connection
            if self.listener in readable and not self.accept():
                time.sleep(max(0.0, deadline - time.monotonic()))
        return None

    def accept(self) -> bool:
        """Take the next connection, whose greeting is then awaited; whether this machine could."""
        try:
            connection = self.listener.accept()[0]
        except (ConnectionAbortedError, BlockingIOError):
            return True
        except OSError as error:
            if self.accepts:
                say(f"cannot accept a client: {error.strerror}; trying again every second")
            self.accepts = False
            return False
        self.accepts = True
        if len(self.greetings) == MOST_GREETINGS:
            self.turn_away(self.greetings[0], "too many connections that say nothing")
        self.greetings.append(Greeting(connection))
        return True

    def is_ours(self, greeting: Greeting, registration: Registration) -> bool:
        """Go on with a greeting as far as its connection has sent it."""
        try:
            if not greeting.read():
                return False
            greeting.answer(registration)
        except (OSError, ValueError) as error:
            self.turn_away(greeting, str(error))
            return False
        return True

    def turn_away(self, greeting: Greeting, reason: str) -> None:
        """Close a connection that is no client's."""
        say(f"client turned away: {reason}")
        greeting.connection.close()
        self.greetings.remove(greeting)

    def close(self) -> None:
        """Close all connections but the client's: a session's process is not to have them."""
        for greeting in self.greetings:
            greeting.connection.close()
        self.greetings.clear()


def wait_for_client(listener: socket.socket, registration: Registration) -> socket.socket:
    """The connection of the next client that knows the match key."""
    door = Door(listener)
    try:
        registration.offer()
        claimed_periods = 0
        while (client := door.next_client(registration, time.monotonic() + POLL_PERIOD_S)) is None:
            claimed_periods = claimed_periods + 1 if registration.claimed() else 0
            if claimed_periods >= UNCLAIMED_PERIODS:  # whoever got the key died before it came here
                registration.offer()
                claimed_periods = 0
        return client
    finally:
        door.close()


def watch(client: socket.socket) -> None:
    """Have the kernel find out within half a minute that a client's machine is gone, silent or amid an answer."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, LOST_AFTER_S * 1000)


def say(text: str) -> None:
    """To the server's log."""
    print(f"rpc server: {text}", file=sys.stderr, flush=True)
