"""Where the accuracy records and predictors of a supernet are: those it came with, and those the user added."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

RECORDS_FILE = "accuracy.jsonl"
PREDICTOR_FOLDER = "accuracy_predictor"
USERS_FOLDER = "supernets"


@dataclass(frozen=True, slots=True)
class AccuracyFiles:
    """The folders that hold a supernet's accuracy records and predictors.

    ::

        <folder>/accuracy.jsonl        measured subnets: the truth
        <folder>/accuracy_predictor/   derived from those of all folders

    Attributes
    ----------
    own
        The folder that what is measured and trained here goes to.
    other
        One that is read as well.
    """

    own: Path
    other: Path

    @property
    def records(self) -> Path:
        """JSON Lines that new records are appended to."""
        return self.own / RECORDS_FILE

    @property
    def predictor(self) -> Path:
        """Folder that a newly trained predictor is written to."""
        return self.own / PREDICTOR_FOLDER

    @property
    def all_records(self) -> tuple[Path, ...]:
        """Every file that may hold records, what came with the supernet first."""
        return self.other / RECORDS_FILE, self.records

    @property
    def all_predictors(self) -> tuple[Path, ...]:
        """Every folder that may hold a predictor, the one that counts first."""
        return self.predictor, self.other / PREDICTOR_FOLDER


def accuracy_files(supernet: Path, shipped: bool, runs: Path, name: str) -> AccuracyFiles:
    """Beside the weights if the folder is the user's and can be written, else below `runs`; both are read.

    Parameters
    ----------
    supernet
        Folder of the weights.
    shipped
        Whether it belongs to the installed package.
    runs
        Root of the user's results.
    name
        Of the supernet.
    """
    users = runs / USERS_FOLDER / name
    if not shipped and os.access(supernet, os.W_OK):
        return AccuracyFiles(own=supernet, other=users)
    return AccuracyFiles(own=users, other=supernet)
