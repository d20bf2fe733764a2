from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ofa_tvm import errors

REPOSITORY = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

PROBE = """
if __name__ == "__main__":
    from ofa_tvm.entry import enter

    enter("probe")

from ofa_tvm import console, display, options
import os, sys, time
from pathlib import Path
from typing import Annotated
import typer
from ofa_tvm import errors

app = console.new_app("A probe.")

@app.command()
def probe(
    what: str,
    latency: Annotated[float, typer.Option("--latency", callback=options.positive_float)] = 1.0,
    seed: options.SeedOption = 0,
    as_json: options.JsonOption = False,
) -> None:
    if what == "result":
        display.print_result({"name": "[bold]x[/bold]", "long": "y" * 200}, as_json)
    elif what == "many":
        for _ in range(100_000):
            print("x" * 100)
    elif what == "wait":
        wait()
    elif what == "fork":
        fork()
    elif what == "progress":
        with display.progress(5, "measuring kernels", done=2) as bar:
            bar.advance(3)
    elif what == "interrupted within exec of a string":
        exec("raise KeyboardInterrupt")
    elif what.startswith("interrupted within "):
        ignoring(what.removeprefix("interrupted within "))
    elif what == "native teardown":
        raise NoisyError("too late")
    else:
        raise eval(what)

class NoisyError(errors.StageError):
    def __del__(self):
        os.write(2, b"a native destructor complains")

def wait():
    with display.progress(5, "measuring kernels") as bar:
        try:
            bar.advance()
            print("ready", flush=True)
            time.sleep(60)
        finally:
            os.write(2, b"native code complains of being left\\n")
            print("cleaning", flush=True)
            sys.stdin.readline()
            Path("cleaned").touch()

class Slow:
    def __del__(self):
        wait_for_the_signal()

def wait_for_the_signal():
    print("ready", flush=True)
    time.sleep(60)

def ignoring(where):
    if where == "a destructor":
        Slow()
    else:
        os.register_at_fork(before=wait_for_the_signal)
        if not os.fork():
            os._exit(0)
    time.sleep(60)

def fork():
    if not (child := os.fork()):
        try:
            os.write(1, b"ready\\n")
            time.sleep(60)
        finally:
            Path("cleaned-by-child").touch()
    os.write(1, f"{child}\\n".encode())
    try:
        os.waitpid(child, 0)
    finally:
        os.write(1, b"parent ended\\n")
"""


@pytest.fixture
def probe(tmp_path):
    (tmp_path / "probe.py").write_text(PROBE)
    return [sys.executable, "-m", "probe"]


def _run(probe, tmp_path, *arguments, **options):
    options = {"stderr": subprocess.PIPE, **options}
    return subprocess.run([*probe, *arguments], cwd=tmp_path, env=ENVIRONMENT, text=True, timeout=60, **options)


@pytest.fixture
def start(tmp_path):
    """Start a command with pipes to it; whatever happens, its process group is gone afterwards."""
    with contextlib.ExitStack() as stack:

        def call(*line):
            pipe = subprocess.PIPE
            command = stack.enter_context(
                subprocess.Popen(
                    line,
                    cwd=tmp_path,
                    env=ENVIRONMENT,
                    text=True,
                    stdin=pipe,
                    stdout=pipe,
                    stderr=pipe,
                    start_new_session=True,
                )
            )
            stack.callback(_kill_group, command.pid)
            return command

        yield call


def _kill_group(group):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _tree(kind=errors.OfaTvmError):
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _tree(child))]


def test_every_error_has_an_exit_code_of_the_table():
    assert {kind.exit_code for kind in _tree()} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("raised", "line", "code"),
    [
        ("errors.UnknownTargetError('no target x')", "error: no target x", 2),
        ("errors.DeviceUnavailableError('none free\\nat all')", "error: none free at all", 3),
        ("errors.InfeasibleBudgetError('too tight')", "error: too tight", 4),
        ("errors.MeasurementError('drifted')", "error: drifted", 5),
        ("OSError(28, 'No space left on device', '/x')", "error: cannot write /x: No space left on device", 2),
        ("OSError(30, 'Read-only file system', '/x')", "error: cannot write /x: Read-only file system", 2),
        ("OSError(13, 'Permission denied', '/x')", "error: cannot open /x: Permission denied", 2),
        ("KeyboardInterrupt", "interrupted: ", 130),
        ("interrupted within exec of a string", "interrupted: ", 130),
        ("native teardown", "error: too late", 5),
    ],
)
def test_a_deliberate_error_is_one_line(probe, tmp_path, raised, line, code):
    done = _run(probe, tmp_path, raised, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["result", "--latency", "-3"], "'--latency': -3 is not a positive number"),
        (["result", "--latency", "0"], "0 is not a positive number"),
        (["result", "--latency", "nan"], "nan is not a positive number"),
        (["result", "--latency", "fast"], "'--latency'"),
        (["result", "--seed", "-1"], "or equal to 0, not -1;"),
        (["result", "--latecy", "3"], "No such option: --latecy"),
        ([], "Missing argument 'what'"),
    ],
)
def test_a_usage_error_is_one_line_that_names_the_help(probe, tmp_path, arguments, message):
    done = _run(probe, tmp_path, *arguments, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.endswith("; see python -m probe --help\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("raised", ["ZeroDivisionError('x')", "BrokenPipeError(32, 'a device went away')"])
def test_anything_else_is_a_bug_with_a_traceback(probe, tmp_path, raised):
    done = _run(probe, tmp_path, raised, stdout=subprocess.PIPE)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("this is a bug in ofa_tvm: ")


def test_results_go_to_stdout_uncut_and_unstyled(probe, tmp_path):
    table = _run(probe, tmp_path, "result", stdout=subprocess.PIPE)
    assert "[bold]x[/bold]" in table.stdout
    assert "y" * 200 in table.stdout
    as_json = _run(probe, tmp_path, "result", "--json", stdout=subprocess.PIPE)
    assert json.loads(as_json.stdout) == {"name": "[bold]x[/bold]", "long": "y" * 200}
    assert table.stderr == as_json.stderr == ""


def test_a_terminal_without_unicode_shows_the_result_all_the_same(probe, tmp_path):
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*probe, "result"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "y" * 200 in done.stdout


def test_a_reader_that_goes_away_ends_the_command_quietly(probe, start, tmp_path):
    command = start(*probe, "many")
    command.stdout.readline()
    command.stdout.close()
    assert command.stderr.read() == ""
    assert command.wait(timeout=60) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("what", ["result", "many"])
def test_a_full_disk_behind_stdout_is_one_line(probe, tmp_path, what):
    with Path("/dev/full").open("w") as full:
        done = _run(probe, tmp_path, what, stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write the output: No space left")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("arguments", "code"), [(["result"], 0), (["result", "--seed", "-1"], 2)])
def test_a_stderr_that_takes_nothing_changes_no_result(probe, tmp_path, arguments, code):
    with Path("/dev/full").open("w") as full:
        done = _run(probe, tmp_path, *arguments, stdout=subprocess.PIPE, stderr=full)
    assert (done.returncode, bool(done.stdout)) == (code, code == 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_runs_the_clean_up_and_exits_with_130(probe, start, tmp_path, number):
    command = start(*probe, "wait")
    assert command.stdout.readline() == "ready\n"
    command.send_signal(number)
    _, log = command.communicate("\n", timeout=60)
    assert command.returncode == 130
    assert (tmp_path / "cleaned").exists()
    lines = log.splitlines()
    assert lines[:-1] == ["measuring kernels: 0/5", lines[1]]
    assert lines[1].startswith("measuring kernels: 1/5, ")
    assert lines[-1].startswith("interrupted: ")


@pytest.mark.parametrize("where", ["a destructor", "a hook around a fork"])
def test_an_interruption_that_python_ignores_comes_again(probe, start, tmp_path, where):
    command = start(*probe, f"interrupted within {where}")
    assert command.stdout.readline() == "ready\n"
    command.send_signal(signal.SIGINT)
    _, log = command.communicate(timeout=60)
    assert command.returncode == 130
    assert log.startswith("interrupted: ")
    assert log.count("\n") == 1


def test_a_second_interruption_lets_the_clean_up_finish(probe, start, tmp_path):
    command = start(*probe, "wait")
    for expected in ("ready\n", "cleaning\n"):
        assert command.stdout.readline() == expected
        command.send_signal(signal.SIGINT)
    while "still cleaning up" not in command.stderr.readline():
        pass
    _, log = command.communicate("\n", timeout=60)
    assert command.returncode == 130
    assert (tmp_path / "cleaned").exists()
    assert "Traceback" not in log


def test_a_third_interruption_gives_the_clean_up_up_without_a_traceback(probe, start, tmp_path):
    command = start(*probe, "wait")
    for expected in ("ready\n", "cleaning\n"):
        assert command.stdout.readline() == expected
        command.send_signal(signal.SIGINT)
    while "still cleaning up" not in command.stderr.readline():
        pass
    command.send_signal(signal.SIGINT)
    log = command.stderr.read()
    assert command.wait(timeout=60) == 130
    assert not (tmp_path / "cleaned").exists()
    assert "Traceback" not in log
    assert log.splitlines()[-1].startswith("interrupted: ")


def test_a_forked_child_dies_of_a_signal_without_running_its_parents_clean_up(probe, start, tmp_path):
    command = start(*probe, "fork")
    lines = {command.stdout.readline().strip(), command.stdout.readline().strip()}
    (child,) = lines - {"ready"}
    os.kill(int(child), signal.SIGTERM)
    output, log = command.communicate(timeout=60)
    assert (command.returncode, output, log) == (0, "parent ended\n", "")
    assert not (tmp_path / "cleaned-by-child").exists()


@pytest.mark.parametrize("slow_module", ["typer", "torch"])
def test_ctrl_c_during_the_imports_is_one_line(start, tmp_path, slow_module):
    entering = 'if __name__ == "__main__":\n    from ofa_tvm.entry import enter\n    enter("slow")\n'
    (tmp_path / "slow.py").write_text(f"{entering}import torch\n")
    (tmp_path / f"{slow_module}.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    command = start(sys.executable, "-m", "slow")
    assert command.stdout.readline() == "ready\n"
    command.send_signal(signal.SIGINT)
    _, log = command.communicate(timeout=60)
    assert command.returncode == 130
    assert log.startswith("interrupted: ")
    assert log.count("\n") == 1


def test_progress_in_a_pipe_is_lines_on_stderr(probe, tmp_path):
    done = _run(probe, tmp_path, "progress", stdout=subprocess.PIPE)
    assert done.stdout == ""
    assert done.stderr.splitlines() == ["measuring kernels: 2/5", "measuring kernels: 5/5"]


@pytest.fixture
def on_terminal(probe, tmp_path):
    """Run the probe with stderr on a terminal; the command, and a way to read all that it shows."""
    leader, follower = pty.openpty()
    started = []

    def begin(what):
        command = subprocess.Popen(
            [*probe, what],
            cwd=tmp_path,
            env={**ENVIRONMENT, "TERM": "xterm"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=follower,
            text=True,
        )
        os.close(follower)
        started.append(command)
        return command

    def read():
        shown = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and select.select([leader], [], [], 60)[0]:
            try:
                shown += os.read(leader, 4096)
            except OSError:  # Linux: the other end is closed
                break
        return shown.decode()

    yield begin, read
    os.close(leader)
    for command in started:
        command.kill()
        command.wait()
        command.stdout.close()


def test_progress_on_a_terminal_is_a_bar(on_terminal):
    begin, read = on_terminal
    command, shown = begin("progress"), read()
    assert command.wait(timeout=60) == 0
    assert "5/5" in shown
    assert "━" in shown


def test_an_interruption_amid_a_bar_is_told_and_native_code_is_not_heard(on_terminal):
    begin, read = on_terminal
    command = begin("wait")
    assert command.stdout.readline() == "ready\n"
    command.send_signal(signal.SIGINT)
    shown = read()
    assert command.wait(timeout=60) == 130
    assert "interrupted: " in shown
    assert "complains" not in shown
