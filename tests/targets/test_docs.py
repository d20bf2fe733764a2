"""docs/targets.md: every key of the schema stands there, and what it shows works."""

from __future__ import annotations

import contextlib
import io
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from ofa_tvm.compiler.cpu_features import unsupported_features
from ofa_tvm.compiler.machine import machine_of, resolve_tvm_target
from ofa_tvm.targets import ENTRY_POINT_GROUP, Target, known_targets, load_target

DOCS = Path(__file__).parents[2] / "docs" / "targets.md"
SECTIONS = {"cpu", "device", "measurement"}


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of the schema with its default."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        elif name != "name":
            yield f"{prefix}{name}", field.get_default()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)


def _rows() -> dict[str, str]:
    """The rows of the tables that explain keys, by each key in their first column."""
    rows = re.findall(r"^\| (`.*?`) \|(.*)\|$", DOCS.read_text().partition("## Every key")[2], re.MULTILINE)
    return {key: rest for keys, rest in rows for key in re.findall(r"`([\w.]+)`", keys)}


@pytest.fixture
def example(tmp_path: Path) -> Path:
    (text,) = _blocks("yaml")
    path = tmp_path / "rasp5.yaml"
    path.write_text(text)
    return path


def test_the_example_is_a_target_that_compiles(example: Path):
    target = load_target(str(example))
    tvm_target = resolve_tvm_target(target.tvm_target, target.threads)
    assert machine_of(tvm_target, target.cpu.l1d_kib).lanes == 4
    assert unsupported_features(tvm_target, "aarch64", target.cpu.features) == []


def test_the_example_has_every_key(example: Path):
    content = yaml.safe_load(example.read_text())
    assert set(content) == set(Target.model_fields) - {"name"}
    written = {f"{name}.{key}" for name in SECTIONS for key in content[name]} | (set(content) - SECTIONS)
    assert written == {key for key, _ in _keys(Target)}


def test_every_key_is_explained_and_no_other():
    explained = set(_rows())
    assert explained == {key.rpartition(".")[2] for key, _ in _keys(Target)}


def test_the_defaults_are_the_schemas():
    rows = _rows()
    for key, default in _keys(Target):
        if isinstance(default, int | float) and not isinstance(default, bool):
            column = rows[key.rpartition(".")[2]].split("|")[0]
            assert f"{default:g}" in column, f"{key}: {default} is not what the table says:{column}"


def test_every_shipped_target_stands_in_the_first_table():
    table = DOCS.read_text().partition("## ")[0]
    assert set(known_targets()) == set(
        re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)))
    )


def test_the_programs_print_what_their_comments_say():
    (program,) = _blocks("python")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, str(DOCS), "exec"), {})
    assert printed.getvalue().strip() == program.rpartition("# ")[2].strip()


def test_the_package_offers_its_targets_where_they_are_looked_for():
    (project,) = _blocks("toml")
    assert tomllib.loads(project)["project"]["entry-points"][ENTRY_POINT_GROUP] == {
        "gateway": "company_boards",
        "camera": "company_boards",
    }
