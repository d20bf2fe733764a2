"""Figures of `farm.py` as rows of plain JSON values, and as tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from farm_scaling import Rate
from farm_ways import Pass
from rich.table import Table

WAYS = {
    "process": "in this process, without RPC",
    "python": "Python server, loopback",
    "native": "native server, loopback",
    "tunnel": "native server, SSH tunnel",
}


def scaling_rows(found: Mapping[tuple[str, int], Sequence[Rate]]) -> list[dict[str, Any]]:
    """A row for each protocol and number of devices."""
    medians = {key: statistics.median(rate.per_minute for rate in rates) for key, rates in found.items()}
    return [
        {
            "protocol": protocol,
            "devices": devices,
            "emulated": True,
            "samples": [rate.per_minute for rate in found[protocol, devices]],
            "references": statistics.median(rate.references for rate in found[protocol, devices]),
            "per_minute": per_minute,
            "times_one": per_minute / medians[protocol, 1],
        }
        for (protocol, devices), per_minute in medians.items()
    ]


def way_rows(passes: Mapping[str, Sequence[Pass]]) -> list[dict[str, Any]]:
    """A row for each way; first, among them, the one in this process.

    Costs are medians over all kernels and repeats. Latencies are compared kernel by kernel, each by the median of
    its repeats, and the times of a measurement with those of the native server on loopback in the same repeat.
    """
    here = _latencies_ms(passes["process"])
    rows = []
    for way, of_way in passes.items():
        calls = [call for one in of_way for call in one.calls.values()]
        row = {
            "way": way,
            "measurement_ms": statistics.median(call.took_ms for call in calls),
            "overhead_ms": statistics.median(call.took_ms - call.own_ms for call in calls),
            "overhead_share": statistics.median((call.took_ms - call.own_ms) / call.took_ms for call in calls),
        }
        if way != "process":
            ratios = [latency_ms / here[name] for name, latency_ms in _latencies_ms(of_way).items()]
            row |= {
                "round_trip_ms": statistics.median(trip for one in of_way for trip in one.round_trips_ms),
                "connect_ms": statistics.median(one.connect_ms for one in of_way),
                "upload_ms": statistics.median(one.upload_ms for one in of_way),
                "per_minute": statistics.median(one.per_minute for one in of_way),
                "latency_ratio": statistics.median(ratios),
                "latency_ratio_quartiles": _quartiles(ratios),
            }
        if way == "tunnel":
            direct = [call.took_ms for one in passes["native"] for call in one.calls.values()]
            row["times_direct"] = statistics.median(
                call.took_ms / direct_ms for call, direct_ms in zip(calls, direct, strict=True)
            )
        rows.append(row)
    return rows


def _latencies_ms(passes: Sequence[Pass]) -> dict[str, float]:
    return {name: statistics.median(one.calls[name].latency_ms for one in passes) for name in passes[0].calls}


def _quartiles(values: Sequence[float]) -> list[float]:
    if len(values) < 2:
        return [values[0], values[0]]
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return [lower, upper]


def scaling_table(result: Mapping[str, Any]) -> Table:
    """Measurements a minute."""
    table = _table(
        *("protocol", "devices", "measurements a minute", "slowest to fastest", "times one device", "reference kernel"),
        title=f"emulated devices on the {result['cpus']} cores of this host, where scaling ends: "
        f"{result['kernels']} kernels",
        caption=_caption(result),
    )
    for row in result["farm"]:
        rate, ends = f"{row['per_minute']:.0f}", f"{min(row['samples']):.0f} to {max(row['samples']):.0f}"
        ratio, references = f"{row['times_one']:.2f}", f"{row['references']:.0f} times"
        table.add_row(row["protocol"], f"{row['devices']} emulated", rate, ends, ratio, references)
    return table


def ways_table(result: Mapping[str, Any]) -> Table:
    """What RPC and the tunnel cost."""
    table = _table(
        *("way to the CPU", "a measurement, ms", "beside the kernel's own, ms", "round trip, ms", "connecting, ms"),
        *("upload, ms", "measurements a minute", "latency over that in process"),
        title=f"{result['cpu']}, target local: {result['kernels']} kernels",
        caption=_caption(result),
    )
    for row in result["rpc"]:
        beside_direct = f" ({row['times_direct']:.2f} times direct)" if "times_direct" in row else ""
        costs = (
            f"{row['measurement_ms']:.1f}{beside_direct}",
            f"{row['overhead_ms']:.2f} ({row['overhead_share']:.1%})",
        )
        if row["way"] == "process":
            table.add_row(WAYS["process"], *costs, "", "", "", "", "1")
            continue
        names = (("round_trip_ms", ".3f"), ("connect_ms", ".0f"), ("upload_ms", ".0f"), ("per_minute", ".0f"))
        lower, upper = row["latency_ratio_quartiles"]
        ratio = f"{row['latency_ratio']:.3f} ({lower:.3f} to {upper:.3f})"
        table.add_row(WAYS[row["way"]], *costs, *(format(row[name], form) for name, form in names), ratio)
    return table


def _table(*columns: str, title: str, caption: str) -> Table:
    table = Table(*columns, title=title, caption=caption)
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _caption(result: Mapping[str, Any]) -> str:
    return (
        f"{result['date']}, medians of {result['repeats']} repeats, "
        f"load average {result['load_before']} before and {result['load_after']} after"
    )
