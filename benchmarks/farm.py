"""Measurements a minute with several devices, and what RPC and the SSH tunnel cost each of them.

Usage::

    sudo .venv/bin/python benchmarks/farm.py             # five minutes: all of it
    python benchmarks/farm.py                            # without root: RPC on loopback alone
    python benchmarks/farm.py --only rpc --kernels 32 --repeats 5 --json

Kernels of the shipped supernet's space are built beforehand, so that only measuring counts. Each repeat goes through
all rows of a table once, over connections of its own; figures are medians of the repeats.

``farm`` measures on emulated boards over SSH: their times mean nothing, how many measurements there are a minute does.
They share this host's cores. ``rpc`` measures on this host's CPU on several ways, one of them through the link
of a board that is this very machine, behind an SSH server in namespaces of its own.
"""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("farm")

import contextlib
import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from farm_board import local_board, require_ssh_server, server_beside
from farm_kernels import Kernels, build_kernels
from farm_scaling import Rate, measure_rate
from farm_tables import scaling_rows, scaling_table, way_rows, ways_table
from farm_ways import Pass, pass_in_process, pass_over_rpc
from figures import MarkdownOption, print_figures
from provenance import load_average, machine

from ofa_tvm.boards.emulated_boards import start_emulated_boards, stop_emulated_board
from ofa_tvm.boards.emulation.requirements import require_host
from ofa_tvm.console import new_app
from ofa_tvm.display import say
from ofa_tvm.errors import EmulationError
from ofa_tvm.measurement.local_processes import local_processes, local_tracker
from ofa_tvm.options import JsonOption, SupernetOption
from ofa_tvm.space.mobilenet_v3 import all_workloads
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.targets import DeviceAccess, MeasurementProtocol, Target, emulated_variant, load_target

app = new_app("Measurements a minute with several emulated devices, and what RPC and the SSH tunnel cost.")

Build = Callable[[Target], Kernels]

BOARD = "rasp4"
ANY_DRIFT = 1e9
"""Of the reference kernel: nothing is to be measured twice here."""


@app.command()
def farm(
    supernet: SupernetOption = DEFAULT_SUPERNET,
    only: Annotated[Literal["farm", "rpc"] | None, typer.Option("--only", help="One of the two tables.")] = None,
    kernels: Annotated[int, typer.Option("--kernels", min=1, help="How many, of one resolution.")] = 64,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Of each row.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="A minute: few kernels, two devices, one repeat.")] = False,
    as_json: JsonOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Parse, measure what this machine can, print."""
    if quick:
        kernels, repeats = min(kernels, 6), 1
    space = find_supernet(supernet).metadata.space
    resolution = space.resolutions[len(space.resolutions) // 2]
    kernels = min(kernels, len(all_workloads(space, resolution)))
    if only == "farm":
        require_host()
    result: dict[str, Any] = {**machine(), "load_before": load_average()}
    result |= {"resolution": resolution, "kernels": kernels, "repeats": repeats}
    with tempfile.TemporaryDirectory(prefix="ofa_tvm.") as name:
        build = functools.partial(build_kernels, space=space, resolution=resolution, count=kernels, folder=Path(name))
        if only != "rpc" and _is_possible(require_host):
            result["farm"] = _scaling(build, repeats, (1, 2) if quick else (1, 2, 4))
        if only != "farm":
            result["rpc"] = _overhead(build, repeats)
    result["load_after"] = load_average()
    tables = [table(result) for name, table in (("farm", scaling_table), ("rpc", ways_table)) if name in result]
    print_figures("farm", result, tables, as_json=as_json, markdown=markdown)


def _is_possible(require: Callable[[], None]) -> bool:
    """Say what is left out if something is missing here."""
    try:
        require()
    except EmulationError as error:
        say(f"left out: {error}")
        return False
    return True


def _scaling(build: Build, repeats: int, numbers: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row for each protocol and number of devices."""
    target = emulated_variant(load_target(BOARD))
    say(f"building kernels for {target.name}")
    kernels = build(target)
    found: dict[tuple[str, int], list[Rate]] = {}
    with local_tracker() as tracker, contextlib.ExitStack() as stack:
        for board in start_emulated_boards(target, max(numbers), tracker, say, tethered=True):
            stack.callback(stop_emulated_board, board.name)
        for repeat in range(repeats):
            for protocol_name, protocol in _protocols(target).items():
                for devices in numbers:
                    say(f"repeat {repeat + 1} of {repeats}, protocol {protocol_name}: {devices} emulated devices")
                    rate = measure_rate(target, tracker, kernels, devices, protocol)
                    found.setdefault((protocol_name, devices), []).append(rate)
    return scaling_rows(found)


def _protocols(target: Target) -> dict[str, MeasurementProtocol]:
    """The emulated target's own, and the board's, in which a device pauses most of the time."""
    short = target.measurement
    board = load_target(BOARD).measurement.model_copy(update={"max_drift": ANY_DRIFT, "timeout_s": short.timeout_s})
    return {"short": short.model_copy(update={"max_drift": ANY_DRIFT}), "with pauses": board}


def _overhead(build: Build, repeats: int) -> list[dict[str, Any]]:
    """A row for each way to this host's CPU."""
    local = load_target("local")
    protocol = local.measurement.model_copy(update={"max_drift": ANY_DRIFT})
    say("building kernels for this host")
    kernels = build(local)
    targets = {"python": _with_key(local, "python")}
    passes: dict[str, list[Pass]] = {}
    with local_tracker() as tracker, local_processes("ofa_tvm_server_") as servers, contextlib.ExitStack() as stack:
        servers.start("server.py", "--tracker", str(tracker), "--key", "python", "--threads", str(local.threads))
        if _is_possible(require_ssh_server):
            targets |= {"native": _with_key(local, "native"), "tunnel": _with_key(local, "tunnel")}
            board = stack.enter_context(local_board(targets["tunnel"], tracker, say))
            stack.enter_context(server_beside(board, targets["native"], tracker))
        for repeat in range(repeats):
            say(f"repeat {repeat + 1} of {repeats}: this CPU in this process, {', '.join(targets)}")
            passes.setdefault("process", []).append(pass_in_process(kernels, protocol))
            for way, target in targets.items():
                passes.setdefault(way, []).append(pass_over_rpc(target, tracker, kernels, protocol, say))
    return way_rows(passes)


def _with_key(target: Target, key: str) -> Target:
    """The same CPU as a device of its own at a tracker."""
    return target.model_copy(update={"device": DeviceAccess(kind="rpc", key=key)})
