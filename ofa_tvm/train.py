"""Train a supernet by progressive shrinking on rendered images of characters: ``python -m ofa_tvm.train``."""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("ofa_tvm.train")

from pathlib import Path
from typing import Annotated

import typer

from ofa_tvm.console import new_app
from ofa_tvm.display import TERMINAL, print_result, say
from ofa_tvm.errors import UsageError
from ofa_tvm.names import check_plain
from ofa_tvm.options import DryRunOption, JsonOption, SeedOption, positive_float
from ofa_tvm.space.architecture import RESOLUTION_STEP
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.training.phases import progressive_shrinking

app = new_app(
    """Train a supernet by progressive shrinking on rendered images of characters; about an hour on one CPU core.

    Stopped at any moment, the same command goes on from the last saved state.
    """,
    "python -m ofa_tvm.train --out runs/train",
    "python -m ofa_tvm.train --out runs/wide --width 1.0 --threads 4",
)


@app.command()
def train(
    out: Annotated[Path, typer.Option("--out", help="Folder of the state, the log and the trained supernet.")] = Path(
        "runs/train"
    ),
    name: Annotated[str, typer.Option("--name", help="Name of the trained supernet.")] = "characters",
    width: Annotated[
        float, typer.Option("--width", help="Width multiplier of MobileNetV3.", callback=positive_float)
    ] = 0.5,
    resolutions: Annotated[
        str, typer.Option("--resolutions", help="First and last input size in pixels; by a step of 4 between.")
    ] = "32:64",
    scale: Annotated[
        float, typer.Option("--scale", help="Multiplies the steps of all phases.", callback=positive_float)
    ] = 1.0,
    threads: Annotated[int, typer.Option("--threads", min=1, help="CPU threads.")] = 1,
    seed: SeedOption = 0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Parse, train phase by phase, write the supernet."""
    from ofa_tvm.training.glyphs import CLASS_NAMES
    from ofa_tvm.training.run import train_supernet

    check_plain(name, "--name")
    space = SearchSpace(width, len(CLASS_NAMES), _resolutions(resolutions))
    phases = progressive_shrinking(space, scale)
    for phase in phases:
        say(f"{phase.name}: {phase.steps} steps, {phase.subnets_per_step} subnet(s) a step")
    if dry_run:
        return
    command = f"python -m ofa_tvm.train --width {width:g} --resolutions {resolutions} --scale {scale:g} --seed {seed}"
    folder = train_supernet(name, space, phases, out, seed, threads, command, TERMINAL)
    print_result(
        {"supernet": str(folder.path), "weights_sha256": folder.metadata.weights_sha256, "seed": seed}, as_json
    )


def _resolutions(text: str) -> tuple[int, ...]:
    try:
        first, last = (int(part) for part in text.split(":"))
    except ValueError:
        raise UsageError(f"--resolutions {text!r}: give the first and the last, as in 32:64") from None
    if not 0 < first <= last:
        raise UsageError(f"--resolutions {text!r}: the first must be positive and not above the last")
    return tuple(range(first, last + 1, RESOLUTION_STEP))
