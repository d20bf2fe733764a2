"""The network inside the accuracy predictor, run in numpy.

The paper's predictor (Cai et al., "Once-for-All", section 3.4, and the official code): one-hot
features, three hidden layers of 400 units with ReLU, one output that is added to a base accuracy.
Several such networks, trained from different seeds, are averaged: with a few hundred records a
single one depends too much on its seed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from ofa_tvm.errors import InvalidRecordError

HIDDEN_LAYERS, HIDDEN_UNITS = 3, 400


@dataclass(frozen=True, slots=True, eq=False)
class AccuracyModel:
    """Maps one-hot features of shape (subnets, features) to accuracies.

    Attributes
    ----------
    base
        Accuracy that the networks' outputs are added to, as a fraction.
    weights, biases
        Of each layer, shapes (members, inputs, outputs) and (members, 1, outputs) float32.

    Raises
    ------
    InvalidRecordError
        On creation, if the shapes are not those of such networks, or a value is NaN or infinite.
    """

    base: float
    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]

    def __post_init__(self) -> None:
        members, features = self.weights[0].shape[:2] if self.weights and self.weights[0].ndim == 3 else (0, 0)
        widths = [features] + [HIDDEN_UNITS] * HIDDEN_LAYERS + [1]
        expected_weights = [(members, *pair) for pair in itertools.pairwise(widths)]
        expected_biases = [(members, 1, width) for width in widths[1:]]
        weights = [weight.shape for weight in self.weights]
        if members < 1 or weights != expected_weights or [bias.shape for bias in self.biases] != expected_biases:
            raise InvalidRecordError(f"weights of shapes {weights} are not those of an accuracy predictor")
        for name, values in (("base", np.asarray(self.base)), *self._tensors().items()):
            if not np.isfinite(values).all():
                raise InvalidRecordError(f"{name} holds NaN or infinity")

    @property
    def features(self) -> int:
        """Number of features."""
        return int(self.weights[0].shape[1])

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Accuracies as fractions, shape (subnets,)."""
        hidden = features[None]
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.maximum(hidden @ weight + bias, np.float32(0))
        outputs = (hidden @ self.weights[-1] + self.biases[-1])[:, :, 0]
        return np.asarray(np.clip(self.base + outputs.mean(axis=0, dtype=np.float64), 0.0, 1.0), dtype=np.float64)

    def to_safetensors(self) -> bytes:
        """Weights and biases as a safetensors file."""
        contiguous = {name: np.ascontiguousarray(value) for name, value in self._tensors().items()}
        return bytes(safetensors.numpy.save(contiguous))

    def _tensors(self) -> dict[str, NDArray[np.float32]]:
        tensors = {f"layers.{index}.weight": weight for index, weight in enumerate(self.weights)}
        return tensors | {f"layers.{index}.bias": bias for index, bias in enumerate(self.biases)}

    @classmethod
    def from_safetensors(cls, base: float, content: bytes) -> AccuracyModel:
        """Read what `to_safetensors` wrote.

        Raises
        ------
        InvalidRecordError
            The content is something else.
        """
        try:
            tensors = safetensors.numpy.load(content)
            layers = range(HIDDEN_LAYERS + 1)
            return cls(
                base,
                tuple(tensors[f"layers.{index}.weight"] for index in layers),
                tuple(tensors[f"layers.{index}.bias"] for index in layers),
            )
        except (KeyError, SafetensorError) as error:
            raise InvalidRecordError(f"not the weights of an accuracy predictor: {error}") from error
