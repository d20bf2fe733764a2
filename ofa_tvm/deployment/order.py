"""What to deliver, and within which limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ofa_tvm.supernet.metadata import SupernetFolder
from ofa_tvm.targets import Target


@dataclass(frozen=True, slots=True)
class Order:
    """What to deliver.

    Attributes
    ----------
    runs
        Root of the user's results.
    records
        JSON Lines of the target's measurements, which those made here are added to.
    latency_predictor
        Folder that profile wrote.
    directory, overwrite
        Of the bundle, and whether one that is there may be replaced.
    tune_minutes
        Time limit of tuning a candidate.
    max_attempts
        Candidates to build at most.
    """

    target: Target
    supernet: SupernetFolder
    budget_ms: float
    runs: Path
    records: Path
    latency_predictor: Path
    directory: Path
    overwrite: bool = False
    tune_minutes: float = 2.0
    max_attempts: int = 4
    seed: int = 0
