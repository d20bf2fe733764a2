"""The accuracy predictor of one supernet: stored, loaded, and asked; training is in `accuracy_training`.

No torch here, so that searching and deploying need none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.errors import InvalidRecordError, UsageError
from ofa_tvm.files import directory_atomic, write_atomic, write_json
from ofa_tvm.predictors.accuracy_model import AccuracyModel
from ofa_tvm.predictors.metadata import (
    METADATA_NAME,
    AccuracyMetadata,
    MetricsRecord,
    read_metadata,
    read_verified,
)
from ofa_tvm.predictors.metrics import Metrics
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.encoding import one_hot
from ofa_tvm.space.search_space import SearchSpace

WEIGHTS_NAME = "weights.safetensors"
_REMEDY = "python -m ofa_tvm.accuracy"


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What an accuracy predictor was trained on.

    Attributes
    ----------
    records
        Number of different subnets.
    records_sha256
        Of the subnets and their accuracies as JSON.
    held_out
        Errors and rank correlations of the same training on subnets that were left out of it.
    """

    records: int
    records_sha256: str
    seed: int
    held_out: Metrics


class AccuracyPredictor:
    """Predicts the accuracy of the subnets of one supernet; made by `accuracy_training.train` or `load`.

    Raises
    ------
    InvalidRecordError
        On creation, if the model is not one for this space.
    """

    def __init__(self, space: SearchSpace, model: AccuracyModel, summary: TrainingSummary) -> None:
        self.space = space
        self.summary = summary
        self._model = model
        features = one_hot(space, [space.smallest()]).shape[1]
        if model.features != features:
            raise InvalidRecordError(
                f"an accuracy predictor for {model.features} features, where the space has {features}; "
                f"make it anew with {_REMEDY}"
            )

    def predict(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Predicted accuracy of each subnet as a fraction, shape (architectures,).

        Raises
        ------
        InvalidArchitectureError
            An architecture lies outside the space.
        """
        if not architectures:
            return np.empty(0)
        return self._model.predict(one_hot(self.space, architectures))

    def save(self, folder: Path, provenance: Mapping[str, str]) -> None:
        """Write the predictor to a folder that appears as a whole or not at all.

        Parameters
        ----------
        folder
            Replaced, if it exists.
        provenance
            Where the accuracies come from: supernet, data, versions, time.

        Raises
        ------
        OutputError
            The folder can't be written.
        """
        weights = self._model.to_safetensors()
        metadata = AccuracyMetadata(
            format="ofa_tvm accuracy predictor",
            version=1,
            space=self.space.to_dict(),
            base=self._model.base,
            records=self.summary.records,
            records_sha256=self.summary.records_sha256,
            seed=self.summary.seed,
            held_out=MetricsRecord(**self.summary.held_out.to_dict()),
            provenance=dict(provenance),
            weights_sha256=hashlib.sha256(weights).hexdigest(),
        )
        with directory_atomic(folder) as temporary:
            write_atomic(temporary / WEIGHTS_NAME, weights)
            write_json(temporary / METADATA_NAME, metadata.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> AccuracyPredictor:
        """Read what `save` wrote.

        Raises
        ------
        InvalidRecordError
            The folder holds no accuracy predictor, or a damaged one.
        """
        metadata = read_metadata(folder, AccuracyMetadata, _REMEDY)
        content = read_verified(folder / WEIGHTS_NAME, metadata.weights_sha256, _REMEDY)
        held_out = Metrics(**metadata.held_out.model_dump())
        summary = TrainingSummary(metadata.records, metadata.records_sha256, metadata.seed, held_out)
        try:
            model = AccuracyModel.from_safetensors(metadata.base, content)
            return cls(SearchSpace.from_dict(metadata.space), model, summary)
        except UsageError as error:
            raise InvalidRecordError(f"{folder}: {error}; make it anew with {_REMEDY}") from error
