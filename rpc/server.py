"""RPC server for a device: forks a session for each client and outlives whatever happens in one.

Run it on the device with a Python that has apache-tvm (its runtime is enough)::

    python server.py --tracker HOST:PORT --key rasp4

TVM's own ``tvm.exec.rpc_server`` leaves the tracker for good when a kernel crashes, and waits for ever
for a kernel that does not end. This one has no threads: a session is a child process that is killed
when its client hangs up, and the client is told when the child dies.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

from device_info import device_info
from listening import bare_host, listen, port_number, shown, warning_if_exposed

# tvm_ffi imports torch where it finds it: a second and 200 MB that a server has no use for.
sys.modules["torch"] = None  # type: ignore[assignment]

RECONNECT_PERIOD_S = 1.0
LONGEST_LIMIT_S = 1e6


def main() -> int:
    """Start as the options say, and serve until a signal comes."""
    options = parse_options()
    prepare_environment(options.threads)
    try:
        listener = listen(options.host, options.port, options.listen_fd)
    except (OSError, OverflowError) as error:
        log(f"cannot listen on {shown(options.host, options.port)}: {getattr(error, 'strerror', None) or error}")
        return 2
    if warning := warning_if_exposed(listener):
        log(warning)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, no session could be waited for
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup is to keep its meaning
            signal.signal(number, signal.default_int_handler)
    try:
        load_runtime()
        serve(listener, options.tracker, options.key, options.session_limit)
    except KeyboardInterrupt:
        log("stopped")
    return 0


class Parser(argparse.ArgumentParser):
    """One that says a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        """Say it and end the process."""
        self.exit(2, f"rpc server: {message}; see --help\n")


def parse_options() -> argparse.Namespace:
    """The command line's options."""
    parser = Parser(description="Register this device at an RPC tracker and serve its clients.")
    parser.add_argument("--tracker", type=address, required=True, metavar="HOST:PORT", help="where to register")
    parser.add_argument("--key", type=device_key, required=True, help="the name of the target, such as rasp4")
    parser.add_argument(
        "--host", type=bare_host, default="127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument("--port", type=port_number, default=0, help="port to listen on (default: any free one)")
    parser.add_argument("--listen-fd", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help="threads a kernel may use (default: %(default)s)")
    parser.add_argument(
        "--session-limit",
        type=seconds,
        default=0.0,
        metavar="SECONDS",
        help="end a session that lasts longer (default: 0, no limit)",
    )
    return parser.parse_args()


def address(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, an IPv6 address in brackets."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:9190 or [::1]:9190")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise argparse.ArgumentTypeError(f"{text!r}: write an IPv6 address in brackets: [{host}]:{port}")
    return bare_host(host), int(port)


def device_key(text: str) -> str:
    """A key that can stand between blanks and colons, as TVM's protocols want it."""
    if not re.fullmatch(r"[\w.-]{1,200}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not made of letters, digits, dots, hyphens and underscores")
    return text


def seconds(text: str) -> float:
    """A duration, 0 for none."""
    number = float(text)
    if not 0 <= number <= LONGEST_LIMIT_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number


def prepare_environment(threads: int) -> None:
    """Set what TVM and numpy read once, when they are imported."""
    os.environ["TVM_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy's threads: none may run when a session is forked
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")  # the compiler's library takes seconds to load on a board


def load_runtime() -> None:
    """Import TVM once, before any fork, with the part of the runtime that holds sort and random fill."""
    import tvm.rpc.server
    import tvm_ffi

    tvm.rpc.server.logger.setLevel("WARNING")
    extra = Path(tvm.__file__).parent / "lib" / "libtvm_runtime_extra.so"
    if extra.exists():
        ctypes.CDLL(str(extra), ctypes.RTLD_GLOBAL)
    tvm_ffi.register_global_func("ofa_tvm.device_info", device_info)


def serve(listener: socket.socket, tracker: tuple[str, int], key: str, session_limit_s: float) -> None:
    """Register at the tracker and serve one client after the other, for ever."""
    from client import wait_for_client  # these import TVM, so only now
    from registration import Registration
    from session import serve_session
    from workspace import remove_abandoned_workspaces

    remove_abandoned_workspaces()
    registration: Registration | None = None
    told_last = socket.socket()
    outage = False
    while True:
        try:
            if registration is None:
                registration = Registration(tracker, key, listener.getsockname()[1])
                log(f"{key} registered at {shown(*tracker)}")
                outage = False
            client = wait_for_client(listener, registration)
        except (OSError, ValueError) as error:
            if not outage:
                log(f"tracker {shown(*tracker)}: {error}; trying again every second")
            outage = True
            if registration is not None:
                registration.connection.close()
                registration = None
            time.sleep(RECONNECT_PERIOD_S)
            continue
        told = False
        try:
            told = serve_session(client, (listener, registration.connection, told_last), session_limit_s)
        except OSError as error:  # no memory for a process, no space for its files: the next client may have more luck
            log(f"session: {error}")
        finally:
            # What a client sends to a closed connection destroys what it has not read: it is told, then left open.
            if told:
                client, told_last = told_last, client
            client.close()


def log(message: str) -> None:
    """To whoever started the server."""
    print(f"rpc server: {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    os._exit(main())  # at once: TVM's teardown takes a fifth of a second and has nothing to save
