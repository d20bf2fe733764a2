"""What board a user asks for: what is said now, else what is known of it, else what its target says."""

from __future__ import annotations

from pathlib import Path

from ofa_tvm.boards.address import SshAddress
from ofa_tvm.boards.ports import known_board
from ofa_tvm.boards.registry import COMMAND, Board, check_name
from ofa_tvm.errors import UsageError
from ofa_tvm.targets import Target


def wanted_board(
    target: Target,
    *,
    name: str | None = None,
    ssh: str | None = None,
    identity: Path | None = None,
    systemd: bool | None = None,
    lan: bool | None = None,
) -> Board:
    """The board to set up; options that are None were not given.

    Raises
    ------
    UsageError
        The target needs no board, the name is none, nobody says where the board is, or the name is another board's.
    """
    if (kind := target.device.kind) != "rpc":
        raise UsageError(f"target {target.name!r} needs no board: its device.kind is {kind}")
    name = name or target.name
    check_name(name)
    known = known_board(name)
    address = _address(target, ssh, known)
    return Board(
        name=name,
        target=target.name,
        key=target.device.key,
        user=address.user,
        host=address.host,
        ssh_port=address.port,
        identity=identity or (known.identity if known else None),
        runtime=known.runtime if known else "python",
        lan=(known is not None and known.lan) if lan is None else lan,
        systemd=(known is not None and known.systemd) if systemd is None else systemd,
        threads=target.threads,
        emulated=target.emulated,
    )


def _address(target: Target, ssh: str | None, known: Board | None) -> SshAddress:
    address = SshAddress.parse(ssh) if ssh else None
    if known and address not in (None, known.address):
        raise UsageError(
            f"{known.name} is the board at {known.address}, not the one at {address}; give this one another name"
            f" (--name), or forget the other: {COMMAND} remove {known.name}"
        )
    if known:
        return known.address
    if address:
        return address
    if target.device.ssh is None:
        raise UsageError(f"where is the board? target {target.name!r} names no device.ssh; add --ssh USER@HOST[:PORT]")
    return SshAddress.parse(target.device.ssh)
