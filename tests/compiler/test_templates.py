"""Kernels of every kind against float64 numpy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tvm.target import Target

from ofa_tvm.compiler import machine as machine_module
from ofa_tvm.compiler.machine import Machine, machine_of
from ofa_tvm.compiler.templates import TEMPLATES, Parameters, kernel_module
from ofa_tvm.compiler.templates._base import LoopOrder
from ofa_tvm.errors import CompileError, InvalidRecordError
from ofa_tvm.space.workload import Activation, Kind, Workload

from .conftest import checker

Check = Callable[..., None]
NEON = Machine(4, 32, multiply_adds_per_cycle=1, loads_per_cycle=1, multiplies_by_lane=True)


def spread(candidates: list[Parameters], count: int) -> list[Parameters]:
    """The first, the last and some between."""
    step = max(1, (len(candidates) - 1) // (count - 1))
    return [*candidates[::step][: count - 1], candidates[-1]]


POINTWISE = [
    Workload("pointwise", 16, 24, 5, 5, activation="relu"),
    Workload("pointwise", 40, 17, 7, 7, activation="h_swish", residual=True),
    Workload("pointwise", 33, 80, 10, 10, activation="relu6"),
    Workload("pointwise", 24, 40, 3, 11, stride=2),
    Workload("pointwise", 3, 5, 1, 2, residual=True),
    Workload("pointwise", 64, 72, 22, 22, activation="h_sigmoid"),
    Workload("pointwise", 120, 30, 1, 1, activation="relu"),
    Workload("pointwise", 7, 1000, 1, 1, activation="h_sigmoid"),
    Workload("pointwise", 640, 96, 1, 1, activation="h_swish"),
    Workload("pointwise", 40, 33, 7, 7, scaled=True),
    Workload("pointwise", 72, 40, 2, 3, activation="relu6", residual=True, scaled=True),
    Workload("pointwise", 33, 80, 10, 10, stride=2, activation="relu", scaled=True),
    Workload("pointwise", 90, 64, 1, 1, scaled=True),
]
DEPTHWISE = [
    Workload("depthwise", 24, 24, height, width, kernel, stride, activation, residual)
    for height, width, kernel, stride, activation, residual in [
        (1, 1, 7, 1, "relu", False),
        (1, 9, 5, 2, "none", False),
        (2, 2, 7, 2, "h_swish", False),
        (4, 4, 5, 1, "relu6", True),
        (5, 3, 3, 2, "h_sigmoid", False),
        (7, 7, 7, 1, "h_swish", True),
        (11, 11, 5, 2, "relu", False),
        (13, 40, 3, 1, "relu", False),
        (6, 37, 7, 2, "none", False),
        (3, 5, 1, 1, "none", False),
    ]
] + [
    Workload("depthwise", channels, channels, height, width, kernel, stride, activation, residual, pooled=True)
    for channels, height, width, kernel, stride, activation, residual in [
        (24, 7, 25, 3, 1, "h_swish", False),
        (40, 12, 37, 5, 2, "relu", True),
        (130, 1, 1, 7, 1, "relu6", False),
    ]
]
CONV = [
    Workload("conv", 3, 16, 32, 32, 3, 2, "h_swish"),
    Workload("conv", 3, 40, 9, 7, 3, 2, "relu6"),
    Workload("conv", 1, 24, 5, 6, 5, 1, "relu", True),
    Workload("conv", 3, 8, 1, 1, 3, 2),
]
PASSES = [Workload(kind, c, c, h, w) for kind in ("pool", "scale") for c, h, w in ((24, 7, 7), (5, 1, 1), (130, 2, 9))]


@pytest.mark.parametrize("workload", [*POINTWISE, *DEPTHWISE, *CONV, *PASSES], ids=lambda workload: workload.key)
def test_kernels_match_numpy(workload: Workload, machine: Machine, check_kernels: Check) -> None:
    candidates = TEMPLATES[workload.kind].candidates(workload, machine)
    check_kernels([(workload, parameters) for parameters in spread(candidates, 4)])


@pytest.fixture(scope="module")
def check_avx2(avx2: Target) -> Check:
    return checker(avx2, machine_of(avx2))


@pytest.mark.parametrize(
    "workload",
    [
        POINTWISE[1],  # where pixels share the vector of the last channel
        POINTWISE[2],
        POINTWISE[8],
        POINTWISE[9],
        DEPTHWISE[5],
        DEPTHWISE[6],
        DEPTHWISE[11],
        CONV[0],
        CONV[1],
        *PASSES[:2],
    ],
    ids=lambda workload: workload.key,
)
def test_avx2_kernels_match_numpy(workload: Workload, avx2: Target, check_avx2: Check) -> None:
    candidates = TEMPLATES[workload.kind].candidates(workload, machine_of(avx2))
    check_avx2([(workload, parameters) for parameters in spread(candidates, 3)])


@pytest.mark.parametrize(
    "workload",
    [
        Workload("pointwise", 24, 40, 5, 5, activation="h_swish", residual=True),
        Workload("pointwise", 40, 40, 5, 5, residual=True, scaled=True),
        Workload("depthwise", 40, 40, 5, 5, 5, 2, "relu"),
        Workload("depthwise", 40, 40, 9, 13, 3, 1, "relu", pooled=True),
        Workload("pool", 40, 40, 4, 4),
        Workload("scale", 40, 40, 4, 4),
    ],
    ids=lambda workload: workload.key,
)
def test_every_candidate_is_right(workload: Workload, machine: Machine, check_kernels: Check) -> None:
    check_kernels([(workload, parameters) for parameters in TEMPLATES[workload.kind].candidates(workload, machine)])


def sizes(limit: int) -> st.SearchStrategy[int]:
    return st.integers(1, limit)


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    kind = draw(st.sampled_from(["pointwise", "depthwise", "conv"]))
    out_channels = draw(sizes(50))
    return Workload(
        kind,
        out_channels if kind == "depthwise" else draw(sizes(50 if kind == "pointwise" else 4)),
        out_channels,
        draw(sizes(14)),
        draw(sizes(14)),
        1 if kind == "pointwise" else draw(st.sampled_from([1, 3, 5, 7])),
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from(get_args(Activation))),
        draw(st.booleans()),
        scaled=kind == "pointwise" and draw(st.booleans()),
        pooled=kind == "depthwise" and draw(st.booleans()),
    )


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(workload=workloads(), choice=st.integers(0, 19))
def test_any_workload_and_candidate(workload: Workload, choice: int, machine: Machine, check_kernels: Check) -> None:
    candidates = TEMPLATES[workload.kind].candidates(workload, machine)
    check_kernels([(workload, candidates[choice % len(candidates)])])


@pytest.mark.parametrize("other", [NEON, Machine(16, 32, 2), Machine(8, 16, 2), Machine(4, 16, 1)])
@pytest.mark.parametrize("workload", [*POINTWISE, *DEPTHWISE, *CONV, *PASSES], ids=lambda workload: workload.key)
def test_candidates_are_few_distinct_and_begin_with_the_default(workload: Workload, other: Machine) -> None:
    template = TEMPLATES[workload.kind]
    candidates = template.candidates(workload, other)
    assert 1 <= len(candidates) <= 20
    assert len(set(candidates)) == len(candidates)
    assert candidates[0] == template.default(workload, other)


def test_parameters_tuned_for_another_workload_are_right(check_kernels: Check) -> None:
    foreign = Parameters(tile_pixels=13, tile_blocks=3, partial_sums=2, loop_order="pixels", unroll_kernel=True)
    check_kernels(
        [
            (Workload(kind, 24, 24, 4, 4, 1 if kind != "depthwise" else 3), foreign)
            for kind in get_args(Kind)
            if kind != "conv"
        ]
    )


@pytest.mark.parametrize("order", get_args(LoopOrder))
@pytest.mark.parametrize("scaled", [False, True])
def test_tiles_may_be_of_two_sizes(order: LoopOrder, scaled: bool, check_kernels: Check) -> None:
    workload = Workload("pointwise", 20, 112, 11, 11, activation="relu", residual=True, scaled=scaled)
    sizes = [(6, 4), (9, 3), (25, 2), (4, 5), (121, 4), (13, 7)]
    check_kernels([(workload, Parameters(pixels, count, 1, order)) for pixels, count in sizes])


def test_factors_may_come_from_lanes_of_a_register(check_kernels: Check) -> None:
    kernels = [(w, p) for w in POINTWISE for p in spread(TEMPLATES[w.kind].candidates(w, NEON), 3)]
    foreign = Parameters(tile_pixels=5, tile_blocks=2, partial_sums=4, loop_order="pixels")
    uneven = (Workload("pointwise", 18, 28, 5, 5, scaled=True), Parameters(tile_pixels=4, tile_blocks=4))
    check_kernels([*kernels, (POINTWISE[0], foreign), uneven], NEON)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_a_kernel(
    threads: int, machine: Machine, check_kernels: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_module, "SHARED_MACS", 1)
    orders: tuple[LoopOrder, ...] = get_args(LoopOrder)
    kernels = [
        (Workload("pointwise", 40, 70, 5, 5, residual=scaled, scaled=scaled), Parameters(tiles, 2, 1, order))
        for scaled, tiles, order in [*product((True,), (7, 25), orders), (False, 7, "pixels")]
    ]
    kernels += [
        (Workload("pointwise", 24, 112, 5, 5, scaled=scaled), Parameters(pixels, 4, 1, order))
        for scaled, pixels, order in product((False, True), (4, 25), orders)
    ]
    kernels += [
        (Workload("depthwise", 40, 40, 7, 9, 3, 1, pooled=pooled), Parameters(5, 2, unroll_kernel=unroll))
        for pooled, unroll in product((False, True), repeat=2)
    ]
    kernels += [(Workload("conv", 3, 16, 13, 11, 3, 2), Parameters(4)), (Workload("pool", 70, 70, 3, 3), Parameters())]
    kernels += [(Workload("scale", 40, 40, 7, 3), Parameters(4)), (Workload("pointwise", 64, 40, 1, 1), Parameters())]
    check_kernels(kernels, replace(machine, threads=threads))


def test_starting_threads_for_a_small_kernel_does_not_pay() -> None:
    shared = replace(NEON, threads=4)
    assert shared.threads_for(Workload("pointwise", 16, 16, 2, 2)) == 1
    assert shared.threads_for(Workload("pointwise", 160, 640, 14, 14)) == 4
    assert NEON.threads_for(Workload("pointwise", 160, 640, 14, 14)) == 1


def test_every_kind_has_a_template() -> None:
    assert set(TEMPLATES) == set(get_args(Kind))


def test_parameters_survive_json() -> None:
    parameters = Parameters(7, 2, 4, "pixels", True)
    assert Parameters.from_dict(parameters.to_dict()) == parameters


UNKNOWN = [{"tile_pixels": 0}, {"tile_pixels": 2.5}, {"loop_order": "rows"}, {"unroll_kernel": "all"}, {"tiles": 3}]


@pytest.mark.parametrize("change", UNKNOWN)
def test_unknown_parameters_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(InvalidRecordError, match="tune again"):
        Parameters.from_dict({**Parameters().to_dict(), **change})


def test_a_pool_has_no_epilogue(machine: Machine) -> None:
    with pytest.raises(CompileError, match="neither activation nor residual"):
        kernel_module([("k", Workload("pool", 8, 8, 2, 2, activation="relu"), Parameters())], machine)
