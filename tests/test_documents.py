"""README.md, CONTRIBUTING.md, CHANGELOG.md and docs/: what they point to exists, what they claim stands elsewhere."""

from __future__ import annotations

import hashlib
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ofa_tvm.entry import COMMANDS

REPOSITORY = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md")
    for path in REPOSITORY.glob(pattern)
)
README = (REPOSITORY / "README.md").read_text()
SECTION = re.compile(r"<!-- begin ([^:\n]+): ([^\n]+?) -->\n(.*?)<!-- end -->", re.DOTALL)


def _links(page: str) -> list[str]:
    text = re.sub(r"^```.*?^```", "", (REPOSITORY / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


def _anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in _links(page):
        name, _, anchor = link.partition("#")
        path = (REPOSITORY / page).parent / name if name else REPOSITORY / page
        assert path.exists(), f"{page} links to {link}"
        assert not anchor or anchor in _anchors(path), f"{page} links to {link}"


def test_the_readme_is_one_screen_and_names_every_page():
    assert len(README.splitlines()) <= 85
    linked = {(REPOSITORY / link.partition("#")[0]).resolve() for link in _links("README.md")}
    assert {(REPOSITORY / page).resolve() for page in PAGES} - linked == {REPOSITORY / "README.md"}


def _headline_rows() -> list[list[str]]:
    table = README.partition("## Figures")[2].partition("## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")
    ]
    return rows[2:]


def test_there_are_five_headline_figures():
    assert len(_headline_rows()) == 5
    assert all("**" in figure for _, figure, _, _ in _headline_rows())


@pytest.mark.parametrize("row", _headline_rows(), ids=lambda row: row[3])
def test_a_headline_figure_stands_in_its_section(row):
    _, figures, cpu, benchmark = row
    sections = {
        found.group(1, 2): found[3] for found in SECTION.finditer((REPOSITORY / "docs" / "figures.md").read_text())
    }
    body = sections[benchmark.strip("`"), cpu]
    for figure in re.findall(r"\*\*(.+?)\*\*", figures):
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.]*\d)", body), f"{figure} is not in {benchmark}, {cpu}"


def _commands(text: str) -> set[tuple[str, tuple[str, ...]]]:
    """Commands of this package in code, with their options: ``deploy``, (``--target``, ...)."""
    found = re.findall(r"python -m ofa_tvm\.(\w+)((?: [^\n`#]*)?)", text)
    return {(name, tuple(re.findall(r"(?<!\S)--[a-z-]+", rest))) for name, rest in found}


def test_the_commands_of_the_readme_exist_with_these_options():
    commands = _commands(README)
    assert {name for name, _ in commands} >= {"profile", "deploy", "bundle", "devices"}
    for name, options in commands:
        module = (REPOSITORY / "ofa_tvm" / name / "__main__.py", REPOSITORY / "ofa_tvm" / f"{name}.py")
        assert name in COMMANDS
        text = "".join(path.read_text() for path in module if path.exists())
        text += (REPOSITORY / "ofa_tvm" / "options.py").read_text()
        assert all(f'"{option}"' in text for option in options), f"{name} lacks one of {options}"


def test_the_list_of_commands_is_shown():
    done = subprocess.run(
        [sys.executable, "-m", "ofa_tvm"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_scripts_and_files_in_code_exist(page):
    text = (REPOSITORY / page).read_text()
    paths = re.findall(r"(?<![\w./])((?:scripts|benchmarks|tests|ofa_tvm)/[\w/]+(?:\.\w+)?)", text)
    assert paths
    for path in paths:
        assert (REPOSITORY / path).exists(), f"{page} names {path}"


def test_the_house_in_contributing_has_every_package():
    house = (REPOSITORY / "CONTRIBUTING.md").read_text().partition("## The house")[2].partition("## ")[0]
    packages = [path.parent.name for path in sorted(REPOSITORY.glob("ofa_tvm/*/__init__.py"))]
    assert packages
    for name in packages:
        assert f"{name}/" in house, f"{name}/ is missing"
    order = runpy.run_path(str(REPOSITORY / "tests" / "test_imports.py"))["STAGES"]
    assert [name for name in re.findall(r"^  (\w+)/ ", house, re.MULTILINE) if name in order] == list(order)


def test_the_license_is_apaches_own_text():
    text = (REPOSITORY / "LICENSE").read_bytes().strip(b"\n")
    assert hashlib.sha256(text).hexdigest() == "43070e2d4e532684de521b885f385d0841030efa2b1a20bafb76133a5e1379c1"
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])


def test_the_changelog_has_this_version():
    import ofa_tvm

    headings = re.findall(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1] == ofa_tvm.__version__
