"""An SSH connection to a board: commands and files, and no wait without a limit."""

from __future__ import annotations

import contextlib
import posixpath
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import paramiko

from ofa_tvm.boards.address import SshAddress
from ofa_tvm.errors import BoardSetUpError, BoardUnreachableError

OPEN_LIMIT_S = 10.0
TRANSFER_STALL_LIMIT_S = 30.0
KEEPALIVE_PERIOD_S = 5
KILLED = 137

_TELLING_ITS_PID = """exec sh -c 'echo "pid=$$"; exec sh -c "$0"' %s"""
# Most SSH servers give each command a process group of its own.
_END = """
for signal in TERM KILL; do
    kill -s $signal -- "-$0" 2>/dev/null || kill -s $signal "$0" 2>/dev/null || exit 0
    sleep 1
done
"""


class CommandResult(NamedTuple):
    """What a command on the board came to."""

    code: int
    stdout: str
    stderr: str

    @property
    def reason(self) -> str:
        """The last line it said, to be quoted in an error."""
        lines = (self.stderr.strip() or self.stdout.strip()).splitlines()
        return lines[-1] if lines else f"exit code {self.code}"


class SshConnection:
    """One connection, by `ofa_tvm.boards.login.connect`; use it as a context, or close it."""

    def __init__(self, address: SshAddress, client: paramiko.SSHClient) -> None:
        self.address = address
        self._client = client
        transport = client.get_transport()
        assert transport is not None
        self.transport = transport
        transport.set_keepalive(KEEPALIVE_PERIOD_S)

    def __enter__(self) -> SshConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection and what runs over it."""
        self._client.close()

    @property
    def host_address(self) -> str:
        """The address of this host as the board sees it."""
        return str(self.transport.sock.getsockname()[0])  # type: ignore[union-attr]

    def run(self, command: str, timeout_s: float) -> CommandResult:
        """Run a piece of POSIX shell on the board, with nothing on its stdin.

        Raises
        ------
        BoardUnreachableError
            It did not end within `timeout_s`, or the connection was cut.
        """
        deadline = time.monotonic() + timeout_s
        output: list[bytes] = []
        errors: list[bytes] = []
        with self._errors(timeout_s), contextlib.closing(self.transport.open_session(timeout=OPEN_LIMIT_S)) as channel:
            channel.settimeout(timeout_s)
            channel.exec_command(_TELLING_ITS_PID % shlex.quote(command))
            channel.shutdown_write()
            try:
                _read_all(channel, channel.recv, deadline, output)
                _read_all(channel, channel.recv_stderr, deadline, errors)
                if not channel.status_event.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
            except BaseException:  # closing the channel would leave the command running
                self._end(_split(output)[0])
                raise
            code = channel.recv_exit_status()
            if code < 0 and not self.transport.is_active():
                raise EOFError("it was cut")
        stderr = b"".join(errors).decode(errors="replace")
        return CommandResult(code if code >= 0 else KILLED, _split(output)[1], stderr)

    def put_file(
        self, source: Path, destination: str, progress: Callable[[int], None] = lambda _: None, mode: int = 0o644
    ) -> None:
        """Copy a file to the board, under a name of its own until it is there as a whole.

        Parameters
        ----------
        progress
            Is told how many bytes of it have arrived.

        Raises
        ------
        BoardSetUpError
            The board can't write it.
        BoardUnreachableError
            The connection was cut, or stalled for half a minute.
        """
        temporary = posixpath.join(posixpath.dirname(destination), f".{secrets.token_hex(4)}.part")
        with self._errors(TRANSFER_STALL_LIMIT_S), self._sftp() as sftp:
            try:
                sftp.put(str(source), temporary, callback=lambda done, _: progress(done))
                sftp.chmod(temporary, mode)
                sftp.posix_rename(temporary, destination)
            except OSError as error:
                if isinstance(error, TimeoutError) or not self.transport.is_active():
                    raise
                why = self._why_not(error)
                with contextlib.suppress(OSError):
                    sftp.remove(temporary)
                raise BoardSetUpError(f"{self.address} cannot write {destination}: {why}") from error

    def _end(self, pid: str) -> None:
        """End a command and what it has started, as far as the board can still be told to."""
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            if pid:
                with contextlib.closing(self.transport.open_session(timeout=OPEN_LIMIT_S)) as channel:
                    channel.settimeout(OPEN_LIMIT_S)
                    channel.exec_command(f"exec sh -c {shlex.quote(_END)} {pid}")
                    channel.status_event.wait(OPEN_LIMIT_S)

    def _why_not(self, error: OSError) -> str:
        """SFTP's own word for a full disk is "Failure"."""
        if error.strerror:
            return error.strerror.lower()
        free = self.run("df -Pk ~ | tail -n 1", OPEN_LIMIT_S).stdout.split()
        return f"{one_line(error)}; {int(free[3]) >> 10} MiB are free there" if len(free) > 3 else one_line(error)

    @contextlib.contextmanager
    def _sftp(self) -> Iterator[paramiko.SFTPClient]:
        sftp = paramiko.SFTPClient.from_transport(self.transport)
        if sftp is None:
            raise EOFError("its SSH server offers no SFTP")
        try:
            channel = sftp.get_channel()
            assert channel is not None
            channel.settimeout(TRANSFER_STALL_LIMIT_S)
            yield sftp
        finally:
            sftp.close()

    @contextlib.contextmanager
    def _errors(self, limit_s: float) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise BoardUnreachableError(
                f"{self.address} did not answer within {limit_s:.0f} s; look at it: {self.address.ssh_command}"
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise BoardUnreachableError(f"the connection to {self.address} failed: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """What an error says, without its number."""
    return " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())


def _read_all(channel: paramiko.Channel, receive: Callable[[int], bytes], deadline: float, blocks: list[bytes]) -> None:
    """One of a channel's streams, to its end."""
    while True:
        channel.settimeout(max(0.01, deadline - time.monotonic()))
        block = receive(1 << 16)
        if not block:
            return
        blocks.append(block)


def _split(output: list[bytes]) -> tuple[str, str]:
    """The process id that a command begins with, and what it said itself; a strange shell tells none."""
    text = b"".join(output).decode(errors="replace")
    first, _, rest = text.partition("\n")
    pid = first.removeprefix("pid=")
    return (pid, rest) if pid != first and pid.isdigit() else ("", text)
