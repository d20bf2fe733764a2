from __future__ import annotations

import json
import math

import pytest
from rich.table import Table

from ofa_tvm import display


def test_progress_in_a_pipe_estimates_from_what_this_run_did(monkeypatch, capsys):
    now = 100.0
    monkeypatch.setattr(display.time, "monotonic", lambda: now)
    with display.progress(100, "x", done=50) as bar:
        now += 20
        bar.advance(10)
        now += 1
        bar.advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["x: 50/100", "x: 60/100, 1 min 20 s left", "x: 61/100, 1 min 15 s left"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.2, "1 min"), (200, "3 min 20 s"), (3600 * 2 + 301, "2 h 5 min")]
)
def test_durations_are_for_people(seconds, text):
    assert display.duration(seconds) == text


def test_neither_lines_nor_tables_carry_control_characters(capsys):
    display.say("name: \x1b[2J\nnext")
    table = Table("", title="\x1b[2Jtitle", show_header=False)
    table.add_row("a\x1b[31m\x9b2J")
    table.add_row("two\nlines")
    display.print_result({}, as_json=False, table=table)
    shown = capsys.readouterr()
    assert shown.err == "name: \\x1b[2J\nnext\n"
    assert "\x1b" not in shown.out
    assert "\x9b" not in shown.out
    assert r"\x1b[2Jtitle" in shown.out
    assert "lines" in shown.out.splitlines()[-2]


def test_json_for_other_programs_holds_no_constants_of_python(capsys):
    values = {"a": math.nan, "rows": [{"b": math.inf}, (-math.inf, 1.5)], "c": 2, "d": "NaN"}
    display.print_result(values, as_json=True)
    printed = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert printed == {"a": None, "rows": [{"b": None}, [None, 1.5]], "c": 2, "d": "NaN"}
