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

from listening import bare_host, listen, port_number, shown, warning_if_exposed

# tvm_ffi imports torch where it finds it: a second and 200 MB that a tracker has no use for.
sys.modules["torch"] = None  # type: ignore[assignment]
os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")


def main() -> int:
    """Listen where the options say, and serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="start_rpc_tracker.sh", description="Start TVM's RPC tracker and stay.")
    parser.add_argument(
        "--host", type=bare_host, default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument("--port", type=port_number, default=9190, help="port to listen on (default: %(default)s)")
    parser.add_argument("--listen-fd", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        listener = listen(options.host, options.port, options.listen_fd)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        print(f"cannot listen on {shown(options.host, options.port)}: {reason}; try another --port", file=sys.stderr)
        return 2
    if warning := warning_if_exposed(listener):
        print(warning, file=sys.stderr)
    try:
        serve(listener)
    except KeyboardInterrupt:
        print("RPC tracker stopped", file=sys.stderr)
    return 0


class Zoned(socket.socket):
    """Takes connections from link-local addresses with their zone, without which no client finds the device there."""

    def accept(self) -> tuple[socket.socket, tuple[object, ...]]:
        """As the original."""
        connection, address = super().accept()
        if len(address) == 4 and address[3]:
            address = (f"{address[0]}%{socket.if_indextoname(address[3])}", *address[1:])
        return connection, address


def serve(listener: socket.socket) -> None:
    """Serve devices and clients for ever."""
    from tvm.rpc.tracker import TrackerServerHandler  # takes a second, so after the port is known to be free

    host, port = listener.getsockname()[:2]
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited: answers go out in two parts
    asyncio.set_event_loop(asyncio.new_event_loop())
    tracker = TrackerServerHandler(Zoned(fileno=listener.detach()), stop_key=os.urandom(16).hex())
    print(f"RPC tracker on {shown(host, port)}; Ctrl-C stops it", file=sys.stderr, flush=True)
    tracker.run()


if __name__ == "__main__":
    os._exit(main())  # at once: TVM's teardown takes a fifth of a second and has nothing to save
