"""Benchmarks' tables in docs/figures.md, each in a section of its own, so that no figure there is typed by hand.

A section is what stands between ``<!-- begin BENCHMARK: CPU -->`` and ``<!-- end -->``. Running the benchmark again
with ``--markdown`` on the same CPU replaces it; the figures of another CPU are kept beside.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from provenance import cpu_label
from rich.table import Table

from ofa_tvm.display import print_result, say
from ofa_tvm.errors import OutputError
from ofa_tvm.files import output_errors, write_atomic

FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures.md"

MarkdownOption = Annotated[
    bool, typer.Option("--markdown", help="Also write the table into docs/figures.md, in place of this CPU's last.")
]

_SECTION = re.compile(r"<!-- begin (?P<name>[^:\n]+): (?P<cpu>[^\n]+?) -->\n(?P<body>.*?)<!-- end -->\n", re.DOTALL)
_MARK = re.compile(r"^<!-- (?:begin [^:\n]+: [^\n]+|end) -->$", re.MULTILINE)


def print_figures(
    benchmark: str,
    result: Mapping[str, Any],
    tables: Sequence[Table],
    *,
    as_json: bool,
    markdown: bool,
    without: Sequence[str] = (),
    cpu: str | None = None,
) -> None:
    """Print a benchmark's result, and if asked for write its tables into docs/figures.md.

    Parameters
    ----------
    benchmark
        Name of the section: the script's, with what else makes it another table, such as ``against_peers characters``.
    result
        As `provenance.machine` gives it, with the figures.
    without
        Headings of columns that the page has no room for.
    cpu
        What the figures are of, if not of this machine's CPU.
    """
    if markdown:  # first, for printing takes a table's title away
        text = section_text(result, tables, without)
        write_section(FIGURES, benchmark, cpu or cpu_label(), text)
        say(f"written to {FIGURES}: {benchmark}, {cpu or cpu_label()}")
    for table in tables[: 1 if as_json else None]:
        print_result(result, as_json, table)


def section_name(benchmark: str, subject: str | None) -> str:
    """``against_peers``, or ``against_peers characters`` for another subject than the benchmark's own."""
    return benchmark if subject is None else f"{benchmark} {Path(subject).name.replace(':', '')}"


def read_sections(text: str) -> dict[tuple[str, str], str]:
    """What stands in the page, by benchmark and CPU.

    Raises
    ------
    OutputError
        A mark is missing, misspelt or doubled.
    """
    sections = {(found["name"], found["cpu"]): found["body"] for found in _SECTION.finditer(text)}
    marks = len(_MARK.findall(text))
    if marks != 2 * len(sections) or any(_MARK.search(body) for body in sections.values()):
        raise OutputError(f"{FIGURES} has {marks} marks for {len(sections)} sections; each needs its begin and its end")
    return sections


def write_section(path: Path, benchmark: str, cpu: str, body: str) -> None:
    """Put a section into the page: in place of the same benchmark's of this CPU, else behind its others or its heading.

    Raises
    ------
    OutputError
        The page can't be written, or its marks are damaged.
    """
    with output_errors(path):
        text = path.read_text(encoding="utf-8") if path.exists() else "# Figures\n"
    section = f"<!-- begin {benchmark}: {cpu} -->\n{body}<!-- end -->\n"
    known = read_sections(text)
    spans = {(found["name"], found["cpu"]): found.span() for found in _SECTION.finditer(text)}
    if (benchmark, cpu) in known:
        start, end = spans[benchmark, cpu]
        text = text[:start] + section + text[end:]
    elif others := [span for (name, _), span in spans.items() if name == benchmark]:
        end = max(others)[1]
        text = f"{text[:end]}\n{section}{text[end:]}"
    elif heading := re.search(rf"^## {re.escape(benchmark)}\n.*?(?=^## |\Z)", text, re.DOTALL | re.MULTILINE):
        rest = text[heading.end() :]
        text = f"{text[: heading.end()].rstrip()}\n\n{section}" + (f"\n{rest}" if rest else "")
    else:
        text = f"{text.rstrip()}\n\n## {benchmark}\n\n{section}"
    write_atomic(path, text.encode())


def section_text(result: Mapping[str, Any], tables: Sequence[Table], without: Sequence[str] = ()) -> str:
    """A section: where its figures come from, then each table with its title."""
    parts = [_provenance(result), *(_titled(table, without) for table in tables)]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table, without: Sequence[str] = ()) -> str:
    """A table in Markdown; columns that are aligned to the right stay so."""
    columns = [column for column in table.columns if str(column.header) not in without]
    head = _row([str(column.header) for column in columns])
    rule = _row(["---:" if column.justify == "right" else "---" for column in columns])
    rows = [_row([str(cell) for cell in cells]) for cells in zip(*(column.cells for column in columns), strict=True)]
    return "\n".join([head, rule, *rows])


def _titled(table: Table, without: Sequence[str]) -> str:
    return f"{table.title}:\n\n{markdown_table(table, without)}" if table.title else markdown_table(table, without)


def _row(cells: Sequence[str]) -> str:
    shown = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(shown)} |"


def _provenance(result: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    load = (
        f", load average {result['load_before']} before and {result['load_after']} after"
        if "load_before" in result
        else ""
    )
    cpus = f"{result['cpus']} CPU{'s' * (result['cpus'] > 1)}"
    return f"`{command()}`, {result['cpu']}, {cpus}, {result['date'][:10]}{load}; {versions}"


def command() -> str:
    """What was typed to start this benchmark, but for where the figures go."""
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--markdown", "--json")]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *arguments])
