from __future__ import annotations

import pytest

from ofa_tvm.cpuinfo import cpu_features_of


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
