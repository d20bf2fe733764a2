"""Search the Pareto front of accuracy against latency, over the predictors: ``python -m ofa_tvm.search``."""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("ofa_tvm.search")

from typing import Annotated

import typer
from rich.table import Table

from ofa_tvm.console import new_app
from ofa_tvm.display import TERMINAL, print_result
from ofa_tvm.errors import OutputError
from ofa_tvm.evolution.front import Candidate
from ofa_tvm.options import LATENCY, JsonOption, RunsOption, SeedOption, SupernetOption, TargetOption
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.targets import load_target
from ofa_tvm.workspace import DEFAULT_ROOT, Workspace

app = new_app(
    """Search the subnets that no other beats in both predicted accuracy and predicted latency.

    Needs a profile of the target (python -m ofa_tvm.profile). Builds and measures nothing: that is deploy's part.
    """,
    "python -m ofa_tvm.search --target local",
    "python -m ofa_tvm.search --target local --latency 0.5 --json",
    "python -m ofa_tvm.search --target local --points 100 --json > front.json",
)


@app.command()
def search(
    target: TargetOption,
    latency: Annotated[float | None, LATENCY] = None,
    supernet: SupernetOption = DEFAULT_SUPERNET,
    points: Annotated[
        int, typer.Option("--points", min=2, help="Show so many subnets of the front, evenly spread; and the best.")
    ] = 20,
    runs: RunsOption = DEFAULT_ROOT,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Parse, search, print."""
    from ofa_tvm.evolution.front_of_space import find_front, load_predictors

    chosen, folder = load_target(target), find_supernet(supernet)
    name = chosen.name
    workspace = Workspace(runs, name, folder.metadata.name)
    workspace.check_profiled(f"--target {target}")
    predictors = load_predictors(chosen, folder, runs, workspace.records, workspace.latency_predictor, TERMINAL.say)
    front = find_front(predictors, latency, seed, TERMINAL)
    best = front.best_under(latency, name)[0] if latency is not None else None
    shown = _spread(list(front), points)
    if best is not None and best not in shown:
        shown = sorted([*shown, best], key=lambda candidate: candidate.predicted_latency_ms)
    result = {
        "target": name,
        "supernet": folder.metadata.name,
        "budget_ms": latency,
        "best": best.to_dict() if best else None,
        "front": [candidate.to_dict() for candidate in shown],
    }
    print_result(result, as_json, _table(name, shown, best))
    try:
        workspace.write_options(
            "search", {"target": target, "supernet": str(folder.path), "latency": latency, "seed": seed}
        )
    except OutputError as error:  # who may only read another's profile may search
        TERMINAL.say(f"the options of this search are not kept: {error}")


def _spread(front: list[Candidate], points: int) -> list[Candidate]:
    """So many of the front at even distances, the first and the last among them."""
    if len(front) <= points:
        return front
    return [front[round(index * (len(front) - 1) / (points - 1))] for index in range(points)]


def _table(target: str, shown: list[Candidate], best: Candidate | None) -> Table:
    table = Table("latency (predicted)", "accuracy (predicted)", "architecture", title=f"Pareto front on {target}")
    for candidate in shown:
        mark = " <- best under the budget" if candidate == best else ""
        table.add_row(
            f"{candidate.predicted_latency_ms:.3f} ms",
            f"{candidate.predicted_accuracy:.1%}",
            f"{candidate.architecture}{mark}",
        )
    return table
