"""Sections of docs/figures.md: written, replaced, kept beside, and what README.md says of them."""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType

import pytest
from rich.table import Table

from ofa_tvm.errors import OutputError

from .conftest import REPOSITORY

RESULT = {
    "cpu": "AMD EPYC",
    "cpus": 2,
    "date": "2026-11-30T10:00:00+00:00",
    "versions": {"ofa_tvm": "0.1.0"},
    "load_before": 0.1,
    "load_after": 0.9,
}


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    return importlib.import_module("figures")


@pytest.fixture
def provenance(figures: ModuleType) -> ModuleType:
    return importlib.import_module("provenance")


@pytest.fixture
def table() -> Table:
    found = Table("kernel", "µs", "architecture", title="one thread")
    found.columns[1].justify = "right"
    found.add_row("a|b", "1.5", "r32")
    found.add_section()
    found.add_row("mean", "2", "")
    return found


def test_a_table_in_markdown(figures, table):
    lines = ["| kernel | µs |", "| --- | ---: |", "| a\\|b | 1.5 |", "| mean | 2 |"]
    assert figures.markdown_table(table, without=["architecture"]).splitlines() == lines


def test_a_section_says_where_its_figures_come_from(figures, table, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks/kernels.py", "--markdown", "--runs", "my runs", "--json"])
    text = figures.section_text(RESULT, [table])
    first, title, *_ = text.split("\n\n")
    assert first == (
        "`python benchmarks/kernels.py --runs 'my runs'`, AMD EPYC, 2 CPUs, 2026-11-30, "
        "load average 0.1 before and 0.9 after; ofa_tvm 0.1.0"
    )
    assert title == "one thread:"
    assert text.endswith("|\n")


def test_a_section_is_replaced_and_those_of_other_cpus_are_kept(figures, tmp_path):
    page = tmp_path / "figures.md"
    for benchmark, cpu, body in (
        ("kernels", "A (Zen 3)", "1\n"),
        ("tuning", "A (Zen 3)", "2\n"),
        ("kernels", "B", "3\n"),
        ("kernels characters", "B", "4\n"),
        ("kernels", "A (Zen 3)", "5\n"),
    ):
        figures.write_section(page, benchmark, cpu, body)
    text = page.read_text()
    assert figures.read_sections(text) == {
        ("kernels", "A (Zen 3)"): "5\n",
        ("kernels", "B"): "3\n",
        ("tuning", "A (Zen 3)"): "2\n",
        ("kernels characters", "B"): "4\n",
    }
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["kernels", "tuning", "kernels characters"]
    assert text.index("kernels: A") < text.index("kernels: B") < text.index("tuning: A")


def test_what_is_around_a_section_stays(figures, tmp_path):
    page = tmp_path / "figures.md"
    figures.write_section(page, "kernels", "A", "1\n")
    page.write_text(page.read_text() + "\nAn explanation.\n")
    figures.write_section(page, "kernels", "A", "2\n")
    assert page.read_text().endswith("2\n<!-- end -->\n\nAn explanation.\n")


@pytest.mark.parametrize("rest", ["", "## tuning\n\nOf a space.\n"])
def test_a_first_section_comes_under_its_heading(figures, tmp_path, rest):
    page = tmp_path / "figures.md"
    page.write_text(f"# Figures\n\n## kernels\n\nOne by one.\n\n{rest}")
    figures.write_section(page, "kernels", "A", "1\n")
    section = "<!-- begin kernels: A -->\n1\n<!-- end -->\n"
    assert page.read_text() == f"# Figures\n\n## kernels\n\nOne by one.\n\n{section}" + (rest and f"\n{rest}")


@pytest.mark.parametrize(
    "damaged",
    [
        "<!-- begin kernels: A -->\n1\n",
        "<!-- begin kernels: A -->\n1\n<!-- begin tuning: A -->\n<!-- end -->\n",
        "1\n<!-- end -->\n",
        "<!-- begin kernels: A -->\n<!-- end -->\n<!-- begin kernels: A -->\n<!-- end -->\n",
    ],
)
def test_damaged_marks_are_refused_and_nothing_is_written(figures, tmp_path, damaged):
    page = tmp_path / "figures.md"
    page.write_text(damaged)
    with pytest.raises(OutputError, match="each needs its begin and its end"):
        figures.write_section(page, "kernels", "A", "2\n")
    assert page.read_text() == damaged


def test_the_page_is_written_on_request_only(figures, table, tmp_path, monkeypatch, capsys):
    page = tmp_path / "figures.md"
    monkeypatch.setattr(figures, "FIGURES", page)
    figures.print_figures("kernels", RESULT, [], as_json=False, markdown=False)
    assert not page.exists()
    figures.print_figures("kernels", RESULT, [table], as_json=False, markdown=True, cpu="X")
    assert list(figures.read_sections(page.read_text())) == [("kernels", "X")]
    assert "one thread:" in page.read_text()
    assert "one thread" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cpuinfo", "label"),
    [
        ("vendor_id\t: AuthenticAMD\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n", "AMD EPYC (Zen 5)"),
        (
            "vendor_id : AuthenticAMD\ncpu family : 25\nmodel : 33\nmodel name : AMD Ryzen 9 5950X 16-Core Processor\n",
            "AMD Ryzen 9 5950X 16-Core (Zen 3)",
        ),
        (
            "vendor_id : GenuineIntel\ncpu family : 6\nmodel : 143\n"
            "model name : Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz\n",
            "Intel Xeon Platinum 8481C (Sapphire Rapids)",
        ),
        (
            "vendor_id : GenuineIntel\ncpu family : 6\nmodel : 1\nmodel name : Intel(R) Xeon(R)\n"
            "flags : avx2 avx512f amx_tile\n",
            "Intel Xeon (AVX-512, AMX)",
        ),
    ],
)
def test_a_cpu_is_called_by_name_and_core(provenance, cpuinfo, label):
    assert provenance.cpu_label(cpuinfo) == label
    assert provenance.cpu_label(f"{cpuinfo}\n{cpuinfo}") == label


def test_the_page_in_docs_is_whole(figures):
    sections = figures.read_sections((REPOSITORY / "docs" / "figures.md").read_text())
    assert {benchmark for benchmark, _ in sections} >= {"against_peers", "budgets", "kernels", "tuning"}
    headings = re.findall(r"^## (.*)$", (REPOSITORY / "docs" / "figures.md").read_text(), re.MULTILINE)
    assert len(headings) == len(set(headings))
    for (benchmark, _), body in sections.items():
        assert (REPOSITORY / "benchmarks" / f"{benchmark.split()[0]}.py").is_file()
        assert re.search(r"^\|(?: ?-+:? ?\|)+$", body, re.MULTILINE), f"{benchmark} has no table"
