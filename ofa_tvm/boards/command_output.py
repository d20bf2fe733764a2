"""What a command on a board says, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import paramiko


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


def read_all(channel: paramiko.Channel, receive: Callable[[int], bytes], deadline: float, blocks: list[bytes]) -> None:
    """One of a channel's streams, to its end."""
    while True:
        channel.settimeout(max(0.01, deadline - time.monotonic()))
        block = receive(1 << 16)
        if not block:
            return
        blocks.append(block)


def split_output(output: list[bytes], mark: str) -> tuple[str, str]:
    """The process id after the mark, and what the command said itself; a strange shell tells none."""
    text = b"".join(output).decode(errors="replace")
    _, found, rest = text.partition(mark)
    pid, _, said = rest.partition("\n")
    return (pid, said) if found and pid.isdigit() else ("", text)
