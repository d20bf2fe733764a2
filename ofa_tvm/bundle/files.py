"""Whether a bundle's files are those that were written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ofa_tvm.bundle.manifest import CHECKSUMS, LIBRARY, MANIFEST, SAMPLE_INPUT, SAMPLE_OUTPUT, Manifest, read_manifest
from ofa_tvm.bundle.runtime import Float32Array
from ofa_tvm.errors import InvalidBundleError, OutputError
from ofa_tvm.files import inside, sha256

_AGAIN = "copy the bundle again, or write it again"


def check_files(directory: Path) -> Manifest:
    """Make sure that a bundle is whole: its manifest valid, every file there and unaltered, the samples as it says.

    This finds damage, not forgery: whoever can alter a file can alter the digests, too.

    Raises
    ------
    InvalidBundleError
        It isn't; the message names the file, and both digests where they differ.
    """
    manifest = read_manifest(directory)
    _check_manifest_digest(directory)
    for name in sorted({LIBRARY, SAMPLE_INPUT, SAMPLE_OUTPUT, *manifest.files}):
        check_file(directory, name, manifest)
    load_sample(directory / SAMPLE_INPUT, manifest.input.shape)
    load_sample(directory / SAMPLE_OUTPUT, manifest.output.shape)
    return manifest


def check_file(directory: Path, name: str, manifest: Manifest) -> None:
    """Make sure that one file is inside the bundle and has the size and digest of the manifest.

    Raises
    ------
    InvalidBundleError
        It hasn't.
    """
    record = manifest.files.get(name)
    if record is None:
        raise InvalidBundleError(f"{directory / MANIFEST} does not list {name}; write the bundle again")
    path = _inside(directory, name)
    size, digest = _size_and_digest(path)
    if (size, digest) != (record.bytes, record.sha256):
        raise InvalidBundleError(
            f"{path} was altered: {size} bytes with SHA-256 {digest}, "
            f"the manifest says {record.bytes} bytes with {record.sha256}; {_AGAIN}"
        )


def checksums(digests: dict[str, str]) -> str:
    """The text of ``SHA256SUMS``, in the format that ``sha256sum --check`` reads."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def load_sample(path: Path, shape: tuple[int, ...]) -> Float32Array:
    """A sample input or output of a bundle.

    Raises
    ------
    InvalidBundleError
        The file is no float32 array of this shape in numpy's format (arrays of objects are pickles, and refused).
    """
    try:
        # Mapped, because a damaged header could ask for more memory than there is.
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidBundleError(f"{path} is no array in numpy's format: {error}; {_AGAIN}") from error
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != np.float32:
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise InvalidBundleError(f"{path} holds {found}, the manifest says float32 {shape}; {_AGAIN}")
    return np.array(array)


def _check_manifest_digest(directory: Path) -> None:
    path = directory / CHECKSUMS
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidBundleError(f"{path} cannot be read: {error}; {_AGAIN}") from error
    recorded = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}.get(MANIFEST, "nothing")
    _, digest = _size_and_digest(directory / MANIFEST)
    if digest != recorded:
        raise InvalidBundleError(
            f"{directory / MANIFEST} was altered: its SHA-256 is {digest}, {CHECKSUMS} says {recorded}; {_AGAIN}"
        )


def _inside(directory: Path, name: str) -> Path:
    try:
        inside(directory, name)
    except OutputError as error:
        raise InvalidBundleError(f"{directory / MANIFEST} lists {name!r}, which is outside the bundle") from error
    return directory / name


def _size_and_digest(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_size, sha256(path)
    except OSError as error:
        raise InvalidBundleError(f"{path} cannot be read: {error.strerror}; {_AGAIN}") from error
