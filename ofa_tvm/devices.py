"""Trackers and boards: ``python -m ofa_tvm.devices list|check|setup|start|stop|remove|emulate``."""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("ofa_tvm.devices")

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ofa_tvm.console import new_app
from ofa_tvm.device_tables import CopyBar, board_table, check_table, inventory_table
from ofa_tvm.display import print_result, say
from ofa_tvm.errors import OfaTvmError, UsageError
from ofa_tvm.options import JsonOption, TrackerOption
from ofa_tvm.targets import Target, emulated_variant, load_target

if TYPE_CHECKING:
    from ofa_tvm.boards.registry import Board
    from ofa_tvm.measurement.tracker import TrackerAddress

app = new_app(
    """Find, set up and check the devices that are measured on.

    A board is reached over SSH, and everything listens on loopback; docs/devices.md goes through it step by step.
    """,
    "python -m ofa_tvm.devices list",
    "python -m ofa_tvm.devices setup rasp4 --ssh pi@192.168.1.20",
    "python -m ofa_tvm.devices check rasp4",
    "python -m ofa_tvm.devices stop rasp4",
    "python -m ofa_tvm.devices remove rasp4",
    "python -m ofa_tvm.devices emulate rasp4 --count 2",
)

TargetArgument = Annotated[str, typer.Argument(metavar="TARGET", help="A target's name or file.", show_default=False)]
CheckedArgument = Annotated[
    str, typer.Argument(metavar="TARGET", help="A target's name or file, or a board's name.", show_default=False)
]
BoardsArgument = Annotated[
    str, typer.Argument(metavar="BOARD", help="A board, or a target: all boards of it.", show_default=False)
]
RuntimeOption = Annotated[
    Literal["auto", "python", "native"] | None,
    typer.Option("--runtime", help="What to install; auto (default): python where the board has one that fits."),
]


@app.command("list")
def list_devices(tracker: TrackerOption = None, as_json: JsonOption = False) -> None:
    """Show the tracker's devices, free and busy, the requests that wait there, and the boards known here."""
    from ofa_tvm.boards.inventory import take_inventory
    from ofa_tvm.measurement.devices import tracker_address

    inventory = take_inventory(tracker_address(tracker), say)
    for status in inventory.boards:
        if status.reason:
            say(f"{status.board.name}: {status.reason}")
    if not (inventory.boards or inventory.keys):
        say("nothing is here yet; a board: python -m ofa_tvm.devices setup TARGET --ssh USER@HOST, or an emulated one:")
        say("python -m ofa_tvm.devices emulate rasp4")
    print_result(inventory.to_dict(), as_json, inventory_table(inventory))


@app.command()
def check(target: CheckedArgument, tracker: TrackerOption = None, as_json: JsonOption = False) -> None:
    """Look at each free device of a target: versions, CPU features, state, round trip, and a kernel's numbers.

    Exit code 5 if a device computes something wrong, or its CPU lacks what the target compiles for.
    """
    from ofa_tvm.boards.check import check_devices
    from ofa_tvm.boards.inventory import target_called

    target = target_called(target)
    reports = check_devices(load_target(target), tracker, say)
    for report in reports:
        for problem in report.problems:
            say(f"{report.name}: {problem}")
    print_result({"devices": [report.to_dict() for report in reports]}, as_json, check_table(target, reports))
    if not all(report.fit for report in reports):
        raise typer.Exit(5)


@app.command()
def setup(
    target: TargetArgument,
    ssh: Annotated[
        str | None, typer.Option("--ssh", metavar="USER@HOST[:PORT]", help="Where the board is; default the target's.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call it; default the target's name.")] = None,
    identity: Annotated[
        Path | None, typer.Option("--identity", help="SSH private key; default those of the agent and of ~/.ssh.")
    ] = None,
    accept_host_key: Annotated[
        str | None, typer.Option("--accept-host-key", metavar="SHA256:...", help="The board's fingerprint.")
    ] = None,
    runtime: RuntimeOption = None,
    systemd: Annotated[
        bool | None, typer.Option("--systemd/--no-systemd", help="Let the board start its server when it boots.")
    ] = None,
    lan: Annotated[
        bool | None,
        typer.Option(
            "--lan/--no-lan",
            help="No SSH forwarding: listen on the network. Anybody there can run code on it.",
        ),
    ] = None,
    start_it: Annotated[bool, typer.Option("--start/--no-start", help="Also start its server.")] = True,
    tracker: TrackerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Install what a board needs over SSH, and start its RPC server; what is there already stays as it is.

    For a board that was set up before, options that are left out keep what they were.
    """
    from ofa_tvm.boards.installing import install
    from ofa_tvm.boards.lifecycle import start as start_board
    from ofa_tvm.boards.registry import board_names
    from ofa_tvm.boards.wanted import wanted_board
    from ofa_tvm.measurement.tracker import summarize

    device_target = load_target(target)
    board = wanted_board(device_target, name=name, ssh=ssh, identity=identity, systemd=systemd, lan=lan)
    trackers_address = _tracker(device_target, tracker)
    if start_it:
        summarize(trackers_address)  # better known before the installation than after it
    runtime = runtime or (board.runtime if board.name in board_names() else "auto")
    with CopyBar() as bar:
        board, changed = install(
            board, say, runtime=runtime, accept_fingerprint=accept_host_key, progress=bar.show
        )  # fmt: skip
    if not changed:
        say(f"{board.name} is set up already: nothing to install")
    if start_it:
        board = start_board(board, trackers_address, say)
    result = {"board": board.model_dump(mode="json"), "changed": changed, "started": start_it}
    print_result(result, as_json, board_table("Set up", [board]))


@app.command()
def start(board: BoardsArgument, tracker: TrackerOption = None, as_json: JsonOption = False) -> None:
    """Start the RPC servers of boards that were set up, and their links; what runs already is left alone."""
    from ofa_tvm.boards.inventory import boards_called
    from ofa_tvm.boards.lifecycle import start as start_board

    boards = _each(boards_called(board, say), lambda found: start_board(found, _tracker_of(found, tracker), say))
    result = {"started": [found.model_dump(mode="json") for found in boards]}
    print_result(result, as_json, board_table("Started", boards))


@app.command()
def stop(board: BoardsArgument, as_json: JsonOption = False) -> None:
    """Stop the RPC servers of boards and their links; emulated boards are gone then."""
    from ofa_tvm.boards.inventory import boards_called

    boards = _each(boards_called(board, say), _stop)
    print_result({"stopped": [found.name for found in boards]}, as_json, board_table("Stopped", boards))


@app.command()
def remove(
    board: BoardsArgument,
    forget: Annotated[
        bool, typer.Option("--forget", help="Also if it can't be reached: then what is on it stays there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop boards, remove what was installed there unless another host's server uses it, and forget them."""
    from ofa_tvm.boards.inventory import boards_called
    from ofa_tvm.boards.registry import is_emulated_here
    from ofa_tvm.boards.removal import remove as remove_board

    def remove_it(found: Board) -> Board:
        if is_emulated_here(found):
            return _stop(found)
        remove_board(found, say, forget=forget)
        return found

    boards = _each(boards_called(board, say), remove_it)
    print_result({"removed": [found.name for found in boards]}, as_json, board_table("Removed", boards))


@app.command()
def emulate(
    target: TargetArgument,
    count: Annotated[int, typer.Option("--count", min=1, max=16, help="How many boards.")] = 1,
    runtime: Annotated[
        Literal["python", "native"], typer.Option("--runtime", help="What to install; native is much quicker.")
    ] = "native",
    tracker: TrackerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start emulated boards of a 64-bit Arm target and set them up over SSH. Their times mean nothing."""
    from ofa_tvm.boards.emulated_boards import start_emulated_boards

    variant = emulated_variant(load_target(target))
    boards = start_emulated_boards(variant, count, _tracker(variant, tracker), say, runtime=runtime)
    say(f"measure on them: python -m ofa_tvm.profile --target {variant.name}{f' --tracker {tracker}' * bool(tracker)}")
    result = {"target": variant.name, "emulated": True, "boards": [board.model_dump(mode="json") for board in boards]}
    print_result(result, as_json, board_table("Emulated boards: their times mean nothing", boards))


def _each(boards: list[Board], do: Callable[[Board], Board]) -> list[Board]:
    """Do something to all boards, even if it fails for some; the first error comes at the end."""
    done: list[Board] = []
    errors: list[OfaTvmError] = []
    for board in boards:
        try:
            done.append(do(board))
        except OfaTvmError as error:
            if errors:
                say(str(error))
            errors.append(error)
    if errors:
        raise errors[0]
    return done


def _stop(board: Board) -> Board:
    from ofa_tvm.boards.emulated_boards import stop_emulated_board
    from ofa_tvm.boards.lifecycle import stop as stop_board
    from ofa_tvm.boards.registry import is_emulated_here

    if is_emulated_here(board):
        stop_emulated_board(board.name)
        say(f"{board.name} is stopped and gone")
    else:
        stop_board(board, say)
    return board


def _tracker(target: Target, tracker: str | None) -> TrackerAddress:
    from ofa_tvm.measurement.devices import tracker_address

    return tracker_address(tracker, target.device)


def _tracker_of(board: Board, tracker: str | None) -> TrackerAddress:
    """As given, else that of the board's target, as far as it is known by name."""
    from ofa_tvm.measurement.devices import tracker_address

    with contextlib.suppress(UsageError):
        return tracker_address(tracker, load_target(board.target).device)
    return tracker_address(tracker)
