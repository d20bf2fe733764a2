"""Rows and tables of the comparison with peers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from systems import OURS, TITLES

if TYPE_CHECKING:
    from subjects import Subject
    from turns import Found


def subnet_row(subject: Subject, kernels: str, found: Mapping[str, Found], peak_gflops: float) -> dict[str, Any]:
    """One subnet, as plain JSON values; the ratio says how many times as fast as the best peer ours is."""
    ours_ms = found[OURS].median_ms
    gflops = 2 * subject.macs / ours_ms / 1e6
    peers = {system: figures.median_ms for system, figures in found.items() if system != OURS}
    best = min(peers, key=peers.__getitem__, default=None)
    return {
        "architecture": str(subject.architecture),
        "resolution": subject.architecture.resolution,
        "mmac": subject.macs / 1e6,
        "kernels": kernels,
        "systems": {system: asdict(figures) for system, figures in found.items()},
        "best_peer": best,
        "ratio": None if best is None else peers[best] / ours_ms,
        "gflops": gflops,
        "peak_gflops": peak_gflops,
        "share_of_peak": gflops / peak_gflops,
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Over all subnets, the geometric means, and the worst ratio."""
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    return {
        "ratio_mean": geometric_mean(ratios),
        "ratio_worst": min(ratios, default=None),
        "share_of_peak_mean": geometric_mean([row["share_of_peak"] for row in rows]),
        "ratio_mean_by_peer": {
            peer: geometric_mean(
                [
                    row["systems"][peer]["median_ms"] / row["systems"][OURS]["median_ms"]
                    for row in rows
                    if peer in row["systems"]
                ]
            )
            for peer in TITLES
            if peer != OURS and any(peer in row["systems"] for row in rows)
        },
    }


def geometric_mean(values: list[float]) -> float | None:
    """None of nothing."""
    return math.exp(math.fsum(map(math.log, values)) / len(values)) if values else None


def peer_table(result: dict[str, Any]) -> Table:
    """All numbers of threads, one below the other."""
    systems = [
        name for name in TITLES if any(name in row["systems"] for part in result["threads"] for row in part["subnets"])
    ]
    table = Table(
        *("threads", "px", "MMAC", *(f"{TITLES[name]}, ms" for name in systems)),
        *("times the best peer", "GFLOP/s (of peak)", "relative error", "kernels", "architecture"),
        title=f"{result['cpu']}, medians of {result['repeats']} samples (fastest)",
        caption=_caption(result),
    )
    for column in table.columns[: 6 + len(systems)]:
        column.justify = "right"
    for part in result["threads"]:
        for row in part["subnets"]:
            table.add_row(*_cells(part["threads"], row, systems))
        table.add_row(*_mean_cells(part, systems), end_section=True)
    return table


def _cells(threads: int, row: dict[str, Any], systems: list[str]) -> tuple[str, ...]:
    figures = [row["systems"].get(name) for name in systems]
    return (
        *(str(threads), str(row["resolution"]), f"{row['mmac']:.1f}"),
        *(f"{found['median_ms']:.3f} ({found['fastest_ms']:.3f})" if found else "" for found in figures),
        "" if row["ratio"] is None else f"{row['ratio']:.2f}",
        f"{row['gflops']:.0f} ({row['share_of_peak']:.0%} of {row['peak_gflops']:.0f})",
        f"{row['systems'][OURS]['relative_error']:.1e}",
        row["kernels"],
        row["architecture"],
    )


def _mean_cells(part: dict[str, Any], systems: list[str]) -> tuple[str, ...]:
    """Geometric means: how many times as fast as each peer, as the best one, and the share of the peak."""
    by_peer = part["ratio_mean_by_peer"]
    return (
        *(str(part["threads"]), "mean", ""),
        *(f"{by_peer[name]:.2f} times" if name in by_peer else "" for name in systems),
        "" if part["ratio_mean"] is None else f"{part['ratio_mean']:.2f} (worst {part['ratio_worst']:.2f})",
        "" if part["share_of_peak_mean"] is None else f"{part['share_of_peak_mean']:.0%}",
        *("", "", ""),
    )


def _caption(result: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    settings = [
        f"threads {part['threads']}: {TITLES[name]} {setting}"
        for part in result["threads"]
        for name, setting in part["settings"].items()
        if setting and name != OURS
    ]
    load = f"load average {result['load_before']} before and {result['load_after']} after, {result['cpus']} CPUs"
    return "; ".join([f"{result['date']}, {load}", versions, *settings])
