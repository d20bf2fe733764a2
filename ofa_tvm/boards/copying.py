"""Copying a file to a board: over SFTP, or through its shell where SFTP is not to be had."""

from __future__ import annotations

import contextlib
import hashlib
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko

BLOCK_BYTES = 1 << 16
STALL_LIMIT_S = 30.0
OPEN_LIMIT_S = 10.0

Arrived = Callable[[int], None]
"""Is told how many bytes of a file have arrived."""


class NoSftpError(Exception):
    """The board's SSH server does not serve files, for the reason given."""


@contextlib.contextmanager
def sftp_session(transport: paramiko.Transport) -> Iterator[paramiko.SFTPClient]:
    """A session of SFTP, in which no answer is waited for too long.

    Raises
    ------
    NoSftpError
        There is none to be had.
    """
    channel = transport.open_session(timeout=OPEN_LIMIT_S)
    channel.settimeout(STALL_LIMIT_S)
    try:
        channel.invoke_subsystem("sftp")
        sftp = paramiko.SFTPClient(channel)
    except paramiko.SFTPError as error:  # its first packet was none
        channel.close()
        raise NoSftpError(
            "a start-up file there, such as .bashrc, prints something even when no terminal is there, which breaks SFTP"
        ) from error
    except (paramiko.SSHException, EOFError) as error:
        channel.close()
        if not transport.is_active():
            raise
        raise NoSftpError("its SSH server offers no SFTP") from error
    except BaseException:
        channel.close()
        raise
    with contextlib.closing(sftp):
        yield sftp


def put_over_sftp(
    sftp: paramiko.SFTPClient, source: Path, temporary: str, destination: str, arrived: Arrived, mode: int
) -> None:
    """Copy a file, and give it its name when it is there as a whole."""
    sftp.put(str(source), temporary, callback=lambda done, _: arrived(done))
    sftp.chmod(temporary, mode)
    sftp.posix_rename(temporary, destination)


# Whether all has come is told by the digest, or by the size where the board has no program for digests.
_RECEIVE = """
cat >{temporary} || exit 1
if command -v sha256sum >/dev/null; then is=$(sha256sum <{temporary}); else is=$(wc -c <{temporary}); fi
for word in $is; do break; done
case $word in {digest}|{size}) ;; *) echo "it arrived damaged" >&2; exit 1 ;; esac
chmod {mode:o} {temporary} && mv -f {temporary} {destination}
"""


def receiving_command(source: Path, temporary: str, destination: str, mode: int) -> str:
    """A piece of POSIX shell that takes a file from its stdin and gives it its name when it is there as a whole."""
    with source.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return _RECEIVE.format(
        temporary=shlex.quote(temporary),
        destination=shlex.quote(destination),
        digest=digest,
        size=source.stat().st_size,
        mode=mode,
    )


def send_file(channel: paramiko.Channel, source: Path, arrived: Arrived) -> None:
    """A file into a command's stdin; what the command says of it is read elsewhere."""
    done = 0
    with source.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            channel.sendall(block)
            done += len(block)
            arrived(done)
