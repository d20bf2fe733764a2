"""Tuning from an empty database: how fast it is, and what it gives.

Usage::

    python benchmarks/tuning.py                                     # 160 px, then 192 px, of MobileNetV3 w1.0
    python benchmarks/tuning.py --resolutions 160 --metaschedule-minutes 30
    python benchmarks/tuning.py --supernet characters --resolutions 48 --minutes 2 --records kept --json

``python -m ofa_tvm.tune`` is run as its user would, once a resolution, the first from an empty database and each of the
others with what those before it have found. Then random subnets of these resolutions are compiled with the parameters
that the cost model picks and with the tuned ones, and take turns. With ``--metaschedule-minutes``, general search by
MetaSchedule gets so long for the first of these subnets alone, which then takes part, too.
"""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("tuning")

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from figures import MarkdownOption, print_figures, section_name
from provenance import load_average, machine
from tuning_table import tuning_table

from ofa_tvm.console import new_app
from ofa_tvm.display import say
from ofa_tvm.errors import MeasurementError, UsageError
from ofa_tvm.options import JsonOption, SeedOption, positive_float
from ofa_tvm.space.named import chosen_resolutions

_SPACE = "mobilenet_v3_w1.0"

app = new_app("Tune a search space from an empty database, and compare what it gives with merely modelled kernels.")


@app.command()
def tuning(
    supernet: Annotated[
        str | None, typer.Option("--supernet", help=f"A supernet's name or folder; default random weights of {_SPACE}.")
    ] = None,
    resolutions: Annotated[str, typer.Option("--resolutions", help="To be tuned in this order.")] = "160,192",
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Limit of each resolution; default none.", callback=positive_float)
    ] = None,
    candidates: Annotated[int | None, typer.Option("--candidates", min=1, help="As of ofa_tvm.tune.")] = None,
    subnets: Annotated[int, typer.Option("--subnets", min=1, help="How many subnets of each resolution.")] = 3,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Samples of each subnet.")] = 30,
    metaschedule_minutes: Annotated[
        float | None, typer.Option("--metaschedule-minutes", help="Of general search.", callback=positive_float)
    ] = None,
    records: Annotated[Path | None, typer.Option("--records", help="Keep the records here; default nowhere.")] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Parse, tune, compile, compare, print."""
    os.environ["TVM_NUM_THREADS"] = "1"  # read once, when TVM is imported
    from subjects import chosen_space

    chosen_resolutions(resolutions, chosen_space(supernet))  # says what is wrong with them
    chosen = [int(part) for part in resolutions.split(",")]
    if records is not None and records.exists() and (not records.is_dir() or any(records.iterdir())):
        what = "not empty, and this starts from nothing" if records.is_dir() else "a file"
        raise UsageError(f"--records {records}: {what}; name another folder")
    load_before = load_average()
    with tempfile.TemporaryDirectory(prefix="ofa_tvm.") as name:
        runs = records or Path(name) / "runs"
        options = ["--supernet", supernet] if supernet else ["--space", _SPACE]
        options += ["--minutes", str(minutes)] if minutes else []
        options += ["--candidates", str(candidates)] if candidates else []
        rows = [_tune(resolution, options, runs) for resolution in chosen]
        from tuned_subnets import compare_subnets

        gains = compare_subnets(supernet, chosen, subnets, repeats, seed, runs, Path(name), metaschedule_minutes)
    loads = {"load_before": load_before, "load_after": load_average()}
    result = {**machine(), **loads, "space": supernet or _SPACE, "repeats": repeats, "tuning": rows, **gains}
    print_figures(section_name("tuning", supernet), result, [tuning_table(result)], as_json=as_json, markdown=markdown)


def _tune(resolution: int, options: list[str], runs: Path) -> dict[str, Any]:
    """One row: what the command says of this resolution, and how long it took from start to end."""
    say(f"tuning {resolution} px")
    command = ["-m", "ofa_tvm.tune", "--target", "local", *options]
    command += ["--resolutions", str(resolution), "--runs", str(runs)]
    before = _status([*command, "--status"]) if runs.exists() else {"known": 0, "complete": 0}
    start_s = time.monotonic()
    status = _status(command)
    seconds = time.monotonic() - start_s
    candidates = status["known"] - before["known"]
    return {
        "resolution": resolution,
        "kernels": status["kernels"],
        "known_before": before["complete"],
        "complete": status["complete"],
        "candidates": candidates,
        "failed": status["failed"],
        "minutes": seconds / 60,
        "candidates_per_minute": 60 * candidates / seconds,
        "covered": status["covered"],
        "gain": status["gain"],
    }


def _status(command: list[str]) -> dict[str, Any]:
    """What the command says of all kernels when it is done."""
    done = subprocess.run([sys.executable, *command, "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise MeasurementError(f"python {' '.join(command)} ended with exit code {done.returncode}")
    status: dict[str, Any] = json.loads(done.stdout)["all"]
    return status
