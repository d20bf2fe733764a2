"""The latency predictor of one device: fitted to measured kernels and subnets, stored, loaded."""

from __future__ import annotations

import hashlib
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xgboost
from numpy.typing import NDArray

from ofa_tvm.errors import InvalidRecordError, UsageError
from ofa_tvm.files import directory_atomic, write_atomic, write_json
from ofa_tvm.measurement.identity import Settings, TargetIdentity
from ofa_tvm.predictors.features import LatencyFeatures
from ofa_tvm.predictors.kernel_table import KernelTable
from ofa_tvm.predictors.latency_model import LatencyModel, cross_validate
from ofa_tvm.predictors.metadata import (
    METADATA_NAME,
    KnownKernel,
    LatencyMetadata,
    MetricsRecord,
    read_metadata,
    read_verified,
)
from ofa_tvm.predictors.metrics import Metrics
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.search_space import SearchSpace
from ofa_tvm.space.workload import Workload

MIN_SUBNETS = 10
FOLDS = 5
BOOSTER_NAME = "booster.json"
_REMEDY = "python -m ofa_tvm.profile"


class LatencyPredictor:
    """Predicts the latency of the subnets of one space on one device; made by `fit` or `load`.

    Attributes
    ----------
    held_out
        Errors and rank correlations on subnets that were left out of fitting.
    subnets
        Number of measured subnets.
    kernel_coverage
        Fraction of the space's kernels that were measured; the rest is estimated.
    """

    def __init__(
        self, space: SearchSpace, table: KernelTable, model: LatencyModel, held_out: Metrics, subnets: int, seed: int
    ) -> None:
        self.space = space
        self.held_out = held_out
        self.subnets = subnets
        self._table = table
        self._model = model
        self._seed = seed
        self._features = LatencyFeatures(space, table)
        self.kernel_coverage = self._features.coverage

    @classmethod
    def fit(
        cls,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        latencies_ms: Sequence[float],
        kernel_latencies_ms: Mapping[Workload, float],
        seed: int = 0,
    ) -> LatencyPredictor:
        """Learn from measured subnets and kernels; repeated measurements of a subnet count as their median.

        The metrics come from cross-validation: each subnet is predicted by a model that has not seen
        it. The model that is kept has seen all.

        Raises
        ------
        UsageError
            Too few different subnets, or no kernels.
        InvalidArchitectureError
            An architecture lies outside the space.
        InvalidRecordError
            A latency is not positive and finite.
        """
        medians_ms = _median_by_architecture(architectures, latencies_ms)
        if len(medians_ms) < MIN_SUBNETS:
            raise UsageError(
                f"{len(medians_ms)} measured subnets: the latency predictor needs {MIN_SUBNETS}; "
                f"measure more with {_REMEDY}"
            )
        table = KernelTable(kernel_latencies_ms)
        features = LatencyFeatures(space, table).matrix(list(medians_ms))
        measured_ms = np.array(list(medians_ms.values()))
        held_out = cross_validate(features, measured_ms, FOLDS, seed)
        return cls(space, table, LatencyModel.fit(features, measured_ms, seed), held_out, len(medians_ms), seed)

    @property
    def seed(self) -> int:
        """Of fitting."""
        return self._seed

    @property
    def kernel_latencies_ms(self) -> Mapping[Workload, float]:
        """Latency of each measured kernel in milliseconds."""
        return self._table.measured_ms

    def with_kernels(self, kernel_latencies_ms: Mapping[Workload, float]) -> LatencyPredictor:
        """The same model of how a subnet's latency follows from its kernels', with these latencies of kernels.

        Raises
        ------
        UsageError, InvalidRecordError
            As `KernelTable`.
        """
        table = KernelTable(kernel_latencies_ms)
        return LatencyPredictor(self.space, table, self._model, self.held_out, self.subnets, self._seed)

    def predict(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Predicted latency of each subnet in milliseconds, shape (architectures,), positive.

        Raises
        ------
        InvalidArchitectureError
            An architecture lies outside the space.
        """
        if not architectures:
            return np.empty(0)
        return self._model.predict(self._features.matrix(architectures))

    def save(self, folder: Path, provenance: Mapping[str, str], settings: Settings | None = None) -> None:
        """Write the predictor to a folder that appears as a whole or not at all.

        Parameters
        ----------
        folder
            Replaced, if it exists.
        provenance
            Where the measurements come from: target, device, versions, time.
        settings
            Of the target they were measured on, as in `TargetIdentity`.

        Raises
        ------
        OutputError
            The folder can't be written.
        """
        booster = self._model.booster_json()
        metadata = LatencyMetadata(
            format="ofa_tvm latency predictor",
            version=1,
            space=self.space.to_dict(),
            kernels=[
                KnownKernel(workload=workload.to_dict(), latency_ms=latency_ms)
                for workload, latency_ms in self._table.measured_ms.items()
            ],
            overheads=self._model.overheads,
            subnets=self.subnets,
            seed=self._seed,
            held_out=MetricsRecord(**self.held_out.to_dict()),
            provenance=dict(provenance),
            settings=None if settings is None else dict(settings),
            booster_sha256=hashlib.sha256(booster).hexdigest(),
        )
        with directory_atomic(folder) as temporary:
            write_atomic(temporary / BOOSTER_NAME, booster)
            write_json(temporary / METADATA_NAME, metadata.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path, target: TargetIdentity | None = None) -> LatencyPredictor:
        """Read what `save` wrote.

        Parameters
        ----------
        target
            That it must be of, as the target is today; None for any.

        Raises
        ------
        InvalidRecordError
            The folder holds no latency predictor, or a damaged one, or one of a target with other settings.
        """
        metadata = read_metadata(folder, LatencyMetadata, _REMEDY)
        if target is not None and metadata.settings != target.settings:
            raise InvalidRecordError(
                f"{folder}: learnt from measurements of {target.name} with other settings "
                f"({target.differences(metadata.settings)}); make it anew with {_REMEDY}"
            )
        booster = read_verified(folder / BOOSTER_NAME, metadata.booster_sha256, _REMEDY)
        try:
            space = SearchSpace.from_dict(metadata.space)
            table = KernelTable({record.as_workload(): record.latency_ms for record in metadata.kernels})
            model = LatencyModel.from_json(metadata.overheads, booster)
        except (UsageError, TypeError, xgboost.core.XGBoostError) as error:
            raise InvalidRecordError(f"{folder}: {error}; make it anew with {_REMEDY}") from error
        held_out = Metrics(**metadata.held_out.model_dump())
        return cls(space, table, model, held_out, metadata.subnets, metadata.seed)


def _median_by_architecture(
    architectures: Sequence[Architecture], latencies_ms: Sequence[float]
) -> dict[Architecture, float]:
    if len(architectures) != len(latencies_ms):
        raise UsageError(f"{len(architectures)} architectures with {len(latencies_ms)} latencies: give one for each")
    samples: dict[Architecture, list[float]] = {}
    for architecture, latency_ms in zip(architectures, latencies_ms, strict=True):
        if not (math.isfinite(latency_ms) and latency_ms > 0):
            raise InvalidRecordError(f"{architecture} measured at {latency_ms} ms; measure it again")
        samples.setdefault(architecture, []).append(float(latency_ms))
    return {architecture: statistics.median(values) for architecture, values in samples.items()}
