"""Where a bundle may be written, told before the long work that makes it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ofa_tvm.bundle.manifest import CHECKSUMS, MANIFEST, read_manifest
from ofa_tvm.errors import InvalidBundleError, OutputError
from ofa_tvm.files import output_errors
from ofa_tvm.refusals import may_execute
from ofa_tvm.replacing import recover


def check_destination(directory: Path, overwrite: bool, runs_there: bool = False) -> None:
    """Make sure that a bundle may and can be written to `directory`; nothing is created there.

    Parameters
    ----------
    runs_there
        It will be run where it lies, as its proof.

    Raises
    ------
    OutputError
        There is a bundle and `overwrite` is off, or something that deploy did not write, or nothing
        can be written to this place, or run there.
    """
    check_replaceable(directory, overwrite)
    existing = next(parent for parent in directory.absolute().parents if parent.exists())
    with output_errors(directory), tempfile.TemporaryFile(dir=existing):
        if runs_there and not may_execute(existing):
            raise OutputError(
                f"{existing} is mounted noexec: a bundle for this machine can't be run there; "
                "name another place with --out"
            )


def check_replaceable(directory: Path, overwrite: bool) -> None:
    """Make sure that a bundle may be written to `directory`, as far as what is there is concerned.

    Raises
    ------
    OutputError
        There is a bundle and `overwrite` is off, or something that deploy did not write.
    """
    recover(directory)  # a bundle that a killed deploy was about to replace is there, too
    if not directory.exists():
        return
    if not directory.is_dir():
        raise OutputError(f"{directory} is a file; name another place with --out")
    present = {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}
    if not present:
        return
    try:
        bundle = {MANIFEST, CHECKSUMS, *read_manifest(directory).files}
    except InvalidBundleError as error:
        raise OutputError(f"{directory} is not empty and no bundle; name another place with --out") from error
    if foreign := sorted(present - bundle):
        raise OutputError(f"{directory} also holds {foreign[0]}, which is not the bundle's; move it away first")
    if not overwrite:
        raise OutputError(f"{directory} already holds a bundle; name another place with --out, or use --overwrite")
