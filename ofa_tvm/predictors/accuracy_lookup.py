"""Find the accuracy predictor of a supernet's very weights, among the user's and the one it came with."""

from __future__ import annotations

import shlex
from pathlib import Path

from ofa_tvm.errors import InvalidRecordError
from ofa_tvm.predictors.accuracy import AccuracyPredictor
from ofa_tvm.predictors.metadata import AccuracyMetadata, read_metadata
from ofa_tvm.supernet.metadata import SupernetFolder

_SUBNETS = 320


def load_accuracy_predictor(folder: SupernetFolder, runs: Path) -> AccuracyPredictor:
    """The predictor that was trained for the weights that the supernet has now.

    Parameters
    ----------
    runs
        Root of the user's results: what `python -m ofa_tvm.accuracy` wrote there counts before what came with the
        supernet.

    Raises
    ------
    InvalidRecordError
        There is none, it is damaged, or all there are belong to other weights; the message has the command that makes
        one.
    """
    places = folder.accuracy_files(runs).all_predictors
    remedy = _remedy(folder, runs)
    there = [place for place in places if place.exists()]
    if not there:
        raise InvalidRecordError(f"{folder.label} has no accuracy predictor in {places[0]}; make it with {remedy}")
    for place in there:
        metadata = read_metadata(place, AccuracyMetadata, remedy)
        if metadata.provenance.get("weights_sha256") == folder.metadata.weights_sha256:
            return AccuracyPredictor.load(place)
    raise InvalidRecordError(f"{there[0]} was trained for other weights than {folder.weights}; make it anew: {remedy}")


def _remedy(folder: SupernetFolder, runs: Path) -> str:
    at = [] if folder.accuracy_files(runs).own == folder.path else ["--runs", str(runs)]
    options = ["--supernet", folder.label, *at, "--subnets", str(_SUBNETS)]
    return f"python -m ofa_tvm.accuracy {shlex.join(options)}"
