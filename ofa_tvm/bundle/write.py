"""Write a bundle, whole or not at all. The only part of this stage that needs TVM's compiler."""

from __future__ import annotations

import datetime
import io
import os
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.target import Target
from tvm.target.codegen import llvm_get_cpu_features

import ofa_tvm
from ofa_tvm.bundle.destination import check_replaceable
from ofa_tvm.bundle.files import check_files, checksums
from ofa_tvm.bundle.host import vector_features
from ofa_tvm.bundle.manifest import (
    CHECKSUMS,
    FORMAT_VERSION,
    LIBRARY,
    MANIFEST,
    README,
    SAMPLE_IMAGE,
    SAMPLE_INPUT,
    SAMPLE_OUTPUT,
    THREADS,
    Contents,
    FileSection,
    Manifest,
    TargetSection,
)
from ofa_tvm.bundle.readme import bundle_readme
from ofa_tvm.files import directory_atomic, sha256
from ofa_tvm.space.architecture import Architecture


def target_record(name: str, tvm_target: Target, emulated: bool) -> TargetSection:
    """What the manifest says about a target, with the vector extensions that its CPU gives the compiler."""
    options: dict[str, Any] = {"kind": tvm_target.kind.name, THREADS: int(tvm_target.attrs.get(THREADS) or 1)}
    for key in ("mtriple", "mcpu", "mattr"):
        value = tvm_target.attrs.get(key)
        if value:
            options[key] = [str(item) for item in value] if key == "mattr" else str(value)
    features = llvm_get_cpu_features(tvm_target) if tvm_target.kind.name == "llvm" else ()
    return TargetSection(
        name=name,
        tvm_target=options,
        cpu_features=vector_features(str(feature) for feature in features),
        emulated=emulated,
    )


def write_bundle(
    directory: Path,
    contents: Contents,
    library: Path,
    sample_input: npt.NDArray[np.float32],
    sample_output: npt.NDArray[np.float32],
    sample_image: Path | None = None,
    *,
    overwrite: bool = False,
    check: Callable[[Path], object] = check_files,
) -> Manifest:
    """Write a bundle; `directory` appears only when all is written and checked.

    Parameters
    ----------
    library
        Relax VM library with its parameters inside, exported for the target.
    sample_input, sample_output
        float32 of the shapes in `contents`: an input, and what the subnet answers to it.
    sample_image
        A PNG to try the bundle with.
    overwrite
        Replace a bundle that is there. Anything else that is there is never replaced.
    check
        What the new bundle has to pass; `ofa_tvm.bundle.verify.verify` where the target is this machine.

    Raises
    ------
    OutputError
        The directory can't be written, or holds something that must not be replaced.
    InvalidBundleError
        The new bundle does not pass `check`.
    """
    directory = directory.resolve()
    check_replaceable(directory, overwrite)
    with directory_atomic(directory) as folder:
        shutil.copyfile(library, folder / LIBRARY)
        (folder / SAMPLE_INPUT).write_bytes(_npy(sample_input))
        (folder / SAMPLE_OUTPUT).write_bytes(_npy(sample_output))
        if sample_image is not None:
            shutil.copyfile(sample_image, folder / SAMPLE_IMAGE)
        architecture = Architecture.from_dict(contents.architecture)
        (folder / README).write_text(bundle_readme(contents, str(architecture)), encoding="utf-8")
        manifest = _manifest(folder, contents)
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        (folder / CHECKSUMS).write_text(checksums({path.name: sha256(path) for path in folder.iterdir()}))
        _flush(folder)
        check(folder)
    return manifest


def _manifest(folder: Path, contents: Contents) -> Manifest:
    return Manifest(
        **{name: getattr(contents, name) for name in Contents.model_fields},
        format_version=FORMAT_VERSION,
        created=datetime.datetime.now(datetime.UTC).replace(microsecond=0),
        versions={
            "tvm": version("apache-tvm"),
            "tvm_ffi": version("apache-tvm-ffi"),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "ofa_tvm": ofa_tvm.__version__,
        },
        files={
            path.name: FileSection(sha256=sha256(path), bytes=path.stat().st_size) for path in sorted(folder.iterdir())
        },
    )


def _npy(array: npt.NDArray[np.float32]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def _flush(folder: Path) -> None:
    """Bring all files to the disk, so that a full one is noticed now and a power cut leaves no torn bundle."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
