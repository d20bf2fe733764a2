"""Emulated boards as boards: started, set up over SSH like any other, forgotten when they stop."""

from __future__ import annotations

import base64
import contextlib
import itertools
from collections.abc import Iterator

import paramiko

from ofa_tvm.boards.address import SshAddress
from ofa_tvm.boards.emulation.board import EmulatedBoard, clean_stale, find_boards, start_board, stop_board
from ofa_tvm.boards.host_keys import fingerprint, forget_host
from ofa_tvm.boards.installing import install
from ofa_tvm.boards.inventory import is_gone
from ofa_tvm.boards.lifecycle import start
from ofa_tvm.boards.link_control import stop_link
from ofa_tvm.boards.link_state import forget_link
from ofa_tvm.boards.probe import Runtime
from ofa_tvm.boards.registry import Board, emulated_folder, known_hosts_file, registered_boards, remove_board
from ofa_tvm.errors import EmulationError
from ofa_tvm.measurement.local_processes import local_tracker
from ofa_tvm.measurement.tracker import TrackerAddress
from ofa_tvm.reporting import Say
from ofa_tvm.targets import Target


def start_emulated_boards(
    target: Target,
    count: int,
    tracker: TrackerAddress,
    say: Say,
    *,
    runtime: Runtime = "native",
    tethered: bool = False,
) -> list[Board]:
    """Start boards beside those that run, set them up over SSH, and start their servers and links.

    Parameters
    ----------
    target
        An emulated variant (`ofa_tvm.targets.emulated_variant`).
    tethered
        Boards and links end with the thread that calls this, even if that is killed.

    Raises
    ------
    TrackerUnreachableError, EmulationError, BoardSetUpError, BoardUnreachableError
        As the steps raise them; no board that was started here is left then.
    """
    forget_gone()
    with contextlib.ExitStack() as undo:
        boards = []
        for _ in range(count):
            board = _start_next(target, say, tethered)
            undo.callback(stop_emulated_board, board.name)
            boards.append(_set_up(target, board, tracker, say, runtime, tethered))
        undo.pop_all()
    return boards


@contextlib.contextmanager
def emulated_farm(target: Target, say: Say) -> Iterator[TrackerAddress]:
    """A tracker of our own with one emulated board, for as long as the context lasts, even if this process is killed.

    Raises
    ------
    TrackerUnreachableError, EmulationError, BoardSetUpError, BoardUnreachableError
        As `start_emulated_boards`.
    """
    with local_tracker() as tracker:
        (board,) = start_emulated_boards(target, 1, tracker, say, tethered=True)
        try:
            yield tracker
        finally:
            stop_emulated_board(board.name)


def stop_emulated_board(name: str) -> None:
    """Stop a board and its link, and forget it; some of it may be gone already.

    Raises
    ------
    EmulationError
        Something of it resists.
    """
    known = next((board for board in registered_boards() if board.name == name), None)
    addresses = {known.address.known_hosts_name} if known else set()
    if known is not None:
        stop_link(known)
    for board in find_boards(emulated_folder()):
        if board.name == name:
            addresses.add(_address(board).known_hosts_name)  # of one whose set-up was interrupted, too
            stop_board(board)
    clean_stale(emulated_folder())  # of one that was killed
    for address in addresses:
        forget_host(known_hosts_file(), address)
    forget_link(name)
    remove_board(name)


def forget_gone() -> None:
    """Clean up after boards that were killed, or that a restart of this host has ended."""
    clean_stale(emulated_folder())
    for board in registered_boards():
        if is_gone(board):
            stop_emulated_board(board.name)


def _set_up(
    target: Target, emulated: EmulatedBoard, tracker: TrackerAddress, say: Say, runtime: Runtime, tethered: bool
) -> Board:
    board = Board(
        name=emulated.name,
        target=target.name,
        key=target.device.key,
        user=emulated.user,
        host=emulated.address,
        ssh_port=emulated.ssh_port,
        identity=emulated.identity,
        threads=target.threads,
        emulated=True,
    )
    forget_host(known_hosts_file(), board.address.known_hosts_name)  # of an earlier board with this address
    host_key = paramiko.Ed25519Key(data=base64.b64decode(emulated.host_key.split()[1]))
    board, _ = install(board, say, runtime=runtime, accept_fingerprint=fingerprint(host_key))
    return start(board, tracker, say, tethered=tethered)


def _address(board: EmulatedBoard) -> SshAddress:
    return SshAddress(board.user, board.address, board.ssh_port)


def _start_next(target: Target, say: Say, tethered: bool) -> EmulatedBoard:
    """Under the first number that no running board has; another command may take it at the same moment."""
    for number in itertools.count(1):
        name = f"{target.name}-{number}"
        if name in _running():
            continue
        try:
            return start_board(target, name, emulated_folder(), say, tethered=tethered)
        except EmulationError:
            if name not in _running():
                raise
    raise AssertionError


def _running() -> set[str]:
    return {board.name for board in find_boards(emulated_folder())}
