"""A tracker, RPC servers of every kind, and kernels that do what a test wants."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tvm
import tvm_ffi
from tvm import relax, rpc
from tvm.rpc import base

from ofa_tvm.measurement.deadline import shut_connections, within

from ..processes import PATIENCE_S, await_true, free_port, lives

RPC = Path(__file__).parents[2] / "rpc"
BUILD = RPC / "server" / "build.sh"
INCLUDE = tvm_ffi.libinfo.find_include_path()
KINDS = ("python", "native", "native-sanitized")
KERNELS = """
#include <dlpack/dlpack.h>
#include <tvm/ffi/c_api.h>
static DLTensor *tensor(const TVMFFIAny *argument) {
    return argument->type_index == kTVMFFITensor ? (DLTensor *)((char *)argument->v_obj + sizeof(TVMFFIObject))
                                                 : (DLTensor *)argument->v_ptr;
}
int __tvm_ffi_double(void *self, const TVMFFIAny *arguments, int count, TVMFFIAny *result) {
    DLTensor *from = tensor(arguments), *to = tensor(arguments + 1);
    for (int64_t i = 0; i < from->shape[0]; i++) ((float *)to->data)[i] = 2 * ((float *)from->data)[i];
    return 0;
}
int __tvm_ffi_segfault(void *self, const TVMFFIAny *arguments, int count, TVMFFIAny *result) {
    return *(volatile int *)0;
}
int __tvm_ffi_hang(void *self, const TVMFFIAny *arguments, int count, TVMFFIAny *result) {
    for (volatile int forever = 1; forever;) {}
    return 0;
}
"""
SANITIZER = {
    "ASAN_OPTIONS": "detect_leaks=1:handle_segv=0:handle_abort=0:handle_sigbus=0:log_path={folder}/report",
    "UBSAN_OPTIONS": "print_stacktrace=1:log_path={folder}/report",
}


class Launched:
    """A process of ``rpc/`` and what it says."""

    def __init__(self, command: list[Any], log: Path, environment: dict[str, str], inherit: tuple[int, ...]) -> None:
        self.log_file = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, **environment},
                pass_fds=inherit,
            )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def says(self, text: str, times: int = 1) -> None:
        await_true(lambda: self.log.count(text) >= times or self.process.poll() is not None, what=lambda: self.log)
        assert self.log.count(text) >= times, self.log

    def sessions(self) -> list[psutil.Process]:
        if self.process.poll() is not None:
            return []
        return [child for child in psutil.Process(self.process.pid).children() if lives(child)]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE_S)


class Session:
    """An RPC session in which every call has a limit."""

    def __init__(self, host: str, port: int, match_key: str) -> None:
        self.address = (host, port)
        self.remote = self.within(functools.partial(rpc.connect, host, port, match_key))

    def within(self, call: Callable[[], Any], limit_s: float = PATIENCE_S) -> Any:
        return within(limit_s, call, self.hang_up)

    def hang_up(self) -> None:
        shut_connections(*self.address)

    def module(self, library: Path) -> Any:
        return self.within(lambda: (self.remote.upload(str(library)), self.remote.load_module(library.name))[1])

    def run(self, module: Any, function: str, limit_s: float = PATIENCE_S) -> np.ndarray:
        """What the function makes of 0, 1, 2, 3."""

        def call() -> np.ndarray:
            cpu = self.remote.cpu(0)
            given = tvm.runtime.tensor(np.arange(4, dtype=np.float32), cpu)
            made = tvm.runtime.tensor(np.zeros(4, np.float32), cpu)
            module[function](given, made)
            return made.numpy()

        return self.within(call, limit_s)

    def run_subnet(self, library: Path) -> np.ndarray:
        """The scores that a subnet of `compile_subnet` gives for 0 to 5."""
        module = self.module(library)
        image = np.arange(6, dtype=np.float32).reshape(2, 3)

        def call() -> np.ndarray:
            cpu = self.remote.cpu(0)
            return relax.VirtualMachine(module, cpu)["main"](tvm.runtime.tensor(image, cpu)).numpy()

        return self.within(call)


class Farm:
    """A tracker and its servers; `close` leaves nothing of them."""

    def __init__(self, folder: Path, commands: Callable[[str], list[Any]]) -> None:
        self.folder = folder
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.commands = commands
        self.launched: list[Launched] = []
        self.port = free_port()
        self.start_tracker()

    def start_tracker(self) -> None:
        self.tracker = self.launch([sys.executable, RPC / "tracker.py", "--port", self.port])
        self.tracker.says("RPC tracker on")

    def start_server(self, kind: str, *options: Any, key: str = "board") -> Launched:
        """A server that is registered and free."""
        before = self.free(key)
        command = [*self.commands(kind), "--tracker", f"127.0.0.1:{self.port}", "--key", key, *options]
        server = self.launch(command)
        server.says("registered at")
        await_true(lambda: self.free(key) > before, what=lambda: server.log)
        return server

    def free(self, key: str = "board") -> int:
        return self.summary()["queue_info"].get(key, {}).get("free", 0)

    def await_free(self, key: str = "board") -> None:
        await_true(lambda: self.free(key) > 0, what=lambda: self.launched[-1].log)

    def summary(self) -> dict[str, Any]:
        return self._ask([base.TrackerCode.SUMMARY])[1]

    def offer(self, key: str = "board") -> tuple[str, int, str]:
        """Host, port and match key of a session that is ours now."""
        self.await_free(key)
        return tuple(self._ask([base.TrackerCode.REQUEST, key, "", 1])[1])

    def session(self, key: str = "board") -> Session:
        return Session(*self.offer(key))

    def close(self) -> None:
        alive = [one for one in self.launched if one.process.poll() is None]
        try:
            for one in alive:
                one.process.terminate()
            for one in alive:
                one.process.wait(PATIENCE_S)
        finally:
            for one in alive:
                one.kill()

    def launch(self, command: list[Any], *inherit: int) -> Launched:
        environment = {name: text.format(folder=self.folder) for name, text in SANITIZER.items()}
        environment["TMPDIR"] = str(self.temporary)
        self.launched.append(Launched(command, self.folder / f"log{len(self.launched)}", environment, inherit))
        return self.launched[-1]

    def _ask(self, message: list[Any]) -> Any:
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S) as connection:
            connection.sendall(struct.pack("<i", base.RPC_TRACKER_MAGIC))
            base.recvall(connection, 4)
            base.sendjson(connection, message)
            return base.recvjson(connection)


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it lies on a board: the runtime's libraries and their versions."""
    folder = tmp_path_factory.mktemp("libraries")
    tvm_lib = Path(tvm.__file__).parent / "lib"
    ffi = Path(tvm_ffi.__file__).parent / "lib" / "libtvm_ffi.so"
    for library in (ffi, tvm_lib / "libtvm_runtime.so", tvm_lib / "libtvm_runtime_extra.so"):
        (folder / library.name).symlink_to(library)
    versions = [f"{package} {version(package)}\n" for package in ("apache-tvm", "apache-tvm-ffi")]
    (folder / "versions").write_text("".join(versions))
    return folder


@pytest.fixture(scope="session")
def build(shared: Callable[[str, Callable[[Path], None]], Path]) -> Callable[..., Path]:
    """Build the native server with gcc, once for each choice of options."""

    def build(*options: str, compiler: str = "gcc") -> Path:
        def fill(folder: Path) -> None:
            command = [BUILD, "--out", folder / "ofa_tvm-rpc-server", *options]
            environment = {**os.environ, "CC": compiler, "PYTHON": sys.executable}
            run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240)
            assert run.returncode == 0, run.stderr

        return shared(" ".join(["server by", compiler, *options]), fill) / "ofa_tvm-rpc-server"

    return build


@pytest.fixture(scope="session")
def server_command(build: Callable[..., Path], libraries: Path) -> Callable[[str], list[Any]]:
    """How each kind of server is started."""

    def command(kind: str) -> list[Any]:
        if kind == "python":
            return [sys.executable, RPC / "server.py"]
        return [build(*(["--sanitize"] if kind == "native-sanitized" else [])), "--libraries", libraries]

    return command


@contextlib.contextmanager
def opened_farm(folder: Path, server_command: Callable[[str], list[Any]]) -> Iterator[Farm]:
    """A tracker, no server yet. In the end nothing may be left: no process, no file, no sanitizer's report."""
    farm = Farm(folder, server_command)
    try:
        yield farm
    finally:
        sessions = [session for one in farm.launched for session in one.sessions()]
        farm.close()
    await_true(lambda: not any(map(lives, sessions)), what="a session was left running")
    assert not list(farm.temporary.iterdir())
    assert not [report.read_text() for report in folder.glob("report*")]


@pytest.fixture
def farm(tmp_path: Path, server_command: Callable[[str], list[Any]]) -> Iterator[Farm]:
    """A farm for one test."""
    with opened_farm(tmp_path, server_command) as farm:
        yield farm


@pytest.fixture
def at_each_kind(
    tmp_path: Path, server_command: Callable[[str], list[Any]]
) -> Callable[[Callable[[Farm, Launched], None]], None]:
    """Check something at a server of each kind, in a farm of its own, all at the same time: for what is all waiting."""

    def check_one(kind: str, check: Callable[[Farm, Launched], None]) -> None:
        (tmp_path / kind).mkdir()
        with opened_farm(tmp_path / kind, server_command) as farm:
            check(farm, farm.start_server(kind))

    def check_all(check: Callable[[Farm, Launched], None]) -> None:
        with ThreadPoolExecutor(len(KINDS)) as pool:
            checks = {kind: pool.submit(check_one, kind, check) for kind in KINDS}
        for kind, done in checks.items():
            if (error := done.exception()) is not None:
                error.add_note(f"at the server of kind {kind}")
                raise error

    return check_all


@pytest.fixture(scope="session")
def compile_kernels(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Kernels ``double``, ``segfault`` and ``hang``, for float32 vectors, by the name of a C compiler."""

    @functools.cache
    def compile_kernels(compiler: str) -> Path:
        folder = tmp_path_factory.mktemp("kernels")
        (folder / "kernels.c").write_text(KERNELS)
        command = [compiler, "-shared", "-fPIC", "-O1", "-isystem", INCLUDE, "-o", "kernels.so", "kernels.c"]
        subprocess.run(command, check=True, cwd=folder)
        return folder / "kernels.so"

    return compile_kernels


@pytest.fixture(scope="session")
def kernels(compile_kernels: Callable[[str], Path]) -> Path:
    return compile_kernels("gcc")


@pytest.fixture(scope="session")
def compile_subnet(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A Relax executable with weights inside: ``main`` gives the row sums of (2, 3) as (2, 1), times 2."""

    def compile_subnet(target: dict[str, Any], **export: Any) -> Path:
        builder = relax.BlockBuilder()
        image = relax.Var("image", relax.TensorType((2, 3), "float32"))
        with builder.function("main", [image]):
            with builder.dataflow():
                weights = relax.const(np.full((3, 1), 2, np.float32))
                scores = builder.emit_output(relax.op.matmul(image, weights))
            builder.emit_func_output(scores)
        path = tmp_path_factory.mktemp("subnet") / "subnet.so"
        tvm.compile(builder.get(), target=tvm.target.Target(target)).export_library(str(path), **export)
        return path

    return compile_subnet


@pytest.fixture(scope="session")
def subnet(compile_subnet: Callable[..., Path]) -> Path:
    return compile_subnet({"kind": "llvm"})
