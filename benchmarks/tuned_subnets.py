"""Whole subnets with modelled and with tuned kernels, and by MetaSchedule's general search, taking turns."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
from libraries import compile_subjects
from peer_tables import geometric_mean
from subjects import Subject, chosen_architectures, chosen_supernet, write_subjects
from systems import OURS
from systems.loaded import MODEL
from turns import take_turns

from ofa_tvm.display import progress, say
from ofa_tvm.targets import Target, load_target
from ofa_tvm.workspace import Workspace

MODELLED, TUNED, METASCHEDULE = "modelled", "tuned", "metaschedule"


def compare_subnets(
    supernet: str | None,
    resolutions: list[int],
    subnets: int,
    repeats: int,
    seed: int,
    runs: Path,
    folder: Path,
    metaschedule_minutes: float | None,
) -> dict[str, Any]:
    """Medians on one thread, and how many times as fast the tuned subnets are, as plain JSON values."""
    target = load_target("local").model_copy(update={"threads": 1})
    network = chosen_supernet(supernet, seed)
    architectures = [
        replace(architecture, resolution=resolution)
        for resolution in resolutions
        for architecture in chosen_architectures(supernet, network.space, subnets, seed)
    ]
    subjects = write_subjects(network, [*dict.fromkeys(architectures)], folder, seed)
    records = Workspace(runs, target.name, "").records
    compile_subjects(subjects, target, folder / "no_records.jsonl", f"{MODELLED}.so")
    kernels = compile_subjects(subjects, target, records, f"{TUNED}.so")
    search = None
    if metaschedule_minutes is not None:
        search = _general_search(subjects[0], target, records, folder, metaschedule_minutes)
    rows = []
    with progress(len(subjects), "subnets") as bar:
        for subject, tuned in zip(subjects, kernels, strict=True):
            libraries = [f"{name}.so" for name in (MODELLED, TUNED, METASCHEDULE)]
            entrants = [(OURS, library) for library in libraries if (subject.folder / library).exists()]
            found, _ = take_turns(entrants, subject.folder, 1, repeats, None, say)
            rows.append(
                {
                    "architecture": str(subject.architecture),
                    "resolution": subject.architecture.resolution,
                    "mmac": subject.macs / 1e6,
                    "kernels": tuned,
                    "latencies_ms": {Path(name).stem: figures.median_ms for (_, name), figures in found.items()},
                }
            )
            bar.advance()
    return {"subnets": rows, "metaschedule": search, **_gains(rows)}


def _general_search(subject: Subject, target: Target, records: Path, folder: Path, minutes: float) -> dict[str, Any]:
    """Search for so long, for this subnet alone; what was tried."""
    from ofa_tvm.compiler.general_search.subnet import search_subnet
    from ofa_tvm.compiler.open_bench import open_bench

    say(f"MetaSchedule's general search for {minutes:g} min")
    with open_bench(target, records, None, say) as bench:
        model = onnx.load(subject.folder / MODEL)
        library, report = search_subnet(model, bench, folder / METASCHEDULE, minutes, say)
    shutil.copyfile(library, subject.folder / f"{METASCHEDULE}.so")
    return {
        "minutes": report.seconds / 60,
        "functions": report.functions,
        "trials": report.trials,
        "trials_per_minute": report.trials_per_minute,
    }


def _gains(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How many times as fast the tuned subnets are, in the geometric mean."""
    return {
        f"times_{other}": geometric_mean(
            [
                row["latencies_ms"][other] / row["latencies_ms"][TUNED]
                for row in rows
                if {other, TUNED} <= set(row["latencies_ms"])
            ]
        )
        for other in (MODELLED, METASCHEDULE)
    }
