from __future__ import annotations

import subprocess
import sys

import pytest

LOOK_UP = """
from ofa_tvm.compiler.general_search.intrinsics import register_intrinsics
register_intrinsics()
from tvm.s_tir import TensorIntrin
names = "dot_16x4_avx512", "wmma_load_16x16x16_f16_a"
print([TensorIntrin.get(name, allow_missing=True) is not None for name in names])
"""


@pytest.mark.slow
def test_intrinsics_of_cpus_are_known_and_those_of_cuda_cost_nothing() -> None:
    run = subprocess.run([sys.executable, "-c", LOOK_UP], capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout == "[True, False]\n", run.stderr
