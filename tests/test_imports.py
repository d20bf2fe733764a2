"""Imports go forward along the flow of data, and heavy libraries stay where they are needed.

Every import statement counts, also those inside functions and under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ofa_tvm"
FOUNDATION = (
    "errors",
    "printable",
    "light_tvm",
    "addresses",
    "reporting",
    "names",
    "schema_errors",
    "homes",
    "refusals",
    "replacing",
    "files",
    "locks",
    "cpuinfo",
    "images",
    "normalisation",
    "space",
    "targets",
)
# A bundle says what it is by itself, so what writes one comes after it.
STAGES = (
    "supernet",
    "training",
    "lowering",
    "measurement",
    "compiler",
    "boards",
    "predictors",
    "profiling",
    "evolution",
    "bundle",
    "deployment",
)
COMMAND_SUPPORT = ("streams", "interruption", "display", "device_tables", "options", "console", "workspace", "entry")
COMMANDS = ("train", "accuracy", "tune", "profile", "search", "deploy", "devices")
RANKS = {name: rank for rank, name in enumerate((*FOUNDATION, *STAGES, *COMMAND_SUPPORT, *COMMANDS))}
LAST = max(RANKS.values())
TORCH_HOMES = ("supernet", "training", "lowering")
TORCH_MODULES = ("ofa_tvm.predictors.accuracy_training",)
TVM_HOMES = ("lowering", "measurement", "compiler", "bundle")

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(module: str, path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def place(name: str) -> str | None:
    """The stage or top-level module that a dotted name belongs to; None for the package itself."""
    parts = name.split(".")
    if parts[:1] != ["ofa_tvm"] or len(parts) < 2 or parts[1].startswith("__"):
        return None
    return parts[1]


def rank(module: str) -> int:
    name = place(module)
    if module.endswith(".__main__") or name in COMMANDS:
        return LAST
    return RANKS[name] if name else -1


def test_every_place_in_the_order_is_there():
    assert set(RANKS) == {place(module) for module in MODULES} - {None}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_forward(module):
    for line, imported in imports(module, MODULES[module]):
        where = place(imported)
        if where is None:
            continue
        assert where in RANKS, f"{module}:{line} imports {imported}, which is no known stage"
        assert where not in COMMANDS, f"{module}:{line} imports the command {imported}"
        assert rank(module) >= RANKS[where], f"{module}:{line} imports {imported}, a later stage"


@pytest.mark.parametrize("module", MODULES)
def test_heavy_libraries_stay_at_home(module):
    for line, imported in imports(module, MODULES[module]):
        library = imported.split(".")[0]
        if library == "torch":
            assert place(module) in TORCH_HOMES or module in TORCH_MODULES, f"{module}:{line} imports {imported}"
        if library in ("tvm", "tvm_ffi"):
            assert place(module) in TVM_HOMES, f"{module}:{line} imports {imported}"
        if library == "pymoo":
            assert place(module) == "evolution", f"{module}:{line} imports {imported}"
        assert library not in ("pickle", "cloudpickle", "dill", "joblib"), f"{module}:{line} imports {imported}"
        assert imported.split(".")[-1] != "utils", f"{module}:{line} imports {imported}"


def test_every_module_has_its_place():
    assert {place(module) for module in MODULES} - {None} <= set(RANKS)


def test_every_package_says_what_it_does():
    for module, path in MODULES.items():
        assert ast.get_docstring(ast.parse(path.read_text())), f"{module} has no docstring"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f():\n    import torch.nn", "torch.nn"),
        ("from ofa_tvm import bundle", "ofa_tvm.bundle"),
        ("from ..bundle import manifest", "ofa_tvm.bundle.manifest"),
        ("from . import x", "ofa_tvm.space.x"),
    ],
)
def test_the_reader_sees_every_form_of_import(tmp_path, source, expected):
    path = tmp_path / "module.py"
    path.write_text(source)
    assert [name for _, name in imports("ofa_tvm.space.module", path)] == [expected]
