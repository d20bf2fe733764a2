"""The one place where commands begin, and that nothing else touches the process."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ofa_tvm.entry import COMMANDS

REPOSITORY = Path(__file__).parents[1]
PYTHON = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
MAIN = [sys.executable, "-m", "ofa_tvm"]

IMPORT_ALL = """
import gc, os, signal, sys

def state():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    handlers = [signal.getsignal(number) for number in numbers]
    return dict(os.environ), handlers, sys.excepthook, sys.unraisablehook, gc.get_threshold(), sys.stdout, sys.stderr

before = state()
for name in sys.argv[1:]:
    __import__(name)
assert state() == before
assert "torch" not in sys.modules and "tvm" not in sys.modules, "a command is light until it works"
"""
LOOK = """
import atexit, runpy, sys
atexit.register(lambda: print(*(name for name, module in sys.modules.items() if module)))
sys.argv[1:] = {arguments}
runpy.run_module("ofa_tvm", run_name="__main__")
"""
STATE = """
import gc, os, sys
import typer

app = typer.Typer()

@app.command()
def state() -> None:
    print(os.environ["OPENBLAS_NUM_THREADS"], os.environ["ORT_DISABLE_TELEMETRY"], gc.get_threshold()[0])
"""


def _run(*line, **options):
    return subprocess.run(line, env=PYTHON, capture_output=True, text=True, timeout=120, **options)


def test_the_package_alone_lists_its_commands_in_the_order_of_their_use():
    done = _run(*MAIN)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^  (\w+) ", done.stdout, re.MULTILINE) == list(COMMANDS)
    assert _run(*MAIN, "--help").stdout == done.stdout


def test_the_list_loads_no_library():
    loaded = set(_run(sys.executable, "-c", LOOK.format(arguments=[])).stdout.splitlines()[-1].split())
    assert "ofa_tvm.entry" in loaded
    assert {"torch", "tvm", "numpy", "typer", "rich", "pydantic"}.isdisjoint(loaded)


def test_a_command_that_is_none_is_one_line_with_the_nearest():
    done = _run(*MAIN, "deplyo")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no command 'deplyo'; python -m ofa_tvm lists them all, did you mean 'deploy'?\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_spelling_is_the_same_command(name):
    """Its usage says how it was called; the rest is the same, down to the exit codes."""
    long, short = _run(*MAIN, name, "--help"), _run(sys.executable, "-m", f"ofa_tvm.{name}", "--help")
    assert (long.returncode, short.returncode) == (0, 0)
    assert long.stdout.startswith(f"Usage: python -m ofa_tvm {name} ")
    assert short.stdout.startswith(f"Usage: python -m ofa_tvm.{name} ")
    assert long.stdout.splitlines()[1:] == short.stdout.splitlines()[1:]


@pytest.mark.parametrize("line", [[*MAIN, "search"], [sys.executable, "-m", "ofa_tvm.search"]])
def test_a_usage_error_names_what_was_typed(line):
    done = _run(*line, "--target")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(f"; see python {' '.join(line[1:])} --help\n")


def test_the_installed_script_is_the_same():
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["ofa_tvm"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    code = f"import sys; from {module} import {function}; sys.argv[0] = '/usr/bin/ofa_tvm'; {function}()"
    done = _run(sys.executable, "-c", code, "deploy", "--help")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Usage: ofa_tvm deploy [OPTIONS]")


def test_importing_commands_leaves_the_process_as_it_was():
    modules = (
        "ofa_tvm.entry",
        "ofa_tvm.console",
        "ofa_tvm.options",
        *(command.module for command in COMMANDS.values()),
    )
    done = _run(sys.executable, "-c", IMPORT_ALL, *modules)
    assert done.returncode == 0, done.stderr


def test_running_one_prepares_the_process(tmp_path):
    (tmp_path / "state.py").write_text(STATE)
    done = _run(sys.executable, "-c", "from ofa_tvm.entry import enter; enter('state')", cwd=tmp_path)
    assert done.stdout == "1 1 100000\n", done.stderr


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_begins_with_its_entry(command):
    """Before its imports: only then is Ctrl-C amid them one line."""
    path = REPOSITORY / Path(*command.module.split(".")).with_suffix(".py")
    _docstring, _annotations, first, *rest = ast.parse(path.read_text()).body
    assert ast.unparse(first) == (
        f"if __name__ == '__main__':\n    from ofa_tvm.entry import enter\n    enter({command.module!r})"
    )
    assert not any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in rest)
