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
    print(os.environ.get("HOME"))
"""
STREAMS = """
import os, subprocess, sys
import typer

app = typer.Typer()

@app.command()
def streams() -> None:
    for descriptor in range(3):
        os.fstat(descriptor)
    subprocess.run([sys.executable, "-c", "import os; [os.fstat(number) for number in range(3)]"], check=True)
    assert os.open(os.devnull, os.O_RDONLY) > 2
    print("result")
    print("remark", file=sys.stderr)
"""
NOBODY = """
import pwd

def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")

pwd.getpwuid = unknown
from ofa_tvm.entry import enter
enter("state")
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
    assert done.stdout == f"1 1 100000\n{PYTHON['HOME']}\n", done.stderr


def test_a_user_without_a_home_gets_one_where_nothing_can_be_kept(tmp_path, monkeypatch):
    """TVM can't even be imported without."""
    (tmp_path / "state.py").write_text(STATE)
    monkeypatch.delitem(PYTHON, "HOME")
    assert _run(sys.executable, "-c", NOBODY, cwd=tmp_path).stdout == "1 1 100000\n/nonexistent\n"


CLOSED = "stdout is closed: the result has nowhere to go; send it to /dev/null if nobody needs it"


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_a_closed_stdout_is_told_before_anything_is_done(name):
    done = _run("bash", "-c", '"$@" --help >&-', "-", *MAIN, *filter(None, [name]))
    assert (done.returncode, done.stderr) == (2, f"error: {CLOSED}\n")


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_a_closed_stdin_and_stderr_do_no_harm(name):
    done = _run("bash", "-c", '"$@" --help <&- 2>&-', "-", *MAIN, *filter(None, [name]))
    assert (done.returncode, done.stderr) == (0, "")
    assert "--help" in done.stdout


@pytest.mark.parametrize("closed", ["2>&-", "<&-", "<&- 2>&-", "2</dev/null"])
def test_what_is_opened_next_never_passes_for_a_stream(tmp_path, closed):
    """Neither here nor in the processes that are started."""
    (tmp_path / "streams.py").write_text(STREAMS)
    command = [sys.executable, "-c", "from ofa_tvm.entry import enter; enter('streams')"]
    done = _run("bash", "-c", f'"$@" {closed}', "-", *command, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "result\n"), done.stderr
    assert done.stderr == ("" if "2" in closed else "remark\n")


@pytest.mark.parametrize("closed", [">&- 2>&-", "<&- >&- 2>&-", "1</dev/null 2>&-"])
def test_without_any_stream_the_exit_code_tells(closed):
    assert _run("bash", "-c", f'"$@" {closed}', "-", *MAIN).returncode == 2


@pytest.mark.parametrize("closed", ["2>&-", "<&- 2>&-", "2</dev/null"])
def test_an_error_without_stderr_has_its_exit_code(closed, tmp_path):
    done = _run("bash", "-c", f'"$@" {closed}', "-", *MAIN, "bundle", "show", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_command_begins_with_its_entry(command):
    """Before its imports: only then is Ctrl-C amid them one line."""
    path = REPOSITORY / Path(*command.module.split(".")).with_suffix(".py")
    _docstring, _annotations, first, *rest = ast.parse(path.read_text()).body
    assert ast.unparse(first) == (
        f"if __name__ == '__main__':\n    from ofa_tvm.entry import enter\n    enter({command.module!r})"
    )
    assert not any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in rest)
