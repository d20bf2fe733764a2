from __future__ import annotations

import ast
import dataclasses
import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import tvm
from tvm.target import Target

from ofa_tvm.compiler import kernel_cache as cache_module
from ofa_tvm.compiler import kernels as kernels_module
from ofa_tvm.compiler.kernel_cache import SOURCES, KernelCache, digest_of
from ofa_tvm.compiler.kernels import KernelObjects
from ofa_tvm.compiler.machine import Machine
from ofa_tvm.compiler.templates import Parameters
from ofa_tvm.errors import OutputError
from ofa_tvm.space.workload import Workload

POOL = Workload("pool", 16, 16, 2, 2)
SCALE = Workload("scale", 16, 16, 2, 2)
KERNEL = (POOL, Parameters())
Make = Callable[[], KernelObjects]


def default(_workload: Workload) -> Parameters:
    return Parameters()


@pytest.fixture
def make(host: Target, machine: Machine, tmp_path: Path) -> Make:
    """Objects as another process would make them, all in one folder."""
    return lambda: KernelObjects(host, machine, tmp_path / "kernels")


@pytest.fixture
def cache(host: Target, machine: Machine, tmp_path: Path) -> KernelCache:
    return KernelCache(tmp_path / "kernels", host, machine)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the kernels that this process compiles, which is all of them: it forks no workers."""
    keys: list[str] = []
    compile_kernel = KernelObjects._compile

    def spy(objects: KernelObjects, kernel: tuple[Workload, Parameters]) -> bytes:
        keys.append(kernel[0].key)
        return compile_kernel(objects, kernel)

    monkeypatch.setattr(KernelObjects, "_compile", spy)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    return keys


def test_a_kernel_is_compiled_once_for_all_processes(make: Make, cache: KernelCache, compiled: list[str]) -> None:
    first = make().get([POOL, SCALE], default)
    assert make().get([SCALE, POOL], default) == first
    assert compiled == [POOL.key, SCALE.key]
    assert sorted(cache.folder.iterdir()) == sorted(map(cache.path, [KERNEL, (SCALE, Parameters())]))


def test_without_a_folder_there_are_no_files(
    host: Target, machine: Machine, tmp_path: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    objects = KernelObjects(host, machine)
    assert objects.get([POOL], default) == objects.get([POOL], default)
    assert compiled == [POOL.key]
    assert list(tmp_path.iterdir()) == []


def test_what_workers_compile_is_kept_though_one_fails(
    make: Make, cache: KernelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tuning meets candidates that can't be built; what was built beside them is not lost."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    workloads = [Workload("scale", 16 * n, 16 * n, 2, 2) for n in range(1, 6)]
    impossible = Workload("pool", 16, 16, 2, 2, activation="relu")
    with pytest.raises(Exception, match="neither activation nor residual"):
        make().get([*workloads, impossible], default)
    kept = [workload for workload in workloads if cache.get((workload, Parameters()))]
    assert len(kept) >= 4  # all but what the other worker was at
    assert set(cache.folder.iterdir()) >= {cache.path((workload, Parameters())) for workload in kept}


def test_whatever_the_code_depends_on_is_part_of_its_name(
    host: Target, machine: Machine, tmp_path: Path, cache: KernelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = Target({**host.export(), "num-cores": 2})
    feature = Target({**host.export(), "mattr": ["-fma"]})
    names = {
        cache.path(KERNEL),
        cache.path((dataclasses.replace(POOL, height=3), Parameters())),
        cache.path((POOL, Parameters(tile_pixels=2))),
        KernelCache(cache.folder, threads, machine).path(KERNEL),
        KernelCache(cache.folder, feature, machine).path(KERNEL),
        KernelCache(cache.folder, host, dataclasses.replace(machine, l1_bytes=1)).path(KERNEL),
    }
    for name, place in (("_CODE", cache_module), ("__version__", tvm)):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, "another")
            names.add(KernelCache(cache.folder, host, machine).path(KERNEL))
    assert len(names) == 8
    assert KernelCache(cache.folder, Target(host.export()), machine).path(KERNEL) == cache.path(KERNEL)


def test_the_digest_of_the_code_changes_with_each_file(tmp_path: Path) -> None:
    copies = [tmp_path / f"{number}_{path.name}" for number, path in enumerate(SOURCES)]
    for path, copy in zip(SOURCES, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    digests = {digest_of(SOURCES)}
    for copy in copies:
        copy.write_bytes(copy.read_bytes() + b"\n")
        digests.add(digest_of(copies))
    assert len(digests) == 1 + len(SOURCES)


def test_the_code_is_all_that_kernel_templates_import() -> None:
    """A module of this package that a template starts to use has to be among them, or have no say in the code."""
    without_say = {"cpuinfo.py", "cpu_features.py", "errors.py", "names.py", "__init__.py"}
    package = Path(cache_module.__file__).parents[1]
    imported = {
        package.parent.joinpath(*node.module.split(".")).with_suffix(".py")
        for source in SOURCES
        if source.name != "kernels.py"
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("ofa_tvm.")
    }
    assert {path for path in imported if path.name not in without_say and path.is_file()} <= set(SOURCES)


def test_memory_is_not_filled_where_the_disk_is(
    make: Make, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: KernelCache, _kernel: object, _code: bytes) -> None:
        raise OutputError("cannot write kernels: No space left on device")

    monkeypatch.setattr(KernelCache, "put", refuse)
    monkeypatch.setattr(kernels_module, "IN_MEMORY", 2)
    workloads = [dataclasses.replace(POOL, height=height) for height in range(1, 6)]
    objects = make()
    for workload in workloads:
        objects.get([workload], default)
    assert len(objects._objects) <= 3
    assert set(objects.get(workloads, default)) == {workload.key for workload in workloads}
    assert compiled.count(workloads[0].key) == 2


@pytest.mark.parametrize("damage", ["empty", "half", "one byte less", "a bit", "a longer file", "no archive"])
def test_a_damaged_file_is_made_again(make: Make, cache: KernelCache, compiled: list[str], damage: str) -> None:
    objects = make().get([POOL], default)
    path = cache.path(KERNEL)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(
        {
            "empty": b"",
            "half": whole[: len(whole) // 2],
            "one byte less": whole[:-1],
            "a bit": bytes(flipped),
            "a longer file": whole + b"more",
            "no archive": b"\x7fELF" + whole,
        }[damage]
    )
    assert make().get([POOL], default) == objects
    assert compiled == [POOL.key] * 2
    assert path.read_bytes() == whole


def test_a_folder_in_the_place_of_a_file_stops_nothing(make: Make, cache: KernelCache, compiled: list[str]) -> None:
    cache.path(KERNEL).mkdir(parents=True)
    assert make().get([POOL], default) == make().get([POOL], default)
    assert compiled == [POOL.key] * 2


def test_a_full_disk_is_one_warning_and_stops_nothing(
    make: Make,
    cache: KernelCache,
    compiled: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(_self: KernelCache, _kernel: object, _code: bytes) -> None:
        raise OutputError("cannot write kernels: No space left on device; free some space there")

    kept = make().get([POOL], default)
    monkeypatch.setattr(KernelCache, "put", refuse)
    objects = make()
    with caplog.at_level(logging.WARNING, "ofa_tvm"):
        objects.get([SCALE], default)
        objects.get([POOL, SCALE, Workload("pool", 16, 16, 3, 3)], default)
    assert caplog.messages == [
        "compiled kernels are not kept: cannot write kernels: No space left on device; free some space there"
    ]
    assert objects.get([POOL], default) == kept  # what is there is still read
    assert compiled.count(POOL.key) == 1


def test_a_place_that_cannot_be_written_leaves_nothing(
    host: Target, machine: Machine, tmp_path: Path, compiled: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    objects = KernelObjects(host, machine, tmp_path / "file" / "kernels")
    assert set(objects.get([POOL], default)) == {POOL.key}
    assert len(caplog.messages) == 1
    assert "cannot write" in caplog.text
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_many_processes_share_a_folder(make: Make, cache: KernelCache, host: Target, machine: Machine) -> None:
    fork = multiprocessing.get_context("fork")
    workloads = [Workload("scale", 16 * n, 16 * n, 2, 2) for n in range(1, 4)]
    processes = [fork.Process(target=lambda: make().get(workloads, default)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    expected = KernelObjects(host, machine).get(workloads, default)
    for workload in workloads:
        assert cache.get((workload, Parameters())) == expected[workload.key]
    assert len(list(cache.folder.iterdir())) == len(workloads)


def test_what_was_not_used_for_longest_is_thrown_away(host: Target, machine: Machine, tmp_path: Path) -> None:
    kernels = [(dataclasses.replace(POOL, height=height), Parameters()) for height in range(1, 5)]
    code = os.urandom(10_000)
    cache = KernelCache(tmp_path, host, machine, limit_bytes=25_000)
    for age, kernel in zip((4, 3, 2, 1), kernels, strict=True):
        cache.put(kernel, code)
        os.utime(cache.path(kernel), (1e9 - age, 1e9 - age))
    left_by_a_crash = tmp_path / ".written_halfway.o.gz"
    left_by_a_crash.write_bytes(code)
    os.utime(left_by_a_crash, (1, 1))
    assert cache.get(kernels[0]) == code  # used just now
    foreign = tmp_path / "notes"
    foreign.write_bytes(code)
    os.utime(foreign, (1, 1))
    cache.trim()
    assert [cache.get(kernel) is not None for kernel in kernels] == [True, False, False, True]
    assert foreign.exists()
    assert not left_by_a_crash.exists()
    cache.trim()
    assert [cache.get(kernel) is not None for kernel in kernels] == [True, False, False, True]


def test_compiling_keeps_the_limit(make: Make, compiled: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(KernelCache, "trim", lambda _self: looks.append(len(compiled)))
    monkeypatch.setattr(kernels_module, "TRIM_EVERY", 2)
    objects = make()
    for height in range(1, 6):
        objects.get([dataclasses.replace(POOL, height=height)] * 2, default)
        objects.get([POOL], default)  # is in memory after the first time
    assert looks == [1, 3, 5]


def test_memory_is_not_filled_with_what_is_on_disk(
    make: Make, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels_module, "IN_MEMORY", 2)
    workloads = [dataclasses.replace(POOL, height=height) for height in range(1, 6)]
    objects = make()
    all_at_once = objects.get(workloads, default)
    assert set(all_at_once) == {workload.key for workload in workloads}
    assert objects.get(workloads[3:], default).items() <= all_at_once.items()
    assert len(objects._objects) == 2
    assert objects.get(workloads, default) == all_at_once
    assert len(compiled) == len(workloads)
