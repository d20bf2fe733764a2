"""Emulated boards for tests, where this machine can have them."""

from __future__ import annotations

import base64
import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from ofa_tvm.boards.emulation.arm64 import enable_arm64
from ofa_tvm.boards.emulation.board import EmulatedBoard, clean_stale, find_boards, start_board, stop_board
from ofa_tvm.boards.emulation.requirements import require_host
from ofa_tvm.boards.emulation.rootfs import base_root
from ofa_tvm.errors import EmulationError
from ofa_tvm.targets import load_target

from ...processes import await_true

LIMIT_S = 180.0


@pytest.fixture(scope="session")
def base() -> Path:
    """The root file system that boards share, built here unless it is in the user's cache."""
    try:
        require_host()
    except EmulationError as error:
        if os.environ.get("OFA_TVM_REQUIRE_EMULATION") == "1":
            pytest.fail(f"OFA_TVM_REQUIRE_EMULATION=1, but {error}")
        pytest.skip(str(error))
    enable_arm64(print)
    return base_root(print)


@pytest.fixture(scope="module")
def module_boards(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], EmulatedBoard]]:
    """Starts a board by its name, for the whole module."""
    folder = tmp_path_factory.mktemp("boards")
    yield lambda name: start_board(load_target("rasp4"), name, folder, print, tethered=True)
    for board in find_boards(folder):
        stop_board(board)


@pytest.fixture
def boards(base: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder for boards; whatever still runs there at the end is stopped."""
    folder = tmp_path / "boards"
    yield folder
    for place in (folder, *filter(Path.is_dir, folder.glob("*"))):
        for board in find_boards(place):
            stop_board(board)
        clean_stale(place)


@pytest.fixture(scope="session")
def connect() -> Callable[[EmulatedBoard], contextlib.AbstractContextManager[paramiko.SSHClient]]:
    """An SSH connection to a board that must show its own host key."""

    @contextlib.contextmanager
    def connection(board: EmulatedBoard) -> Iterator[paramiko.SSHClient]:
        kind, data = board.host_key.split()
        with paramiko.SSHClient() as client:
            client.set_missing_host_key_policy(paramiko.RejectPolicy())
            key = paramiko.PKey.from_type_string(kind, base64.b64decode(data))
            client.get_host_keys().add(board.address, kind, key)
            client.connect(
                board.address,
                board.ssh_port,
                board.user,
                key_filename=str(board.identity),
                allow_agent=False,
                look_for_keys=False,
                timeout=LIMIT_S,
            )
            yield client

    return connection


@pytest.fixture(scope="session")
def eventually() -> Callable[..., None]:
    """Wait until a condition holds; fail if it does not within the limit."""
    return functools.partial(await_true, limit_s=LIMIT_S)
