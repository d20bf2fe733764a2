from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ofa_tvm.cpuinfo import cpu_features_of, cpu_quota, usable_cpus

Root = Callable[[str, Mapping[str, str]], Path]

V2, V1 = "0::/system.slice/work.service\n", "12:cpuset:/\n4:cpu,cpuacct:/docker/1f\n0::/\n"


@pytest.mark.parametrize(
    ("cpuinfo", "features"),
    [
        ("processor : 0\nflags\t\t: fpu avx2\n\nprocessor : 1\nflags\t\t: fpu sse\n", ["avx2", "fpu", "sse"]),
        ("Features\t: fp asimd crc32\nCPU part\t: 0xd08\n", ["asimd", "crc32", "fp"]),
        ("processor : 0\nvmx flags\t: vnmi\nbugs\t\t: flags\n", []),
        ("", []),
    ],
)
def test_the_features_of_all_cores_are_found(cpuinfo: str, features: list[str]) -> None:
    assert cpu_features_of(cpuinfo) == features


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A root folder with this process's control groups, and their files below /sys/fs/cgroup."""

    def make(groups: str, files: Mapping[str, str]) -> Path:
        contents = {"proc/self/cgroup": groups, **{f"sys/fs/cgroup/{name}": files[name] for name in files}}
        for name, content in contents.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        (V2, {}, None),
        ("", {}, None),
        (V2, {"system.slice/work.service/cpu.max": "max 100000\n"}, None),
        (V2, {"system.slice/work.service/cpu.max": "50000 100000\n"}, 0.5),
        (V2, {"system.slice/cpu.max": "150000 100000\n", "system.slice/work.service/cpu.max": "max 100000\n"}, 1.5),
        (V2, {"system.slice/cpu.max": "300000 100000\n", "system.slice/work.service/cpu.max": "200000 100000\n"}, 2),
        (V2, {"cpu.max": "400000 100000\n"}, 4),  # in a container its own group is the root
        ("0::/../outside\n", {"cpu.max": "400000 100000\n", "../outside/cpu.max": "1 100000\n"}, 4),
        (V2, {"unified/system.slice/work.service/cpu.max": "100000 100000\n"}, 1),
        (V2, {"system.slice/work.service/cpu.max": "damaged"}, None),
        (V1, {"cpu/docker/1f/cpu.cfs_quota_us": "-1\n", "cpu/docker/1f/cpu.cfs_period_us": "100000\n"}, None),
        (V1, {"cpu/docker/1f/cpu.cfs_quota_us": "250000\n", "cpu/docker/1f/cpu.cfs_period_us": "100000\n"}, 2.5),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 1),
        (V1, {"cpuset/cpu.cfs_quota_us": "100000\n", "cpuset/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_the_quota_is_the_smallest_of_the_groups_around(
    root: Root, groups: str, files: Mapping[str, str], quota: float | None
) -> None:
    assert cpu_quota(root(groups, files)) == quota


@pytest.mark.parametrize(
    ("cpus", "quota", "usable"),
    [(4, "max", 4), (1, "max", 1), (4, "250000", 2), (4, "800000", 4), (4, "50000", 1), (1, "250000", 1)],
)
def test_usable_are_whole_cpus_of_the_mask_and_the_quota(
    root: Root, monkeypatch: pytest.MonkeyPatch, cpus: int, quota: str, usable: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)))
    assert usable_cpus(root("0::/\n", {"cpu.max": f"{quota} 100000\n"})) == usable
