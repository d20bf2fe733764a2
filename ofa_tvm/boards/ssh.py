"""An SSH connection to a board: commands and files, and no wait without a limit."""

from __future__ import annotations

import contextlib
import posixpath
import secrets
import shlex
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko

from ofa_tvm.addresses import is_link_local
from ofa_tvm.boards.address import SshAddress
from ofa_tvm.boards.command_output import CommandResult, read_all, split_output
from ofa_tvm.boards.copying import (
    OPEN_LIMIT_S,
    STALL_LIMIT_S,
    NoSftpError,
    put_over_sftp,
    receiving_command,
    send_file,
    sftp_session,
)
from ofa_tvm.errors import BoardSetUpError, BoardUnreachableError

KEEPALIVE_PERIOD_S = 5
KILLED = 137

_TELLING_ITS_PID = """exec sh -c 'echo "%s$$"; exec sh -c "$0"' %s"""
# Most SSH servers give each command a process group of its own.
_END = """
for signal in TERM KILL; do
    kill -s $signal -- "-$0" 2>/dev/null || kill -s $signal "$0" 2>/dev/null || exit 0
    sleep 1
done
"""


class SshConnection:
    """One connection, by `ofa_tvm.boards.login.connect`; use it as a context, or close it.

    Attributes
    ----------
    sftp_trouble
        Why files are copied through the board's shell, once that is known.
    """

    def __init__(
        self, address: SshAddress, client: paramiko.SSHClient, via: tuple[paramiko.SSHClient, ...] = ()
    ) -> None:
        self.address = address
        self.sftp_trouble: str | None = None
        self._client, self._via = client, via
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
        for client in (self._client, *reversed(self._via)):
            client.close()

    def host_address(self) -> str:
        """The address of this host as the board sees it.

        Raises
        ------
        BoardUnreachableError
            The board does not answer.
        BoardSetUpError
            It sees only a host between.
        """
        stream = self.transport.sock
        if not isinstance(stream, socket.socket):
            raise BoardSetUpError(
                f"{self.address} is reached through another host, so it does not see this one; name the tracker by an"
                " address that the board can reach (--tracker HOST:PORT), or leave out --lan"
            )
        host = str(stream.getsockname()[0])
        if not is_link_local(host):
            return host
        seen = self.run('echo "$SSH_CONNECTION"', OPEN_LIMIT_S).stdout.split()  # a zone is each machine's own
        return seen[0] if seen else host

    def run(
        self, command: str, timeout_s: float, feed: Callable[[paramiko.Channel], None] | None = None
    ) -> CommandResult:
        """Run a piece of POSIX shell on the board, with nothing on its stdin, or what `feed` sends there.

        What the user's start-up files print before it is left out. The limit begins when it has been fed.

        Raises
        ------
        BoardUnreachableError
            It did not end within `timeout_s`, or the connection was cut.
        """
        deadline = time.monotonic() + timeout_s
        mark = f"{secrets.token_hex(8)} pid="
        output: list[bytes] = []
        errors: list[bytes] = []
        with self._errors(timeout_s), contextlib.closing(self.transport.open_session(timeout=OPEN_LIMIT_S)) as channel:
            channel.settimeout(timeout_s)
            channel.exec_command(_TELLING_ITS_PID % (mark, shlex.quote(command)))
            try:
                if feed:
                    self._feed(channel, feed)
                    deadline = time.monotonic() + timeout_s
                channel.shutdown_write()
                read_all(channel, channel.recv, deadline, output)
                read_all(channel, channel.recv_stderr, deadline, errors)
                if not channel.status_event.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
            except BaseException:  # closing the channel would leave the command running
                self._end(split_output(output, mark)[0])
                raise
            code = channel.recv_exit_status()
            if code < 0 and not self.transport.is_active():
                raise EOFError("it was cut")
        stderr = b"".join(errors).decode(errors="replace")
        return CommandResult(code if code >= 0 else KILLED, split_output(output, mark)[1], stderr)

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
        with self._errors(STALL_LIMIT_S):
            if self.sftp_trouble is None:
                try:
                    with sftp_session(self.transport) as sftp:
                        self._put_over_sftp(sftp, source, temporary, destination, progress, mode)
                    return
                except NoSftpError as error:
                    self.sftp_trouble = str(error)
        self._put_through_shell(source, temporary, destination, progress, mode)

    def _put_over_sftp(
        self,
        sftp: paramiko.SFTPClient,
        source: Path,
        temporary: str,
        destination: str,
        progress: Callable[[int], None],
        mode: int,
    ) -> None:
        try:
            put_over_sftp(sftp, source, temporary, destination, progress, mode)
        except OSError as error:
            if isinstance(error, TimeoutError) or not self.transport.is_active():
                raise
            why = self._why_not(error)
            with contextlib.suppress(OSError):
                sftp.remove(temporary)
            raise BoardSetUpError(f"{self.address} cannot write {destination}: {why}") from error

    def _put_through_shell(
        self, source: Path, temporary: str, destination: str, progress: Callable[[int], None], mode: int
    ) -> None:
        command = receiving_command(source, temporary, destination, mode)
        try:
            result = self.run(command, STALL_LIMIT_S, feed=lambda channel: send_file(channel, source, progress))
            if result.code:
                why = self._why_not(OSError(result.reason))
                raise BoardSetUpError(f"{self.address} cannot write {destination}: {why}")
        except BaseException:
            with contextlib.suppress(BoardUnreachableError):
                self.run(f"rm -f {shlex.quote(temporary)}", OPEN_LIMIT_S)
            raise

    def _feed(self, channel: paramiko.Channel, feed: Callable[[paramiko.Channel], None]) -> None:
        channel.settimeout(STALL_LIMIT_S)
        try:
            feed(channel)
        except OSError as error:  # a command that ends before it has read all says why
            if isinstance(error, TimeoutError) or not self.transport.is_active():
                raise

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
