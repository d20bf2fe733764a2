"""The proof that a bundle is whole, runs on this machine or on a device, and meets its budget."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ofa_tvm.bundle.files import check_files
from ofa_tvm.bundle.host import check_host
from ofa_tvm.bundle.manifest import LIBRARY, MANIFEST, Manifest
from ofa_tvm.bundle.trial import run_trial
from ofa_tvm.errors import InvalidBundleError


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What held.

    Attributes
    ----------
    files
        How many have the right digest.
    relative_error, tolerance
        Of the sample output reproduced here; at most `tolerance`.
    budget_ms, measured_ms
        From the manifest, measured on `device`.
    emulated
        The measurement says nothing about real hardware.
    ran_on
        Where the sample output was reproduced: the device's name, or ``this machine``.
    here_ms
        Median latency on this machine, loaded as it is now, in runs one after the other; None if not asked for.
    pause_ms, here_sporadic_ms
        Median latency on this machine of runs with such a pause before each; None if not asked for.
    """

    directory: str
    target: str
    files: int
    relative_error: float
    tolerance: float
    budget_ms: float
    measured_ms: float
    device: str
    emulated: bool
    ran_on: str
    here_ms: float | None = None
    pause_ms: float | None = None
    here_sporadic_ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def verify(directory: Path, repeats: int = 0, pause_ms: float = 0.0) -> VerificationReport:
    """Verify a bundle on this machine.

    1. The manifest fits its schema, and every file has its digest.
    2. The measured latency in the manifest is within the budget.
    3. The library is for this CPU.
    4. It reproduces the sample output, in a process of its own.

    Parameters
    ----------
    repeats
        Time the library here with so many runs; 0 for not at all.
    pause_ms
        Time as many more with such a pause before each, in which the clock goes down and others take the caches; 0 for
        not at all.

    Raises
    ------
    InvalidBundleError
        One of them does not hold.
    """
    manifest = check_files(directory)
    check_budget(directory, manifest)
    check_host(directory, manifest)
    trial = run_trial(directory, repeats, pause_ms)
    found = report(directory, manifest, trial.relative_error, "this machine")
    if trial.samples_ms:
        found = replace(found, here_ms=statistics.median(trial.samples_ms))
    if trial.sporadic_ms:
        found = replace(found, pause_ms=pause_ms, here_sporadic_ms=statistics.median(trial.sporadic_ms))
    return found


def report(directory: Path, manifest: Manifest, error: float | None, ran_on: str) -> VerificationReport:
    """What held, when the sample output was reproduced with this relative error (None: it is not finite).

    Raises
    ------
    InvalidBundleError
        The error is too large.
    """
    if error is None or error > manifest.tolerance:
        found = "not finite, or of another shape" if error is None else f"off by {error:.2e} relative"
        raise InvalidBundleError(
            f"{directory / LIBRARY} does not reproduce the sample output on {ran_on}: {found}, "
            f"the tolerance is {manifest.tolerance:.0e}; write the bundle again"
        )
    measured = manifest.latency.measured
    return VerificationReport(
        directory=str(directory),
        target=manifest.target.name,
        files=len(manifest.files) + 1,
        relative_error=error,
        tolerance=manifest.tolerance,
        budget_ms=manifest.latency.budget_ms,
        measured_ms=measured.median_ms,
        device=measured.device,
        emulated=measured.emulated or manifest.target.emulated,
        ran_on=ran_on,
    )


def check_budget(directory: Path, manifest: Manifest) -> None:
    """Make sure that the measured latency in the manifest is within the budget.

    Raises
    ------
    InvalidBundleError
        It is not.
    """
    latency = manifest.latency
    if latency.measured.median_ms > latency.budget_ms:
        raise InvalidBundleError(
            f"{directory / MANIFEST}: measured {latency.measured.median_ms:g} ms on {latency.measured.device}, "
            f"above the budget of {latency.budget_ms:g} ms; deploy again"
        )
