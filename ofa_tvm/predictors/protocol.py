"""What the search asks of a predictor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.space.architecture import Architecture
from ofa_tvm.space.search_space import SearchSpace


class Predictor(Protocol):
    """Predicts one figure of a subnet: its accuracy as a fraction, or its latency in milliseconds."""

    @property
    def space(self) -> SearchSpace:
        """The search space whose architectures can be predicted."""

    def predict(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """One prediction for each architecture, shape (architectures,), the same for each call.

        Raises
        ------
        InvalidArchitectureError
            An architecture lies outside the space.
        """
