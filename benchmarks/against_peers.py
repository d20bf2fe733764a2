"""Our libraries beside ONNX Runtime, OpenVINO, ExecuTorch and torch.compile on the very same subnets.

Usage::

    python benchmarks/against_peers.py                              # ten random subnets of MobileNetV3 w1.0
    python benchmarks/against_peers.py --supernet characters        # the shipped supernet's
    python benchmarks/against_peers.py --supernet characters runs/local/*/deployed-*
    python benchmarks/against_peers.py --threads 1 --peer onnx_runtime --peer open_vino --subnets 3 --json

Arguments are bundles that ``python -m ofa_tvm.deploy --target local`` wrote, of ``--supernet``. Without any, subnets
are compiled with the best kernels among the records in ``--runs``, and the table says how many of them were tuned.
Each system runs in a process of its own and they take turns; outputs are compared before anything is timed.
"""

from __future__ import annotations

if __name__ == "__main__":  # first: the entry point handles Ctrl-C while the imports below run
    from ofa_tvm.entry import enter

    enter("against_peers")

import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from figures import MarkdownOption, print_figures, section_name
from peer_tables import peer_table, subnet_row, summary
from provenance import load_average, machine
from systems import OURS, PEERS, TITLES

from ofa_tvm.console import new_app
from ofa_tvm.cpuinfo import usable_cpus
from ofa_tvm.display import progress, say
from ofa_tvm.errors import MeasurementError, UsageError
from ofa_tvm.options import JsonOption, RunsOption, SeedOption
from ofa_tvm.supernet.metadata import DEFAULT_SUPERNET, find_supernet
from ofa_tvm.targets import load_target
from ofa_tvm.workspace import DEFAULT_ROOT, Workspace

if TYPE_CHECKING:
    from subjects import Subject

    Entry = tuple[Subject, str]  # with where its kernels' parameters come from

app = new_app("Compare our libraries with those of other compilers and runtimes on the very same subnets.")


@app.command()
def against_peers(
    bundles: Annotated[list[Path] | None, typer.Argument(help="Bundles; without any, subnets are compiled.")] = None,
    supernet: Annotated[
        str | None, typer.Option("--supernet", help="A supernet's name or folder; default random weights of width 1.0.")
    ] = None,
    runs: RunsOption = DEFAULT_ROOT,
    subnets: Annotated[int, typer.Option("--subnets", min=1, help="How many subnets.")] = 10,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Samples of each system on each subnet.")] = 30,
    threads: Annotated[
        list[int] | None, typer.Option("--threads", min=1, help="Threads of all; default 1, then one a CPU.")
    ] = None,
    peers: Annotated[list[str] | None, typer.Option("--peer", help=f"Of {', '.join(PEERS)}; default all.")] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    markdown: MarkdownOption = False,
) -> None:
    """Parse, build, compare, print."""
    systems = _installed(tuple(peers or PEERS))
    load_before = load_average()
    with tempfile.TemporaryDirectory(prefix="ofa_tvm.") as name:
        if bundles:
            groups = _bundles(bundles, supernet or DEFAULT_SUPERNET, Path(name))
        else:
            counts = threads or sorted({1, usable_cpus()})
            groups = _compiled(supernet, runs, subnets, counts, seed, Path(name))
        results = [_compare(group, count, systems, repeats) for count, group in groups]
    result = {
        **machine(),
        **{"load_before": load_before, "load_after": load_average(), "repeats": repeats, "seed": seed},
        "threads": results,
    }
    print_figures(
        section_name("against_peers", "deployed" if bundles else supernet),
        result,
        [peer_table(result)],
        as_json=as_json,
        markdown=markdown,
        without=["relative error", "architecture"],
    )


def _installed(peers: tuple[str, ...]) -> tuple[str, ...]:
    """Ours and those that are there."""
    from system_process import installed

    if unknown := [peer for peer in peers if peer not in PEERS]:
        raise UsageError(f"--peer {unknown[0]}: known are {', '.join(PEERS)}")
    found = installed(peers)
    for peer in peers:
        if peer not in found:
            say(f"left out: {TITLES[peer]} is not installed; scripts/setup.sh --benchmarks installs it")
    return (OURS, *found)


def _compiled(
    supernet: str | None, runs: Path, subnets: int, counts: list[int], seed: int, root: Path
) -> Iterator[tuple[int, list[Entry]]]:
    """The same subnets for each number of threads, compiled when it is their turn."""
    from libraries import compile_subjects
    from subjects import chosen_architectures, chosen_supernet, write_subjects

    network = chosen_supernet(supernet, seed)
    say(f"exporting {subnets} subnets")
    subjects = write_subjects(network, chosen_architectures(supernet, network.space, subnets, seed), root, seed)
    for threads in counts:
        target = load_target("local").model_copy(update={"threads": threads})
        say(f"compiling them for {threads} thread{'s' * (threads > 1)}")
        records = Workspace(runs, target.name, "").records
        yield threads, list(zip(subjects, compile_subjects(subjects, target, records), strict=True))


def _bundles(bundles: list[Path], supernet: str, root: Path) -> Iterator[tuple[int, list[Entry]]]:
    """What was deployed, by its number of threads."""
    from libraries import write_bundle_subject

    say("building the subnets of the bundles")
    folder = find_supernet(supernet)
    groups: dict[int, list[Entry]] = {}
    for number, bundle in enumerate(bundles):
        subject, threads = write_bundle_subject(bundle, folder, root / str(number))
        groups.setdefault(threads, []).append((subject, "as deployed"))
    yield from sorted(groups.items())


def _compare(entries: list[Entry], threads: int, systems: tuple[str, ...], repeats: int) -> dict[str, Any]:
    """All systems on all subnets with one number of threads."""
    from peak import Peak
    from turns import fastest_setting, race

    peak = Peak(threads)
    settings: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    with progress(len(entries), f"subnets, threads: {threads}") as bar:
        for subject, kernels in entries:
            if not rows:  # the first subnet decides on the settings for all
                for system in systems:
                    module = importlib.import_module(f"systems.{system}")
                    chosen = fastest_setting(system, module.SETTINGS, subject.folder, threads, say)
                    settings |= {} if chosen is None else {system: chosen}
            found, gflops = race(settings, subject.folder, threads, repeats, peak, say)
            if OURS not in found:
                raise MeasurementError(f"our library of {subject.architecture} fails; the lines above say how")
            rows.append(subnet_row(subject, kernels, found, gflops))
            bar.advance()
    return {"threads": threads, "settings": settings, "subnets": rows, **summary(rows)}
