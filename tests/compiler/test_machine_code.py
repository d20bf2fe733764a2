"""The inner loops that LLVM makes of the cost model's choices: registers suffice, and loads don't hold them up."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from ofa_tvm.compiler.machine import machine_of, resolve_tvm_target
from ofa_tvm.compiler.object_code import build_kernels
from ofa_tvm.compiler.templates import TEMPLATES, kernel_module
from ofa_tvm.space.workload import Workload

MACHINE_CODE = Path(__file__).parents[2] / "benchmarks" / "machine_code.py"
SPECS = {
    "cortex-a72": {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72", "mattr": ["+neon"]},
    "avx2": {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "haswell"},
    "avx512": {"kind": "llvm", "mtriple": "x86_64-linux-gnu", "mcpu": "skylake-avx512"},
}
EXPANSION = Workload("pointwise", 80, 240, 11, 11, activation="h_swish")
PROJECTION = Workload("pointwise", 240, 80, 11, 11, residual=True)
SMALL_IMAGE = Workload("pointwise", 672, 160, 6, 6)
FEW_CHANNELS = Workload("pointwise", 24, 72, 42, 42, activation="relu")
NARROW = Workload("pointwise", 72, 24, 42, 42, residual=True)
VECTOR = Workload("pointwise", 960, 1280, 1, 1, activation="h_swish")
DEPTHWISE = Workload("depthwise", 144, 144, 42, 42, 7, activation="relu")
SMALL_DEPTHWISE = Workload("depthwise", 240, 240, 11, 11, 5, activation="h_swish")
FIRST = Workload("conv", 3, 16, 168, 168, 3, 2, "h_swish")
# Multiply-adds for each vector loaded. A vector of outputs on its own loads one vector of weights for each; x86 also
# loads each pixel for each channel, Neon takes four channels from one register.
CASES = [
    ("cortex-a72", EXPANSION, 2.5),
    ("cortex-a72", PROJECTION, 2.5),
    ("cortex-a72", SMALL_IMAGE, 2.5),
    ("cortex-a72", FEW_CHANNELS, 2.5),
    ("cortex-a72", VECTOR, 0.9),
    ("cortex-a72", DEPTHWISE, 2.2),
    ("cortex-a72", SMALL_DEPTHWISE, 2.2),
    ("cortex-a72", FIRST, 1.1),
    ("avx2", EXPANSION, 1.2),
    ("avx2", PROJECTION, 1.2),
    ("avx2", SMALL_IMAGE, 1.2),
    ("avx2", FEW_CHANNELS, 1.2),
    ("avx2", VECTOR, 0.8),
    ("avx2", DEPTHWISE, 1.5),
    ("avx2", FIRST, 1.1),
    ("avx512", EXPANSION, 0.9),
    ("avx512", PROJECTION, 0.9),
    ("avx512", SMALL_IMAGE, 0.9),
    ("avx512", FEW_CHANNELS, 0.9),
    ("avx512", VECTOR, 0.8),
    ("avx512", DEPTHWISE, 2.5),
    ("avx512", SMALL_DEPTHWISE, 2.2),
]


@pytest.fixture(scope="module")
def machine_code() -> ModuleType:
    """The module of the benchmarks, which are no package."""
    spec = importlib.util.spec_from_file_location("machine_code", MACHINE_CODE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(spec.name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def compiled(cpu: str, workload: Workload) -> str:
    """Assembly of a kernel with the parameters that the cost model chooses."""
    target = resolve_tvm_target(SPECS[cpu], threads=1)
    machine = machine_of(target)
    kernel = ("kernel", workload, TEMPLATES[workload.kind].default(workload, machine))
    return str(build_kernels(kernel_module([kernel], machine), target).inspect_source("asm"))


@pytest.mark.parametrize(
    ("cpu", "workload", "per_load"), CASES, ids=lambda value: value.key if isinstance(value, Workload) else str(value)
)
def test_inner_loops_multiply_and_add(cpu: str, workload: Workload, per_load: float, machine_code: ModuleType) -> None:
    loop = machine_code.hottest_loop(compiled(cpu, workload))
    listing = "\n".join(loop.instructions)
    assert loop.multiply_adds >= 15, listing
    # With 16 registers, a dense window with enough sums to hide the latency leaves none over; it is the fastest still.
    assert max(loop.spills, loop.stores) <= (0.03 * loop.multiply_adds if (cpu, workload) == ("avx2", FIRST) else 0)
    assert loop.multiply_adds >= per_load * loop.loads, listing
    assert loop.others <= max(8, 0.2 * loop.multiply_adds), listing


def test_two_pixels_share_a_vector_that_one_would_half_fill(machine_code: ModuleType) -> None:
    loop = machine_code.hottest_loop(compiled("avx512", NARROW))
    listing = "\n".join(loop.instructions)
    machine = machine_of(resolve_tvm_target(SPECS["avx512"], threads=1))
    pixels = TEMPLATES["pointwise"].default(NARROW, machine).tile_pixels
    assert loop.multiply_adds % (3 * pixels // 2) == 0, listing  # 24 channels, not 32
    assert loop.spills == loop.stores == 0, listing
    assert not any("vperm" in instruction for instruction in loop.instructions), listing


@pytest.mark.parametrize("workload", [EXPANSION, SMALL_IMAGE, VECTOR], ids=lambda workload: workload.key)
def test_neon_takes_pixels_from_lanes(workload: Workload, machine_code: ModuleType) -> None:
    loop = machine_code.hottest_loop(compiled("cortex-a72", workload))
    products = [text for text in loop.instructions if text.startswith("fmla\t")]
    lanes = {lane for lane in range(4) for text in products if text.endswith(f"s[{lane}]")}
    assert lanes == {0, 1, 2, 3}
    assert all(text.endswith("]") for text in products)


ARM = """
kernel:
	ldr	x9, [sp, #8]
.LBB0_1:
	mov	x8, xzr
.Ltmp3:
	.p2align	4, , 8
.LBB0_2:
	ldp	q1, q2, [x0], #32
	ld1r	{ v3.4s }, [x1]
	ldr	q4, [sp, #16]                   // 16-byte Folded Reload
	fmla	v5.4s, v1.4s, v3.s[2]
	fmla	v6.4s, v2.4s, v4.4s
	str	q6, [sp, #32]
	prfm	pldl1keep, [x9, #128]
	add	x8, x8, #16
	cmp	x8, #64
	b.ne	.LBB0_2
	cbnz	x9, .LBB0_1
	ret
"""
X86 = """
kernel:
.LBB0_1:
	vbroadcastss	(%rdi), %ymm0
	vmovaps	32(%rsi,%rax), %ymm1
	vfmadd231ps	%ymm1, %ymm0, %ymm2
	vfmadd231ps	64(%rsi,%rax), %ymm0, %ymm3
	vmovaps	%ymm3, 32(%rsp)
	leaq	64(%rsi), %rsi
	prefetcht0	(%rdx)
	jne	.LBB0_1
	retq
"""


@pytest.mark.parametrize(
    ("assembly", "counts"), [(ARM, (2, 4, 1, 2, 1, 3)), (X86, (2, 3, 1, 1, 1, 2))], ids=["arm", "x86"]
)
def test_instructions_of_an_inner_loop(assembly: str, counts: tuple[int, ...], machine_code: ModuleType) -> None:
    (loop,) = machine_code.innermost_loops(assembly)
    assert (loop.multiply_adds, loop.loads, loop.stores, loop.spills, loop.prefetches, loop.others) == counts
    assert machine_code.hottest_loop(assembly) == loop
