"""The table of `tuning`."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def tuning_table(result: dict[str, Any]) -> Table:
    """First the resolutions as they were tuned, then the subnets."""
    table = Table(
        *("px", "what", "took or takes", "times as fast tuned", "kernels", "architecture"),
        title=f"{result['space']} tuned from nothing on {result['cpu']}, {result['cpus']} CPUs",
        caption=f"{result['date']}, load average {result['load_before']} before and {result['load_after']} after; "
        f"subnets on one thread, medians of {result['repeats']} samples",
    )
    for row in result["tuning"]:
        what = f"tuning: {row['candidates']} candidates, {row['failed']} failed"
        took = f"{row['minutes']:.1f} min, {row['candidates_per_minute']:.0f} a minute"
        kernels = f"{row['complete']} of {row['kernels']} tuned, {row['known_before']} before"
        gain = "" if row["gain"] is None else f"{row['gain']:.2f} (kernels alone)"
        table.add_row(str(row["resolution"]), what, took, gain, kernels, f"{row['covered']:.0%} of the time covered")
    table.add_section()
    for row in result["subnets"]:
        tuned_ms = row["latencies_ms"].get("tuned")
        for name, latency_ms in row["latencies_ms"].items():
            gain = "" if tuned_ms is None or name == "tuned" else f"{latency_ms / tuned_ms:.2f}"
            kernels = row["kernels"] if name == "tuned" else ""
            cells = (f"{row['mmac']:.0f} MMAC, {name}", f"{latency_ms:.3f} ms", gain, kernels, row["architecture"])
            table.add_row(str(row["resolution"]), *cells)
    table.add_section()
    if result["times_modelled"]:
        table.add_row("", "geometric mean over the subnets", "", f"{result['times_modelled']:.2f}", "", "")
    if search := result["metaschedule"]:
        took = f"{search['minutes']:.1f} min, {search['trials_per_minute']:.0f} a minute"
        what = f"general search of one subnet: {search['trials']} trials, {search['functions']} functions"
        gain = f"{result['times_metaschedule']:.2f}" if result["times_metaschedule"] else ""
        table.add_row("", what, took, gain, "", "")
    return table
