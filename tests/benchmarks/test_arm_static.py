from __future__ import annotations

import shutil

import pytest

pytestmark = pytest.mark.skipif(
    any(
        shutil.which(program) is None
        for program in ("llvm-mca-14", "qemu-aarch64-static", "aarch64-linux-gnu-g++", "aarch64-linux-gnu-objdump")
    ),
    reason="needs what scripts/setup.sh --boards installs",
)


@pytest.mark.slow
def test_the_choice_is_compared_with_all_candidates(run_benchmark) -> None:
    code, result, errors = run_benchmark(
        "arm_static.py", "--width", "0.35", "--resolution", "32", "--top", "1", "--candidates"
    )
    assert code == 0, errors
    assert result["model"] == "llvm-mca-14 -mcpu=cortex-a72"
    assert result["peak"] == 1
    rows = result["kernels"]
    assert len(rows) == 1
    for row in rows:
        assert row["candidates"] > 1
        assert row["best_cycles"] <= row["cycles"]
        # The executed ones, borders of the image left out and overlapping tiles counted twice.
        assert row["macs"] / 8 < row["multiply_adds"] < row["macs"]
        assert row["multiply_adds"] / row["cycles"] == pytest.approx(row["share"])
        assert row["share"] <= 1
    total = sum(row["count"] * row["multiply_adds"] for row in rows)
    assert result["share"] == pytest.approx(total / result["cycles"])


def test_only_arm_targets_are_analysed(run_benchmark) -> None:
    code, result, errors = run_benchmark("arm_static.py", "--target", "local")
    assert (code, result) == (2, {})
    assert errors.strip().splitlines()[-1] == "error: local is no target for 64-bit Arm: name one such as rasp4"


def test_a_core_without_a_model_is_an_error(run_benchmark) -> None:
    code, _, errors = run_benchmark("arm_static.py", "--core", "cortex-a1")
    assert code == 5
    assert "llvm-mca-14" in errors.strip().splitlines()[-1]
    assert "cortex-a1" in errors.strip().splitlines()[-1]
