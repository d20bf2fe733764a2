from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from PIL import Image
from tvm import relax
from tvm.target import Target
from tvm.target.codegen import llvm_get_system_cpu, llvm_get_system_triple

from ofa_tvm.bundle.files import checksums
from ofa_tvm.bundle.manifest import (
    AccuracySection,
    Contents,
    InputSection,
    LatencySection,
    MeasuredLatency,
    OutputSection,
    SupernetSection,
)
from ofa_tvm.bundle.write import target_record, write_bundle
from ofa_tvm.space.search_space import SearchSpace

RESOLUTION, CLASSES = 8, 5
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def weights() -> np.ndarray:
    """Of the subnet: one linear layer, so that numpy is its oracle. (3 * R * R, classes)."""
    return np.random.default_rng(0).standard_normal((3 * RESOLUTION**2, CLASSES)).astype(np.float32)


@pytest.fixture(scope="session")
def host_target() -> Target:
    # Not -mcpu=host: a hypervisor may hide features, and the compiler's tests deal with that.
    baseline = str(llvm_get_system_cpu()) if not str(llvm_get_system_triple()).startswith("x86_64") else "x86-64"
    return Target({"kind": "llvm", "mtriple": str(llvm_get_system_triple()), "mcpu": baseline})


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory, host_target: Target) -> Callable[[relax.Expr], Path]:
    """Compile a function of the image to a Relax VM library."""

    def build(body: Callable[[relax.BlockBuilder, relax.Var], relax.Expr]) -> Path:
        builder = relax.BlockBuilder()
        image = relax.Var("image", relax.TensorType((1, 3, RESOLUTION, RESOLUTION), "float32"))
        with builder.function("main", [image]):
            builder.emit_func_output(body(builder, image))
        path = tmp_path_factory.mktemp("library") / "compiled.so"
        tvm.compile(builder.get(), target=host_target).export_library(str(path))
        return path

    return build


@pytest.fixture(scope="session")
def library(export: Callable[..., Path], weights: np.ndarray) -> Path:
    def linear(builder: relax.BlockBuilder, image: relax.Var) -> relax.Expr:
        flat = builder.emit(relax.op.reshape(image, (1, 3 * RESOLUTION**2)))
        return builder.emit(relax.op.matmul(flat, relax.const(weights)))

    return export(linear)


@pytest.fixture(scope="session")
def contents(host_target: Target) -> Contents:
    space = SearchSpace(width_multiplier=1.0, num_classes=CLASSES, resolutions=(RESOLUTION,))
    return Contents(
        target=target_record("local", host_target, emulated=False),
        architecture=space.smallest().to_dict(),
        search_space=space.to_dict(),
        supernet=SupernetSection(name="tiny", weights_sha256="0" * 64),
        input=InputSection(
            name="image", shape=(1, 3, RESOLUTION, RESOLUTION), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
        ),
        output=OutputSection(name="logits", shape=(1, CLASSES)),
        class_names=("ant", "bee", "[cat]", "dog", "elk"),
        latency=LatencySection(
            budget_ms=2.0,
            predicted_ms=1.5,
            measured=MeasuredLatency(
                median_ms=1.6, spread=0.02, drift=-0.01, samples_ms=(1.5, 1.6, 1.7), device="local", emulated=False
            ),
        ),
        accuracy=AccuracySection(predicted=0.8, measured=0.79, images=100),
    )


@pytest.fixture(scope="session")
def samples(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inputs = np.random.default_rng(1).standard_normal((1, 3, RESOLUTION, RESOLUTION)).astype(np.float32)
    return inputs, inputs.reshape(1, -1) @ weights


@pytest.fixture(scope="session")
def pristine(
    tmp_path_factory: pytest.TempPathFactory, library: Path, contents: Contents, samples: tuple[np.ndarray, np.ndarray]
) -> Path:
    directory = tmp_path_factory.mktemp("pristine") / "bundle"
    write_bundle(directory, contents, library, *samples)
    return directory


@pytest.fixture
def bundle(pristine: Path, tmp_path: Path) -> Path:
    """A bundle to damage."""
    return shutil.copytree(pristine, tmp_path / "bundle")


@pytest.fixture
def forge() -> Callable[..., None]:
    """Alter a bundle and renew all digests, so that only what lies behind them can notice."""

    def alter(directory: Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> None:
        path = directory / "manifest.json"
        manifest = json.loads(path.read_bytes())
        for name, record in manifest["files"].items():
            content = (directory / name).read_bytes()
            record.update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        change(manifest)
        path.write_text(json.dumps(manifest))
        digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in directory.iterdir() if p.is_file()}
        (directory / "SHA256SUMS").write_text(checksums(digests))

    return alter


@pytest.fixture
def replace_library(tmp_path: Path, forge: Callable[..., None]) -> Callable[[Path, str], None]:
    """Put another library into a bundle, which does something in C as soon as it is loaded."""

    def replace(directory: Path, statements: str) -> None:
        source = tmp_path / "library.c"
        includes = "".join(f"#include <{name}.h>\n" for name in ("signal", "stdio", "stdlib", "unistd"))
        source.write_text(f"{includes}__attribute__((constructor)) static void load(void) {{ {statements} }}")
        command = ["g++", "-x", "c", "-O1", "-shared", "-fPIC", "-o", str(directory / "library.so"), str(source)]
        subprocess.run(command, check=True)
        forge(directory)

    return replace


@pytest.fixture
def image(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(2).integers(0, 256, (RESOLUTION, RESOLUTION, 3), dtype=np.uint8)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a Python command line from the repository's root."""

    def call(*arguments: object, cwd: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        line = [sys.executable, *map(str, arguments)]
        return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False)

    return call
