"""What holds for every target that comes with the package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from ofa_tvm.compiler.cpu_features import architecture_of, unsupported_features
from ofa_tvm.compiler.machine import machine_of, resolve_tvm_target
from ofa_tvm.targets import Cpu, Target, known_targets, load_target, missing_features

BOARDS = [name for name in known_targets() if load_target(name).tvm_target != "host"]
NO_FIGURES = ("tvm_target.kind", "tvm_target.mtriple")


@pytest.fixture(params=known_targets())
def target(request: pytest.FixtureRequest) -> Target:
    return load_target(request.param)


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> Target:
    return load_target(request.param)


def _figures(target: Target) -> Iterator[str]:
    """The keys whose values somebody had to look up."""
    written = target.model_dump(exclude_unset=True, include={"cpu"})
    sections = {**written, "tvm_target": target.tvm_target}
    for section, content in sections.items():
        if isinstance(content, Mapping):
            yield from (f"{section}.{key}" for key in content if f"{section}.{key}" not in NO_FIGURES)


def test_the_targets_of_the_house_are_there():
    assert known_targets() == ["arm_cpu", "jetson", "local", "null", "rasp3", "rasp4", "rk3588"]
    assert load_target("local").device.kind == "local"
    assert load_target("null").device.kind == "null"
    assert load_target("null").emulated


def test_the_device_has_the_targets_name(target: Target):
    assert target.device.key == target.name


def test_every_figure_has_a_source(target: Target):
    assert set(_figures(target)) <= set(target.sources)
    assert all(len(source) > 10 for source in target.sources.values())


def test_every_source_is_of_something_in_the_file(target: Target):
    written = target.model_dump()
    for name in target.sources:
        content = written
        for key in name.split("."):
            assert key in content, f"{target.name}: a source for {name}, which the file does not have"
            content = content[key]


def test_tvm_accepts_it_and_the_templates_know_its_machine(target: Target):
    tvm_target = resolve_tvm_target(target.tvm_target, target.threads)
    machine = machine_of(tvm_target, target.cpu.l1d_kib)
    assert machine.threads == target.threads
    assert machine.l1_bytes == 1024 * (target.cpu.l1d_kib or 32)


def test_its_features_cover_what_the_compiler_assumes(board: Target):
    tvm_target = resolve_tvm_target(board.tvm_target, board.threads)
    assert architecture_of(tvm_target) == "aarch64"
    assert unsupported_features(tvm_target, "aarch64", board.cpu.features) == []
    assert unsupported_features(tvm_target, "aarch64", ["fp"]), "the check can fail"


def test_missing_features():
    target = load_target("rasp4").model_copy(update={"cpu": Cpu(features=("fp", "asimd", "asimddp"))})
    assert missing_features(target, ["asimd", "fp", "crc32"]) == ["asimddp"]
    assert missing_features(target, iter(["asimd", "asimddp", "fp"])) == []


def test_a_raspberry_pi_has_no_cryptography():
    """Its Linux lists none, though LLVM's Cortex-A72 has it: nothing may be compiled that needs it."""
    of_a_pi = ["fp", "asimd", "evtstrm", "crc32", "cpuid"]
    for name in ("rasp3", "rasp4"):
        target = load_target(name)
        assert missing_features(target, of_a_pi) == []
        assert unsupported_features(resolve_tvm_target(target.tvm_target, 1), "aarch64", of_a_pi) == []
        plain = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "cortex-a72"}
        assert unsupported_features(resolve_tvm_target(plain, 1), "aarch64", of_a_pi) == ["aes", "sha2"]
