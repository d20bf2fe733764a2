"""The listening socket of a launcher: inherited from the process that started it, or bound here."""

from __future__ import annotations

import argparse
import socket


def listen(host: str, port: int, listen_fd: int | None) -> socket.socket:
    """Listen on exactly this address; an inherited descriptor was bound already, so that no other process got there."""
    if listen_fd is not None:
        return socket.socket(fileno=listen_fd)
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)  # with the zone of an IPv6 address as a number
    listener.listen()
    return listener


def port_number(text: str) -> int:
    """A port to listen on, 0 for any free one; one that is out of range would wrap around unsaid."""
    if not text.isdecimal() or int(text) >= 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 0 to 65535")
    return int(text)


def bare_host(text: str) -> str:
    """A host without the brackets that an IPv6 address may have."""
    return text[1:-1] if text.startswith("[") and text.endswith("]") else text


def shown(host: str, port: int) -> str:
    """``HOST:PORT``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def warning_if_exposed(listener: socket.socket) -> str | None:
    """What to tell somebody who listens beyond this host."""
    host = str(listener.getsockname()[0])
    if host.startswith("127.") or host == "::1":
        return None
    return (
        f"warning: {host} is reachable from other machines, and TVM RPC runs any code it is sent, without a"
        " password; use this on a trusted network only, or loopback and an SSH tunnel"
    )
