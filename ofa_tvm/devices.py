"""Trackers and boards: ``python -m ofa_tvm.devices list|check|setup|start|stop|emulate``."""

from __future__ import annotations

from ofa_tvm import console  # isort: skip  # first: Ctrl-C during the imports below is one line, too

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ofa_tvm.device_tables import board_table, check_table, inventory_table
from ofa_tvm.display import Progress, print_result, progress, say
from ofa_tvm.errors import UsageError
from ofa_tvm.targets import Target, emulated_variant, load_target

if TYPE_CHECKING:
    from ofa_tvm.boards.address import SshAddress
    from ofa_tvm.boards.registry import Board
    from ofa_tvm.measurement.tracker import TrackerAddress

app = console.new_app(
    """Find, set up and check the devices that are measured on.

    A board is reached over SSH, and everything listens on loopback; docs/devices.md goes through it step by step.
    """,
    "python -m ofa_tvm.devices list",
    "python -m ofa_tvm.devices setup rasp4 --ssh pi@192.168.1.20",
    "python -m ofa_tvm.devices check rasp4",
    "python -m ofa_tvm.devices stop rasp4",
    "python -m ofa_tvm.devices emulate rasp4 --count 2",
)

TargetArgument = Annotated[str, typer.Argument(metavar="TARGET", help="A target's name or file.", show_default=False)]
BoardsArgument = Annotated[
    str, typer.Argument(metavar="BOARD", help="A board, or a target: all boards of it.", show_default=False)
]
RuntimeOption = Annotated[
    Literal["auto", "python", "native"],
    typer.Option("--runtime", help="What to install: python where the board has one that fits, else native."),
]


@app.command("list")
def list_devices(tracker: console.TrackerOption = None, as_json: console.JsonOption = False) -> None:
    """Show the tracker's devices, free and busy, the requests that wait there, and the boards known here."""
    from ofa_tvm.boards.inventory import take_inventory
    from ofa_tvm.measurement.devices import tracker_address

    inventory = take_inventory(tracker_address(tracker))
    print_result(inventory.to_dict(), as_json, inventory_table(inventory))


@app.command()
def check(target: TargetArgument, tracker: console.TrackerOption = None, as_json: console.JsonOption = False) -> None:
    """Look at each free device of a target: versions, CPU features, state, round trip, and a kernel's numbers.

    Exit code 5 if a device computes something wrong, or its CPU lacks what the target compiles for.
    """
    from ofa_tvm.boards.check import check_devices

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
    runtime: RuntimeOption = "auto",
    systemd: Annotated[bool, typer.Option("--systemd", help="Let the board start its server when it boots.")] = False,
    lan: Annotated[
        bool, typer.Option("--lan", help="No SSH forwarding: listen on the network. Anybody there can run code on it.")
    ] = False,
    start_it: Annotated[bool, typer.Option("--start/--no-start", help="Also start its server.")] = True,
    tracker: console.TrackerOption = None,
    as_json: console.JsonOption = False,
) -> None:
    """Install what a board needs over SSH, and start its RPC server; what is there already stays as it is."""
    from ofa_tvm.boards.lifecycle import install
    from ofa_tvm.boards.lifecycle import start as start_board
    from ofa_tvm.boards.registry import Board, check_name
    from ofa_tvm.measurement.tracker import summarize

    device_target = load_target(target)
    check_name(name or device_target.name)
    address = _ssh_address(device_target, ssh)
    trackers_address = _tracker(device_target, tracker)
    if start_it:
        summarize(trackers_address)  # better known before the installation than after it
    board = Board(
        name=name or device_target.name,
        target=device_target.name,
        key=device_target.device.key,
        user=address.user,
        host=address.host,
        ssh_port=address.port,
        identity=identity.absolute() if identity else None,
        lan=lan,
        systemd=systemd,
        threads=device_target.threads,
        emulated=device_target.emulated,
    )
    with _CopyBar() as bar:
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
def start(board: BoardsArgument, tracker: console.TrackerOption = None, as_json: console.JsonOption = False) -> None:
    """Start the RPC servers of boards that were set up, and their links; what runs already is left alone."""
    from ofa_tvm.boards.inventory import boards_called
    from ofa_tvm.boards.lifecycle import start as start_board

    boards = [start_board(found, _tracker_of(found, tracker), say) for found in boards_called(board)]
    result = {"started": [found.model_dump(mode="json") for found in boards]}
    print_result(result, as_json, board_table("Started", boards))


@app.command()
def stop(board: BoardsArgument, as_json: console.JsonOption = False) -> None:
    """Stop the RPC servers of boards and their links; emulated boards are gone then."""
    from ofa_tvm.boards.emulated_boards import stop_emulated_board
    from ofa_tvm.boards.inventory import boards_called, is_emulated_here
    from ofa_tvm.boards.lifecycle import stop as stop_board

    boards = boards_called(board)
    for found in boards:
        if is_emulated_here(found):
            stop_emulated_board(found.name)
            say(f"{found.name} is stopped and gone")
        else:
            stop_board(found, say)
    print_result({"stopped": [found.name for found in boards]}, as_json, board_table("Stopped", boards))


@app.command()
def emulate(
    target: TargetArgument,
    count: Annotated[int, typer.Option("--count", min=1, max=16, help="How many boards.")] = 1,
    runtime: Annotated[
        Literal["python", "native"], typer.Option("--runtime", help="What to install; native is much quicker.")
    ] = "native",
    tracker: console.TrackerOption = None,
    as_json: console.JsonOption = False,
) -> None:
    """Start emulated boards of a 64-bit Arm target and set them up over SSH. Their times mean nothing."""
    from ofa_tvm.boards.emulated_boards import start_emulated_boards

    variant = emulated_variant(load_target(target))
    boards = start_emulated_boards(variant, count, _tracker(variant, tracker), say, runtime=runtime)
    say(f"measure on them: python -m ofa_tvm.profile --target {variant.name}")
    result = {"target": variant.name, "emulated": True, "boards": [board.model_dump(mode="json") for board in boards]}
    print_result(result, as_json, board_table("Emulated boards: their times mean nothing", boards))


class _CopyBar:
    """Shows how many MiB have been copied, from the first one on."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._bar: Progress | None = None
        self._shown = 0

    def __enter__(self) -> _CopyBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def show(self, done: int, total: int) -> None:
        """Bytes that have arrived, and bytes in all."""
        if self._bar is None:
            self._bar = self._stack.enter_context(progress(total >> 20, "copied, MiB"))
        self._bar.advance((done >> 20) - self._shown)
        self._shown = done >> 20
        if done == total:
            self._stack.close()


def _ssh_address(target: Target, ssh: str | None) -> SshAddress:
    from ofa_tvm.boards.address import SshAddress

    text = ssh or target.device.ssh
    if text is None:
        raise UsageError(f"where is the board? target {target.name!r} names no device.ssh; add --ssh USER@HOST[:PORT]")
    return SshAddress.parse(text)


def _tracker(target: Target, tracker: str | None) -> TrackerAddress:
    from ofa_tvm.measurement.devices import tracker_address

    return tracker_address(tracker, target.device)


def _tracker_of(board: Board, tracker: str | None) -> TrackerAddress:
    """As given, else that of the board's target, as far as it is known by name."""
    from ofa_tvm.measurement.devices import tracker_address

    with contextlib.suppress(UsageError):
        return tracker_address(tracker, load_target(board.target).device)
    return tracker_address(tracker)


if __name__ == "__main__":
    console.run(app)
