from __future__ import annotations

import os
import signal

import pytest
import tvm
from tvm import te
from tvm.target import Target

from ofa_tvm.compiler.general_search import builder
from ofa_tvm.compiler.general_search.builder import Artifact, ScheduledFunction, build_all

from ...processes import below

pytestmark = pytest.mark.usefixtures("two_cpus")


@pytest.fixture
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


@pytest.fixture
def candidates(host: Target) -> list[ScheduledFunction]:
    source = te.placeholder((16,), "float32", "source")
    function = te.create_prim_func([source, te.compute((16,), lambda i: source[i] * 2.0)])
    return [ScheduledFunction(f"candidate_{number}", tvm.IRModule({"main": function}), host) for number in range(4)]


def test_an_artifact_is_read_as_it_was_written() -> None:
    artifact = Artifact.parse("/a#b/candidates_1.so#candidate_2")
    assert (str(artifact.library), artifact.symbol) == ("/a#b/candidates_1.so", "candidate_2")
    assert Artifact.parse(str(artifact)) == artifact


def test_each_candidate_has_its_own_symbol(candidates: list[ScheduledFunction]) -> None:
    for candidate, built in zip(candidates, build_all(candidates), strict=True):
        assert built.error is None
        assert candidate.symbol.encode() in built.code


@pytest.mark.parametrize("fault", ["raises", "dies", "hangs"])
@pytest.mark.parametrize("faulty", [{"candidate_2"}, {"candidate_0", "candidate_3"}])
@pytest.mark.parametrize("cpus", [1, 2])
def test_one_that_cannot_be_built_is_an_error_of_its_own(
    candidates: list[ScheduledFunction], monkeypatch: pytest.MonkeyPatch, fault: str, faulty: set[str], cpus: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cpus)))
    object_code = builder._object_code

    def build(candidate: ScheduledFunction) -> bytes:
        if candidate.symbol not in faulty:
            return object_code(candidate)
        if fault == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        while fault == "hangs":
            pass
        raise RuntimeError("no code\nfor this one")

    monkeypatch.setattr(builder, "_object_code", build)
    monkeypatch.setattr(builder, "BUILD_LIMIT_S", 2.0)
    before = below()
    outcomes = build_all(candidates)
    assert {c.symbol for c, built in zip(candidates, outcomes, strict=True) if built.error} == faulty
    assert all(bool(built.code) != bool(built.error) for built in outcomes)
    reason = {"raises": "for this one", "dies": "SIGKILL", "hangs": "SIGPROF"}[fault]
    assert all(reason in built.error for built in outcomes if built.error)
    assert below() - before == set()
