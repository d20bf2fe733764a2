"""RPC tracker of TVM in one process: binds exactly the address asked for, says so, and stops cleanly.

TVM's own ``python -m tvm.exec.rpc_tracker`` listens on every interface by default, moves to another
port when the first one is taken, and leaves the serving to a second process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys

# tvm_ffi imports torch where it finds it: a second and 200 MB that a tracker has no use for.
sys.modules["torch"] = None  # type: ignore[assignment]
os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")


def main() -> int:
    parser = argparse.ArgumentParser(prog="start_rpc_tracker.sh", description="Start TVM's RPC tracker and stay.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=9190, help="port to listen on (default: %(default)s)")
    parser.add_argument("--listen-fd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        listener = listen(options.host, options.port, options.listen_fd)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        print(f"cannot listen on {options.host}:{options.port}: {reason}; try another --port", file=sys.stderr)
        return 2
    host, port = listener.getsockname()[:2]
    if not host.startswith("127.") and host != "::1":
        print(
            f"warning: {host} is reachable from other machines, and TVM RPC runs any code it is sent, without a"
            " password; use this on a trusted network only, or loopback and an SSH tunnel",
            file=sys.stderr,
        )
    try:
        serve(listener, f"RPC tracker on {host}:{port}; Ctrl-C stops it")
    except KeyboardInterrupt:
        print("RPC tracker stopped", file=sys.stderr)
    return 0


def listen(host: str, port: int, listen_fd: int | None) -> socket.socket:
    if listen_fd is not None:  # bound by the process that started this one, so nobody else can take the port
        return socket.socket(fileno=listen_fd)
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen()
    return listener


def serve(listener: socket.socket, banner: str) -> None:
    from tvm.rpc.tracker import TrackerServerHandler  # seconds on a slow host, so after the port is known to be free

    asyncio.set_event_loop(asyncio.new_event_loop())
    tracker = TrackerServerHandler(listener, stop_key=os.urandom(16).hex())
    print(banner, file=sys.stderr, flush=True)
    tracker.run()


if __name__ == "__main__":
    os._exit(main())  # at once: TVM's teardown takes a fifth of a second and has nothing to save
