"""Predicted latencies that heed what was measured of the subnet itself, or of others much like it.

A search ends where it expects the most, so its errors lie on one side and are alike among neighbours; a regression
over the whole space smooths them away. Here each measured subnet's error counts for those that differ from it in few
choices, and is nothing a little farther off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.predictors.protocol import Predictor
from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.encoding import one_hot
from ofa_tvm.space.search_space import SearchSpace

_NEAR = 0.1
"""Share of choices that differ at which another subnet's error counts about a third (1/e)."""

_DOUBT = 0.25
"""Weight of having no error at all, against 1 of a measured twin's."""


class NearbyLatencies:
    """A latency predictor, corrected by measurements.

    Parameters
    ----------
    measured_ms
        Latencies of subnets of the predictor's space; each is its own prediction.
    """

    def __init__(self, predictor: Predictor, measured_ms: Mapping[Architecture, float]) -> None:
        self._predictor = predictor
        self._measured_ms = dict(measured_ms)
        self._known = list(measured_ms)
        self._choices = one_hot(self.space, self._known) if self._known else np.empty((0, 0), np.float32)
        predicted_ms = predictor.predict(self._known)
        self._errors = np.log(np.array(list(measured_ms.values()), dtype=np.float64) / predicted_ms)

    @property
    def space(self) -> SearchSpace:
        """The predictor's."""
        return self._predictor.space

    def predict(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Latency of each subnet in milliseconds, shape (architectures,): measured, or predicted and corrected.

        Raises
        ------
        InvalidArchitectureError
            An architecture lies outside the space.
        """
        predicted_ms = self._predictor.predict(architectures)
        if not architectures or not self._known:
            return predicted_ms
        weights = np.exp(-self._distances(architectures) / _NEAR)
        corrected_ms = predicted_ms * np.exp(weights @ self._errors / (weights.sum(axis=1) + _DOUBT))
        pairs = zip(architectures, corrected_ms, strict=True)
        return np.array([self._measured_ms.get(a, latency_ms) for a, latency_ms in pairs], dtype=np.float64)

    def _distances(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """Share of choices in which subnets differ from those measured, shape (architectures, measured)."""
        asked = one_hot(self.space, architectures)
        alike = (asked @ self._choices.T).astype(np.float64)
        choices = np.maximum(asked.sum(axis=1)[:, None], self._choices.sum(axis=1)[None, :])
        return np.asarray(1 - alike / choices, dtype=np.float64)
