"""What makes latencies those of another target, and what doesn't."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ofa_tvm.compiler import machine
from ofa_tvm.compiler.identity import identity_of
from ofa_tvm.compiler.open_bench import open_bench
from ofa_tvm.compiler.templates import Parameters
from ofa_tvm.compiler.toolchain import Toolchain
from ofa_tvm.measurement.identity import Settings
from ofa_tvm.space.workload import Workload
from ofa_tvm.targets import Target, load_target


def settings(target: Target) -> Settings:
    return identity_of(target, Toolchain.of(target)).settings


def edited(target: Target, changes: dict[str, Any]) -> Target:
    """As if the file said it: keys as in messages."""
    content = target.model_dump(mode="json")
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = content
        for each in sections:
            section = section[each]
        section[name] = value
    return Target.model_validate(content)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("threads", 2),
        ("emulated", True),
        ("tvm_target.mcpu", "cortex-a76"),
        ("tvm_target.mattr", ["+neon", "-aes"]),
        ("tvm_target.mtriple", "aarch64-unknown-linux-gnu"),
        ("tvm_target.opt-level", 2),
        ("cpu.l1d_kib", 48),
        ("cpu.l2_kib", 512),
        ("measurement.warmup_runs", 4),
        ("measurement.repeats", 16),
        ("measurement.min_repeat_ms", 1),
        ("measurement.cooldown_ms", 0),
    ],
)
def test_what_decides_code_and_measuring_is_a_setting(key: str, value: Any) -> None:
    target = load_target("rasp4")
    before, after = settings(target), settings(edited(target, {key: value}))
    assert [name for name in {**before, **after} if before.get(name) != after.get(name)] == [key]
    assert json.loads(json.dumps(after)) == after


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "another"),
        ("description", "another"),
        ("device.key", "another"),
        ("device.ssh", "pi@board"),
        ("cross_compiler", "aarch64-linux-gnu-g++-13"),
        ("cpu.cores", 8),
        ("cpu.max_clock_mhz", 1500),
        ("cpu.l1d_kib", None),  # 32 is what is assumed
        ("measurement.max_drift", 0.5),
        ("measurement.timeout_s", 600),
    ],
)
def test_what_decides_neither_is_none(key: str, value: Any) -> None:
    target = load_target("rasp4")
    assert settings(edited(target, {key: value})) == settings(target)


def test_defaults_are_left_out() -> None:
    assert set(settings(load_target("local"))) <= {
        *("device.kind", "lanes"),
        *("tvm_target.kind", "tvm_target.mtriple", "tvm_target.mcpu", "tvm_target.mattr"),
    }


def test_the_host_is_its_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    here = settings(load_target("local"))
    monkeypatch.setattr(machine, "llvm_get_system_triple", lambda: "x86_64-linux-gnu")
    monkeypatch.setattr(machine, "llvm_get_system_cpu", lambda: "haswell")
    monkeypatch.setattr(machine, "_CPUINFO", Path("/nonexistent"))
    haswell = settings(load_target("local"))
    assert haswell != here
    assert (haswell["tvm_target.mcpu"], haswell["lanes"]) == ("haswell", 8)


def test_a_bench_says_which_records_it_leaves_aside(tmp_path: Path) -> None:
    records, lines = tmp_path / "records.jsonl", []
    target, workload = load_target("null"), Workload("pool", 32, 32, 8, 8)
    with open_bench(target, records, say=lines.append) as bench:
        bench.measure({workload: Parameters()})
        searched = bench.searched
    with open_bench(edited(target, {"threads": 2}), records, say=lines.append) as bench:
        assert not bench.measured(workload, Parameters())
        (line,) = lines
        assert bench.searched != searched
        assert "1 record of null, measured with other settings (threads: default -> 2), left aside" in line
    with open_bench(edited(target, {"measurement.timeout_s": 99}), records, say=lines.append) as bench:
        assert bench.measured(workload, Parameters())
        assert bench.searched == searched
    assert lines == [line]
