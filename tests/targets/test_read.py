"""Mistakes in a target file are one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ofa_tvm.errors import InvalidTargetError, UsageError
from ofa_tvm.targets import Cpu, load_target

GOOD = """
description: a board
tvm_target: {kind: llvm, mtriple: aarch64-linux-gnu}
device: {kind: rpc, key: board}
measurement: {repeats: 5}
cpu: {cores: 4, features: [asimd]}
"""


def _write(folder: Path, text: str, name: str = "board.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_path_to_a_target_of_ones_own(tmp_path: Path):
    target = load_target(_write(tmp_path, GOOD))
    assert (target.name, target.device.key, target.measurement.repeats, target.threads) == ("board", "board", 5, 1)
    assert (target.device.tracker_host, target.device.tracker_port, target.device.ssh) == ("127.0.0.1", 9190, None)
    assert target.cpu == Cpu(cores=4, features=("asimd",))


def test_what_is_not_known_of_a_cpu_is_left_out(tmp_path: Path):
    target = load_target(_write(tmp_path, GOOD.replace("cpu: {cores: 4, features: [asimd]}", "")))
    assert target.cpu == Cpu()
    assert target.cpu.l1d_kib is None
    assert target.cpu.features == ()


@pytest.mark.parametrize("address", ["pi@192.168.1.20", "pi@rasp4.local:2222", "rasp4", "root@[fe80::1]:22"])
def test_ssh_addresses(tmp_path: Path, address: str):
    text = GOOD.replace("key: board", f"key: board, ssh: '{address}'")
    assert load_target(_write(tmp_path, text)).device.ssh == address


@pytest.mark.parametrize(
    "address", ["", "pi@", "-oProxyCommand=x@host", "pi@host:99999", "pi@host:0", "pi@a b", "a@b@c"]
)
def test_what_is_no_ssh_address(tmp_path: Path, address: str):
    text = GOOD.replace("key: board", f"key: board, ssh: '{address}'")
    with pytest.raises(InvalidTargetError, match=r"device\.ssh: it takes user@host or user@host:port \(.*\), not "):
        load_target(_write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("description: [a\ntvm_target: host\n", "line 2: not YAML"),
        ("description: a\n\tthreads: 1\n", "line 2: not YAML"),
        ("description: 2026-13-01\n", "not YAML: month must be in"),
        ("description: " + "[" * 5000, "not YAML"),
        ("? [a, b]\n: 1\n", "line 1: not YAML: a key must be a word"),
        ("", "a mapping"),
        ("- a\n- b\n", "a mapping"),
        (GOOD + "thread: 2\n", r"unknown key 'thread', did you mean 'threads'\?"),
        (GOOD.replace("repeats", "repeat"), r"unknown key 'measurement.repeat', did you mean 'repeats'\?"),
        (GOOD.replace("cores", "core"), r"unknown key 'cpu.core', did you mean 'cores'\?"),
        (GOOD.replace("cores", "l1_kib"), r"unknown key 'cpu.l1_kib', did you mean 'l[12]d?_kib'\?"),
        (GOOD + "zzz: 2\n", "unknown key 'zzz'"),
        (GOOD + "1: 2\n", "unknown key '1'"),
        (GOOD + "name: other\n", "unknown key 'name'.*file's name"),
        (GOOD + "threads: 1\nthreads: 2\n", "line 8.*'threads'.*twice"),
        (GOOD.replace("kind: rpc", "kind: null"), "device.kind: .*not None"),
        (GOOD.replace("kind: rpc", "kind: usb"), "device.kind: .*not 'usb'"),
        (GOOD.replace("5", "-5"), "measurement.repeats: .*not -5"),
        (GOOD.replace("5", "many"), "measurement.repeats: .*not 'many'"),
        (GOOD.replace("cores: 4", "cores: 0"), "cpu.cores: .*not 0"),
        (GOOD.replace("[asimd]", "asimd"), "cpu.features: .*not 'asimd'"),
        (GOOD.replace("[asimd]", "[+neon]"), r"cpu.features.0: .*not '\+neon'"),
        (GOOD.replace("description: a board\n", ""), "missing key 'description'"),
        (GOOD.replace("{kind: llvm, mtriple: aarch64-linux-gnu}", "hosts"), "tvm_target.*'hosts'"),
        (GOOD.replace("key: board", "key: rasp4-emulated"), "device.key: .*emulated boards, not 'rasp4-emulated'"),
        (GOOD + "threads: 5\n", "board.yaml: threads: 5 is more than the 4 of cpu.cores$"),
        (
            GOOD.replace("{kind: llvm,", "{kind: llvm, num-cores: 4,"),
            "tvm_target.num-cores: leave it out",
        ),
        ("x: !!python/object/apply:os.system ['true']\n", "line 1: not YAML"),
    ],
)
def test_mistake_in_a_file_is_one_clear_line(tmp_path: Path, text: str, message: str):
    with pytest.raises(InvalidTargetError, match=message) as caught:
        load_target(_write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert "board.yaml" in str(caught.value)
    assert isinstance(caught.value, UsageError)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rasp4-emulated.yaml", "emulated variants; rename the file to rasp4.yaml"),
        ("-emulated.yaml", "rename the file to board.yaml"),
        ("my board.yaml", "not 'my board'"),
        ("..yaml", "not '.'"),
    ],
)
def test_names_that_a_file_cannot_have(tmp_path: Path, name: str, message: str):
    with pytest.raises(InvalidTargetError, match=message):
        load_target(_write(tmp_path, GOOD, name))


def test_binary_file_is_refused(tmp_path: Path):
    path = tmp_path / "board.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(InvalidTargetError, match="cannot be read as text"):
        load_target(str(path))


def test_target_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_target("local").threads = 2  # type: ignore[misc]
