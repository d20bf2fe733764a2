from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ..processes import PATIENCE_S, await_true, lives


def test_verify_says_what_held(pristine, command):
    done = command("-m", "ofa_tvm.bundle", "verify", pristine, "--time", "2")
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("sample output reproduced", "1.6 ms on local", "median of 2 runs in a row"):
        assert part in done.stdout


def test_verify_as_json(pristine, command):
    done = command("-m", "ofa_tvm.bundle", "verify", pristine, "--json")
    report = json.loads(done.stdout)
    assert report["relative_error"] <= report["tolerance"] == 1e-4
    assert report["here_ms"] is None


def test_a_pause_shows_sporadic_latencies_beside_those_in_a_row(pristine, command):
    done = command("-m", "ofa_tvm.bundle", "verify", pristine, "--pause", "2", "--time", "3", "--json")
    report = json.loads(done.stdout)
    assert report["pause_ms"] == 2.0
    assert report["here_ms"] > 0
    assert report["here_sporadic_ms"] > 0
    table = command("-m", "ofa_tvm.bundle", "verify", pristine, "--pause", "2").stdout
    assert "median of 30 runs in a row" in table
    assert "times that, with 2 ms before each run" in table


def test_run_classifies(pristine, image, command):
    done = command("-m", "ofa_tvm.bundle", "run", pristine, image, "--json")
    classes = json.loads(done.stdout)["classes"]
    assert sum(item["probability"] for item in classes) == pytest.approx(1)
    table = command("-m", "ofa_tvm.bundle", "run", pristine, image)
    assert all(item["name"] in table.stdout for item in classes)


def test_show_as_json_is_the_manifest(pristine, command):
    done = command("-m", "ofa_tvm.bundle", "show", pristine, "--json")
    assert json.loads(done.stdout) == json.loads((pristine / "manifest.json").read_bytes())


def test_files_only_needs_no_library_that_runs(bundle, forge, command):
    (bundle / "library.so").write_bytes(b"\x7fELF for another machine")
    forge(bundle)
    assert command("-m", "ofa_tvm.bundle", "verify", bundle, "--files-only").returncode == 0
    assert command("-m", "ofa_tvm.bundle", "verify", bundle).returncode == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "nowhere"),
        ("show", "nowhere"),
        ("show", "no\x1b[2Jwhere"),
        ("run", "nowhere", "x.png"),
        ("verify",),
        ("verify", "x", "--emulate"),
        ("verify", "x", "--target", "local", "--pause", "5"),
        ("verify", "x", "--files-only", "--pause", "5"),
        ("verify", "x", "--pause", "0"),
        ("verify", "x", "--pause", "nan"),
        ("verify", "x", "--pause", "1e9"),
        ("polish", "x"),
        (),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(command, arguments):
    done = command("-m", "ofa_tvm.bundle", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr


def test_an_image_that_is_none_is_one_line(pristine, command):
    done = command("-m", "ofa_tvm.bundle", "run", pristine, pristine / "README.md")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {pristine / 'README.md'} is no image")
    assert done.stderr.count("\n") == 1


def test_neither_torch_nor_onnx_nor_the_compiler_is_loaded(pristine, image, command):
    """With all of them installed; the trial's process is checked in the same way."""
    probe = """
import runpy, sys
module, sys.argv[1:] = sys.argv[1], sys.argv[2:]
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
assert {"torch", "onnx", "onnxruntime", "tvm.relax", "xgboost"}.isdisjoint(
    name for name, module in sys.modules.items() if module
)
print("tvm.runtime.vm" in sys.modules)
"""
    environment = "import os; os.environ['TVM_USE_RUNTIME_LIB'] = '1'\n"
    for module, *arguments in (
        ("ofa_tvm.bundle", "verify", pristine),
        ("ofa_tvm.bundle", "run", pristine, image),
        ("ofa_tvm.bundle.trial_process", pristine, 0, 0.0, 2),
    ):
        done = command("-c", (environment if module.endswith("trial_process") else "") + probe, module, *arguments)
        assert done.returncode == 0, done.stderr
        assert ("True" in done.stdout) == (arguments[0] != "verify")  # verify leaves the library to the trial


def test_help_shows_examples(command):
    assert "python -m ofa_tvm.bundle verify out/" in command("-m", "ofa_tvm.bundle", "--help").stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_verification_leaves_no_process(bundle, forge, tmp_path, number):
    started = tmp_path / "started"
    source = tmp_path / "hang.c"
    source.write_text(
        "#include <stdio.h>\n#include <unistd.h>\n"
        "__attribute__((constructor)) static void hang(void) {\n"
        f'FILE *started = fopen("{started}.part", "w"); fprintf(started, "%d", getpid()); fclose(started);\n'
        f'rename("{started}.part", "{started}"); for (;;) pause(); }}'
    )
    subprocess.run(["g++", "-x", "c", "-shared", "-fPIC", "-o", bundle / "library.so", source], check=True)
    forge(bundle)
    line = [sys.executable, "-m", "ofa_tvm.bundle", "verify", str(bundle)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) as command:
        await_true(lambda: started.exists() or command.poll() is not None)
        assert command.poll() is None
        command.send_signal(number)
        _, log = command.communicate(timeout=PATIENCE_S)
    assert command.returncode == 130
    assert log.startswith("interrupted: ")
    assert log.count("\n") == 1
    with contextlib.suppress(psutil.NoSuchProcess):
        assert not lives(psutil.Process(int(started.read_text())))
